//! Flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use sallyport_event_store::ClickHouseArgs;

/// Runs the control API on a directory of manifests, or on a Kubernetes API server, and an event store.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address of the API.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Directory of manifests; grants and sessions are written to it.
    #[arg(long, env = "SALLYPORT_CONFIG", required_unless_present = "kubernetes")]
    pub config: Option<PathBuf>,
    /// Servers, grants and sessions are those of a Kubernetes API server: of the cluster that this runs in, or of the
    /// current kubeconfig.
    #[arg(long, env = "SALLYPORT_KUBERNETES", conflicts_with = "config")]
    pub kubernetes: bool,
    /// File of the embedded event store, read only.
    #[arg(long, required_unless_present = "url", conflicts_with = "url")]
    pub db: Option<PathBuf>,
    /// Events are read from ClickHouse; a user who may `SELECT` from `mcp` and no more is enough.
    #[command(flatten)]
    pub clickhouse: ClickHouseArgs,
    /// Base URL of the control plane's health and status.
    #[arg(long, default_value = "http://127.0.0.1:18002")]
    pub operator: String,
    /// Base URL of the audit ingest's health.
    #[arg(long, default_value = "http://127.0.0.1:18003")]
    pub ingest: String,
    /// File of API keys, one per line; `#` begins a comment. Keys in `SALLYPORT_API_KEYS` (comma separated) count too.
    #[arg(long)]
    pub api_keys_file: Option<PathBuf>,
    /// Secret of the own namespace whose entry `keys` has API keys, as a file would; where it is empty, a new key is put
    /// there.
    #[arg(long, requires = "kubernetes")]
    pub api_keys_secret: Option<String>,
    /// Address of health and metrics; none: metrics are not served.
    #[arg(long)]
    pub admin: Option<SocketAddr>,
    /// Name of the cluster, as the control plane has it.
    #[arg(long, default_value = "local")]
    pub cluster_name: String,
}

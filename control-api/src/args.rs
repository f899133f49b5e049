//! Flags.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Runs the control API on a directory of manifests.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Directory of manifests.
    #[arg(long, env = "SALLYPORT_CONFIG")]
    pub config: PathBuf,
    /// File of the event store.
    #[arg(long)]
    pub db: PathBuf,
    /// Status address of the control plane.
    #[arg(long, default_value = "http://127.0.0.1:18002")]
    pub operator: String,
    /// Status address of the ingest.
    #[arg(long, default_value = "http://127.0.0.1:18003")]
    pub ingest: String,
    /// File with API keys, one per line; lines that begin with # are passed over.
    #[arg(long)]
    pub api_keys_file: Option<PathBuf>,
}

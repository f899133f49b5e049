//! Flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Runs the control plane on a directory of manifests.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory of manifests, watched.
    #[arg(long, env = "SALLYPORT_CONFIG")]
    pub config: PathBuf,
    /// Address of the xDS server.
    #[arg(long, default_value = "127.0.0.1:18000")]
    pub listen: SocketAddr,
    /// Address of health, metrics and status.
    #[arg(long, default_value = "127.0.0.1:18002")]
    pub admin: SocketAddr,
    /// Folder with tls.crt and tls.key; read anew when they change.
    #[arg(long)]
    pub tls_dir: PathBuf,
    /// File of proxy names by token digest.
    #[arg(long)]
    pub tokens: PathBuf,
    /// The filter's module, as the proxy finds it.
    #[arg(long)]
    pub wasm: PathBuf,
    /// Address that proxies listen on for MCP.
    #[arg(long, default_value = "127.0.0.1:8091")]
    pub gateway_listen: SocketAddr,
    /// Name of the proxy that is configured; the name behind its token.
    #[arg(long, default_value = "standalone")]
    pub proxy: String,
    /// Name of the cluster in events.
    #[arg(long, default_value = "local")]
    pub cluster_name: String,
    /// File with the key of argument digests.
    #[arg(long)]
    pub digest_key_file: Option<PathBuf>,
    /// How long a proxy goes on with its filter configuration while the control plane is silent, in seconds; after
    /// that it denies everything until the control plane is back. 0: for ever.
    #[arg(long, env = "SALLYPORT_ECDS_TTL", default_value = "3600", value_parser = seconds)]
    pub ecds_ttl: Duration,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

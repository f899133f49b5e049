//! Flags.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use crate::render::RenderArgs;
use crate::status::StatusArgs;

/// Runs the control plane: on a directory of manifests, or in a Kubernetes cluster.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory of manifests, watched.
    #[arg(
        long,
        env = "SALLYPORT_CONFIG",
        required_unless_present = "kubernetes",
        conflicts_with = "kubernetes"
    )]
    pub config: Option<PathBuf>,
    /// Take the resources of a Kubernetes cluster: of the one that KUBECONFIG names, else of the one around this pod.
    #[arg(long, env = "SALLYPORT_KUBERNETES")]
    pub kubernetes: bool,
    /// How the cluster is reached; by default as the environment says, which may be KUBECONFIG or the pod's own account.
    #[arg(long, requires = "kubernetes")]
    pub kubeconfig: Option<PathBuf>,
    /// Address of the xDS server.
    #[arg(long, default_value = "127.0.0.1:18000")]
    pub listen: SocketAddr,
    /// Address of health, metrics and status.
    #[arg(long, default_value = "127.0.0.1:18002")]
    pub admin: SocketAddr,
    /// Offer profiles of CPU and memory at the admin port, below /debug/pprof.
    #[arg(long, env = "SALLYPORT_PROFILING")]
    pub profiling: bool,
    /// Address of the admission webhook.
    #[arg(long, env = "SALLYPORT_WEBHOOK", default_value = "127.0.0.1:9443")]
    pub webhook: SocketAddr,
    /// Folder with tls.crt and tls.key; read anew when they change.
    #[arg(long, env = "SALLYPORT_TLS_DIR")]
    pub tls_dir: Option<PathBuf>,
    /// File of proxy names by token digest.
    #[arg(long, required_unless_present = "kubernetes")]
    pub tokens: Option<PathBuf>,
    /// The filter's module, as the proxy finds it.
    #[arg(long, required_unless_present = "kubernetes")]
    pub wasm: Option<PathBuf>,
    /// Address that proxies listen on for MCP. In Kubernetes each server names its own.
    #[arg(long, default_value = "127.0.0.1:8091")]
    pub gateway_listen: SocketAddr,
    /// Name of the proxy that is configured; the name behind its token.
    #[arg(long, default_value = "standalone")]
    pub proxy: String,
    /// Name of the cluster in events.
    #[arg(long, env = "MCP_CLUSTER_NAME", default_value = "local")]
    pub cluster_name: String,
    /// File with the key of argument digests. In Kubernetes, without it: the Secret sallyport-digest-key, which is made if it is
    /// missing.
    #[arg(long)]
    pub digest_key_file: Option<PathBuf>,
    /// How long a proxy goes on with its filter configuration while the control plane is silent, in seconds; after
    /// that it denies everything until the control plane is back. 0: for ever.
    #[arg(long, env = "SALLYPORT_ECDS_TTL", default_value = "3600", value_parser = seconds)]
    pub ecds_ttl: Duration,
    /// Namespace of the operator itself; by default that of its client.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: Option<String>,
    /// Address of this replica, by which it tells itself from the others.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: Option<IpAddr>,
    /// Name and admin port of all replicas, as host:port; by default the Service sallyport-operator-peers, where --pod-ip
    /// is given.
    #[arg(long, env = "SALLYPORT_PEERS")]
    pub peers: Option<String>,
    /// Filters of each gateway, which all must be connected before anything counts as enforced on it: one of each worker of
    /// Envoy, and one of its main thread.
    #[arg(long, default_value_t = sallyport_envoy::sidecar::FILTERS)]
    pub gateway_filters: usize,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "operator")]
    pub pod_name: String,
    /// What is told, and how long what ended is kept.
    #[command(flatten)]
    pub status: StatusArgs,
    /// What is rendered for every server.
    #[command(flatten)]
    pub render: RenderArgs,
}

impl Args {
    /// The key of argument digests in the file for it; none: there is no such file.
    pub(crate) fn digest_key(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let read =
            |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        self.digest_key_file.as_ref().map(read).transpose()
    }

    /// How long filter configurations count without a sign of life; none: for ever.
    pub(crate) fn ttl(&self) -> Option<Duration> {
        Some(self.ecds_ttl).filter(|ttl| !ttl.is_zero())
    }
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    const DOCS: &str = include_str!("../../docs/kubernetes.md");

    #[test]
    fn every_flag_is_documented_with_its_variable_and_default() {
        let command = Args::augment_args(clap::Command::new("operator"));
        for flag in command.get_arguments() {
            let long = flag.get_long().expect("a long name");
            let row = DOCS.lines().find(|line| line.starts_with(&format!("| `--{long}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/kubernetes.md has no row for --{long}"));
            let variable = flag.get_env().map(|variable| format!("`{}`", variable.display()));
            let takes_value = flag.get_action().takes_values();
            let defaults = flag.get_default_values().iter().filter(|_| takes_value);
            let defaults = defaults.map(|default| format!("`{}`", default.display()));
            for word in variable.into_iter().chain(defaults) {
                assert!(row.contains(&word), "the row of --{long} does not have {word}: {row}");
            }
        }
    }

    #[test]
    fn no_flag_is_documented_that_is_none() {
        let command = Args::augment_args(clap::Command::new("operator"));
        let known: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        let rows = DOCS.lines().filter_map(|line| line.strip_prefix("| `--")?.split_once("` |"));
        let mut rows = rows.map(|(flag, _)| flag).peekable();
        assert!(rows.peek().is_some());
        assert_eq!(rows.find(|flag| !known.contains(flag)), None);
    }
}

//! The API server's client.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// The API server must answer the connection by then.
const CONNECT: Duration = Duration::from_secs(5);

/// A client by the `kubeconfig` that is given; else as the environment says: `KUBECONFIG` or `~/.kube/config`, else the pod's
/// own service account.
///
/// # Errors
/// There is none of them, or it cannot be used. The API server is not asked: it may be down when we start.
pub(crate) async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let cannot = || format!("kubeconfig {} cannot be used", path.display());
            let kubeconfig = Kubeconfig::read_from(path).with_context(cannot)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(cannot)?
        }
        None => Config::infer()
            .await
            .context("no cluster: set KUBECONFIG, or run in a pod with a service account")?,
    };
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).context("the cluster's configuration cannot be used")
}

//! The API server's client.

use std::time::Duration;

use anyhow::Context;
use kube::{Client, Config};

/// The API server must answer the connection by then.
const CONNECT: Duration = Duration::from_secs(5);

/// A client as the environment says: `KUBECONFIG` or `~/.kube/config`, else the pod's own service account.
///
/// # Errors
/// There is neither, or it cannot be used. The API server is not asked: it may be down when we start.
pub(crate) async fn connect() -> anyhow::Result<Client> {
    let mut config = Config::infer()
        .await
        .context("no cluster: set KUBECONFIG, or run in a pod with a service account")?;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).context("the cluster's configuration cannot be used")
}

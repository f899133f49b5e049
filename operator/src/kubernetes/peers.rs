//! The other replicas: each knows the acknowledgements of the streams that it serves, and no others.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use tokio::net::lookup_host;

use crate::enforcement::{Answered, Asked};

/// A replica that is there connects at once.
const CONNECT: Duration = Duration::from_millis(500);
/// Time for an answer beyond what it is asked to wait.
const GRACE: Duration = Duration::from_secs(1);

/// The other replicas, by the name that resolves to all that are ready.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    /// As `host:port`.
    name: String,
    /// Our own address, which the name resolves to as well.
    own: Option<IpAddr>,
    http: reqwest::Client,
}

impl Peers {
    /// # Errors
    /// No client can be made.
    pub(crate) fn new(name: String, own: Option<IpAddr>) -> reqwest::Result<Self> {
        // A proxy of the environment is not meant for what runs beside us.
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).build()?;
        Ok(Self { name, own, http })
    }

    /// Asks all of them at once. Answers with what they said, and those that said nothing.
    pub(crate) async fn ask(&self, asked: &Asked) -> (Vec<Answered>, Vec<String>) {
        if asked.servers.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let answers =
            join_all(self.addresses().await.into_iter().map(|address| self.ask_one(address, asked)));
        let (mut said, mut silent) = (Vec::new(), Vec::new());
        for answer in answers.await {
            match answer {
                Ok(answer) => said.push(answer),
                Err((address, error)) => {
                    tracing::warn!(%address, %error, "replica does not answer");
                    silent.push(address.to_string());
                }
            }
        }
        (said, silent)
    }

    /// None where the name resolves to nothing: then no other one is ready.
    async fn addresses(&self) -> BTreeSet<SocketAddr> {
        let found = lookup_host(&self.name).await;
        let found = found.inspect_err(|error| tracing::debug!(name = self.name, %error, "no replicas found"));
        let others = |address: &SocketAddr| Some(address.ip()) != self.own;
        found.map(|addresses| addresses.filter(others).collect()).unwrap_or_default()
    }

    async fn ask_one(
        &self,
        address: SocketAddr,
        asked: &Asked,
    ) -> Result<Answered, (SocketAddr, reqwest::Error)> {
        let wait = Duration::from_millis(asked.timeout_ms).saturating_add(GRACE);
        let request =
            self.http.post(format!("http://{address}/v1/enforcement/batch")).timeout(wait).json(asked);
        let answer = async { request.send().await?.error_for_status()?.json().await };
        answer.await.map_err(|error| (address, error))
    }
}

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

/// The other replicas, by the name that resolves to all of them.
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
        let (mut said, mut silent) = (Vec::new(), Vec::new());
        let others = self.addresses().await.unwrap_or_else(|error| {
            tracing::warn!(name = self.name, %error, "replicas cannot be found");
            silent.push(self.name.clone());
            BTreeSet::new()
        });
        let answers = join_all(others.into_iter().map(|address| self.ask_one(address, asked)));
        for answer in answers.await {
            match answer {
                Ok(answer) => said.push(answer),
                // Its process is gone, or not there yet; either way nobody has a stream to it.
                Err((_, error)) if is_refused(&error) => {}
                Err((address, error)) => {
                    tracing::warn!(%address, %error, "replica does not answer");
                    silent.push(address.to_string());
                }
            }
        }
        (said, silent)
    }

    /// Where the others are. A name that does not resolve is an error, for we are behind it ourselves: whoever took it for
    /// "there are no others" would prove what nobody knows while DNS is away.
    async fn addresses(&self) -> std::io::Result<BTreeSet<SocketAddr>> {
        let found = lookup_host(&self.name).await?;
        Ok(found.filter(|address| Some(address.ip()) != self.own).collect())
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

/// Whether nothing listens there. A replica listens from its first moment on.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| error.downcast_ref().is_some_and(refused))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn asked() -> Asked {
        Asked { servers: [("ns/s".to_string(), Vec::new())].into(), timeout_ms: 0 }
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_silence_and_not_the_absence_of_others() {
        let peers = Peers::new("replicas.invalid:1".into(), None).unwrap();
        assert_eq!(peers.ask(&asked()).await, (Vec::new(), vec!["replicas.invalid:1".to_string()]));
    }

    #[tokio::test]
    async fn our_own_address_is_not_asked() {
        let peers = Peers::new("127.0.0.1:1".into(), Some(IpAddr::from([127, 0, 0, 1]))).unwrap();
        assert_eq!(peers.ask(&asked()).await, (Vec::new(), Vec::new()));
    }

    #[tokio::test]
    async fn where_nothing_listens_there_is_no_replica_and_one_that_hangs_up_is_silent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peers = Peers::new(address.to_string(), None).unwrap();
        let hanging_up = tokio::spawn(async move { drop(listener.accept().await) });
        assert_eq!(peers.ask(&asked()).await, (Vec::new(), vec![address.to_string()]));
        hanging_up.await.unwrap();
        assert_eq!(peers.ask(&asked()).await, (Vec::new(), Vec::new()));
    }
}

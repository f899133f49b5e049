//! The tonic adapter: authenticates a stream, then lets its [`Connection`] and the world talk.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use futures::Stream;
use sallyport_policy_proto::wire;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Status, Streaming};

use crate::connection::{Behind, Connection};
use crate::discovery::Discovery;
use crate::proxies::{Instance, Proxies};
use crate::world::{SharedWorld, World, types};

/// Responses that may wait for a slow subscriber.
const QUEUE: usize = 64;
/// A stream ends after this and is opened anew with the credential of the day; spread over a quarter of it.
const STREAM_LIFE: Duration = Duration::from_secs(3600);

/// A filter that owes an answer for so long is none any more: Envoy keeps the stream of a VM that has trapped open until the
/// next request reaches its worker. Filters answer within milliseconds.
const UNANSWERED: Duration = Duration::from_secs(10);
/// How often a silent connection is asked for a sign of life. With 10,000 of them that is half of what a settled operator does.
const KEEPALIVE: Duration = Duration::from_secs(45);
/// A proxy whose stream ended counts as one that may still enforce what it held, for so long.
const DEPARTED: Duration = Duration::from_secs(2);

/// A group of proxies: what they are served, and who of them is connected.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// What they are served.
    pub world: SharedWorld,
    /// Who is connected.
    pub proxies: Proxies,
}

/// What a bearer token opens.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Nothing: it is nobody's.
    Unknown,
    /// Nothing for now: nobody can say whose it is, and why.
    Unavailable(String),
    /// Nothing: it is this proxy's, for which there is no configuration.
    NotServed(String),
    /// What this proxy's target is served.
    Served(String, Target),
}

/// Tells what a bearer token opens. A proxy is who its credential says, whatever it calls itself.
pub trait Admit: Send + Sync + 'static {
    /// Judges a token.
    fn admit(&self, token: &str) -> impl Future<Output = Admission> + Send;
}

/// The aggregated discovery service.
pub struct Service<A> {
    admit: A,
    ttl: Option<Duration>,
    stream_life: Duration,
    streams: AtomicU64,
}

impl<A> std::fmt::Debug for Service<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl<A: Admit> Service<A> {
    /// Serves whom `admit` admits; `ttl`: how long filter configurations count without a sign of life.
    pub fn new(admit: A, ttl: Option<Duration>) -> Self {
        Self { admit, ttl, stream_life: STREAM_LIFE, streams: AtomicU64::new(0) }
    }

    /// The same, whose streams end after `life` at the latest, in place of an hour: then each must be admitted anew.
    #[must_use]
    pub fn with_stream_life(self, life: Duration) -> Self {
        Self { stream_life: life, ..self }
    }

    async fn check<T>(&self, request: &Request<T>) -> Result<(String, Target), Status> {
        let token = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| Status::unauthenticated("a bearer token is needed"))?;
        let peer = request.remote_addr();
        match self.admit.admit(token.trim()).await {
            Admission::Served(proxy, target) => Ok((proxy, target)),
            Admission::NotServed(proxy) => {
                tracing::warn!(?peer, proxy, "stream refused: nothing to serve");
                Err(Status::permission_denied("there is no configuration for this proxy"))
            }
            Admission::Unavailable(reason) => {
                tracing::warn!(?peer, reason, "stream refused: token cannot be judged now");
                Err(Status::unavailable("the token cannot be judged now; try again"))
            }
            Admission::Unknown => {
                tracing::warn!(?peer, "stream refused: unknown token");
                Err(Status::unauthenticated("the token belongs to no proxy"))
            }
        }
    }
}

/// Serves the connections of `incoming`, whose small messages must leave at once (`TCP_NODELAY`), until `shutdown` ends.
///
/// # Errors
/// The connections fail as a whole.
pub async fn serve<A: Admit, C>(
    incoming: impl Stream<Item = std::io::Result<C>>,
    service: Service<A>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(Discovery(Arc::new(service)))
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
}

/// Passes at `deadline`; without one, never.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn unboxed<T, E>(result: Result<Box<T>, Box<E>>) -> Result<T, E> {
    result.map(|response| *response).map_err(|status| *status)
}

/// What a stream is answered with.
pub(crate) type Responses = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

impl<A: Admit> Service<A> {
    /// Begins a stream.
    pub(crate) async fn subscribe(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Responses, Status> {
        let (proxy, target) = self.check(&request).await?;
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        let (responses, queue) = mpsc::channel(QUEUE);
        let stream = StreamTask {
            number,
            life: life(self.stream_life, number),
            target,
            connection: Connection::new(self.ttl),
            instance: Instance::new(proxy, SystemTime::now()),
            responses,
            unanswered: None,
        };
        tokio::spawn(stream.run(request.into_inner(), self.ttl));
        Ok(Box::pin(ReceiverStream::new(queue).map(unboxed)))
    }
}

/// How long the stream of this number may last.
fn life(longest: Duration, number: u64) -> Duration {
    let spread = u64::try_from(longest.as_millis() / 4).unwrap_or(u64::MAX).max(1);
    longest.saturating_sub(Duration::from_millis(number.wrapping_mul(97_000) % spread))
}

struct StreamTask {
    number: u64,
    /// It ends after this, and is due to authenticate anew.
    life: Duration,
    target: Target,
    connection: Connection,
    instance: Instance,
    /// Boxed: there are thousands of streams, and each has room for many responses from its beginning.
    responses: mpsc::Sender<Result<Box<DeltaDiscoveryResponse>, Box<Status>>>,
    /// Since when a filter owes an answer, and how many it had given then.
    unanswered: Option<(Instant, u64)>,
}

impl StreamTask {
    async fn run(mut self, requests: Streaming<DeltaDiscoveryRequest>, ttl: Option<Duration>) {
        let reason = self.converse(requests, ttl).await;
        let Self { number, target: Target { proxies, .. }, instance, responses, .. } = self;
        tracing::info!(proxy = instance.proxy, node = instance.node, reason, "stream ended");
        // The subscriber sees the end now, and comes anew.
        drop(responses);
        proxies.departed(number);
        tokio::time::sleep(DEPARTED).await;
        proxies.forget(number);
    }

    /// Serves until the stream ends; answers why.
    async fn converse(
        &mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        ttl: Option<Duration>,
    ) -> &'static str {
        let mut bell = self.target.world.bell();
        let beat = ttl.map_or(self.life, |ttl| ttl / 3).max(Duration::from_millis(10));
        let mut heartbeat = tokio::time::interval(beat);
        heartbeat.tick().await;
        let end = tokio::time::sleep(self.life);
        tokio::pin!(end);
        loop {
            let silent = self.unanswered.map(|(since, _)| since + UNANSWERED);
            let responses = tokio::select! {
                () = until(silent) => return "no answer from the filter",
                () = &mut end => return "due to authenticate anew",
                request = requests.next() => match request {
                    // What is rare or short is boxed: room for it would be set aside in each stream, always.
                    Some(Ok(request)) => Box::pin(self.requested(request)).await,
                    Some(Err(_)) => return "broken by the proxy",
                    None => return "closed by the proxy",
                },
                rung = bell.changed() => match rung {
                    Ok(()) => match Box::pin(self.look(Connection::on_change)).await {
                        Ok(responses) => responses,
                        Err(Behind) => return "too far behind",
                    },
                    Err(_) => return "nothing more to serve",
                },
                _ = heartbeat.tick() => self.look(Connection::heartbeat).await.into_iter().collect(),
            };
            // Before the sending, lest an answer be counted first.
            self.report();
            if let Some(too_old) = Box::pin(self.too_old()).await {
                let told = self.responses.send(Err(Box::new(too_old)));
                // Whoever does not take it sees the end of the stream all the same.
                let _ = timeout(UNANSWERED, told).await;
                return "the filter is too old";
            }
            for response in responses {
                let sending = timeout(UNANSWERED, self.responses.send(Ok(Box::new(response))));
                match Box::pin(sending).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return "closed by the proxy",
                    Err(_) => return "not taken by the proxy",
                }
            }
        }
    }

    /// Why this filter may not have what its target is served: it would overlook part of it.
    async fn too_old(&self) -> Option<Status> {
        let wire_version = self.instance.wire_version;
        if !self.connection.asks_for_access() || wire_version >= wire::VERSION {
            return None;
        }
        let needs = self.target.world.read(World::needs).await;
        (wire_version < needs).then(|| {
            Status::failed_precondition(format!(
                "the filter speaks wire version {wire_version}, and its configuration needs {needs}; use the gateway image of the control plane's version"
            ))
        })
    }

    async fn look<T>(&mut self, step: impl FnOnce(&mut Connection, &World) -> T) -> T {
        let connection = &mut self.connection;
        self.target.world.read(|world| step(connection, world)).await
    }

    async fn requested(&mut self, request: DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryResponse> {
        if let Some(node) = &request.node
            && self.instance.node.is_empty()
        {
            self.instance.node.clone_from(&node.id);
            let version = match &node.user_agent_version_type {
                Some(UserAgentVersionType::UserAgentVersion(version)) => version.as_str(),
                Some(UserAgentVersionType::UserAgentBuildVersion(_)) | None => "",
            };
            self.instance.wire_version = wire::of_filter(&node.user_agent_name, version);
            tracing::info!(proxy = self.instance.proxy, node = node.id, "stream opened");
        }
        if let Some(error) = &request.error_detail {
            tracing::warn!(
                proxy = self.instance.proxy,
                node = self.instance.node,
                type_url = request.type_url,
                reason = error.message,
                "response refused"
            );
        }
        self.look(|connection, world| connection.on_request(request, world)).await
    }

    fn report(&mut self) {
        let instance = &mut self.instance;
        instance.is_filter = self.connection.is_filter();
        instance.grants = self.connection.answered(types::GRANT);
        instance.sessions = self.connection.answered(types::SESSION);
        instance.configuration = self.connection.answered(types::EXTENSION);
        let (sent, acknowledgements, refusals) = self.connection.totals();
        (instance.sent, instance.acknowledgements) = (sent, acknowledgements);
        instance.refusals = refusals;
        instance.refused = self.connection.refused();
        self.target.proxies.update(self.number, instance);
        let answers = acknowledgements.saturating_add(refusals);
        let owes = self.connection.is_filter() && self.connection.awaits_answer();
        self.unanswered = match self.unanswered {
            Some(known) if owes && known.1 == answers => Some(known),
            Some(_) | None => owes.then(|| (Instant::now(), answers)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_ends_within_the_hour_and_not_all_at_once() {
        let lives: Vec<Duration> = (0..1000).map(|number| life(STREAM_LIFE, number)).collect();
        let within = Duration::from_secs(45 * 60)..=Duration::from_secs(60 * 60);
        assert!(lives.iter().all(|life| within.contains(life)), "{lives:?}");
        assert!(lives.iter().collect::<std::collections::BTreeSet<_>>().len() > 500);
    }
}

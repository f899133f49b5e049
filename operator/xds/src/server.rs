//! The tonic adapter: authenticates a stream, then lets its [`Connection`] and the world talk.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::connection::Connection;
use crate::proxies::{Instance, Proxies};
use crate::world::{SharedWorld, types};

/// Largest request, in bytes: a filter names all that it holds when it comes back.
const MAX_REQUEST: usize = 64 << 20;
/// Responses that may wait for a slow subscriber.
const QUEUE: usize = 64;
/// A stream ends after this and is opened anew with the credential of the day; spread over a quarter of it.
const STREAM_LIFE: Duration = Duration::from_secs(3600);

/// Tells which proxy a bearer token belongs to.
pub trait Authenticate: Send + Sync + 'static {
    /// The proxy's name; none: nobody's token.
    fn proxy(&self, token: &str) -> Option<String>;
}

/// The aggregated discovery service.
pub struct Service<A> {
    world: SharedWorld,
    proxies: Proxies,
    authenticate: Arc<A>,
    ttl: Option<Duration>,
    streams: AtomicU64,
}

impl<A> std::fmt::Debug for Service<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl<A: Authenticate> Service<A> {
    /// Serves `world` to whoever `authenticate` knows; `ttl`: how long filter configurations count without a sign of
    /// life.
    pub fn new(world: SharedWorld, proxies: Proxies, authenticate: A, ttl: Option<Duration>) -> Self {
        Self { world, proxies, authenticate: Arc::new(authenticate), ttl, streams: AtomicU64::new(0) }
    }
}

/// Serves until `shutdown` ends.
///
/// # Errors
/// The address is taken, or TLS cannot be set up.
pub async fn serve<A: Authenticate>(
    address: SocketAddr,
    service: Service<A>,
    tls: ServerTlsConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let service = AggregatedDiscoveryServiceServer::new(service).max_decoding_message_size(MAX_REQUEST);
    Server::builder()
        .tls_config(tls)?
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(service)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown)
        .await?;
    Ok(())
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<A: Authenticate> AggregatedDiscoveryService for Service<A> {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("use the incremental protocol: api_type DELTA_GRPC"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let token = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| Status::unauthenticated("a bearer token is needed"))?;
        let proxy = self.authenticate.proxy(token.trim()).ok_or_else(|| {
            tracing::warn!(peer = ?request.remote_addr(), "stream refused: unknown token");
            Status::unauthenticated("the token belongs to no proxy")
        })?;
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        let (responses, queue) = mpsc::channel(QUEUE);
        let stream = StreamTask {
            number,
            world: self.world.clone(),
            proxies: self.proxies.clone(),
            connection: Connection::new(self.ttl),
            instance: Instance {
                proxy,
                node: String::new(),
                is_filter: false,
                connected_at: SystemTime::now(),
                grants: 0,
                sessions: 0,
                refusals: 0,
                last_refusal: None,
            },
            responses,
        };
        tokio::spawn(stream.run(request.into_inner(), self.ttl));
        Ok(Response::new(Box::pin(ReceiverStream::new(queue))))
    }
}

struct StreamTask {
    number: u64,
    world: SharedWorld,
    proxies: Proxies,
    connection: Connection,
    instance: Instance,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
}

impl StreamTask {
    async fn run(mut self, mut requests: Streaming<DeltaDiscoveryRequest>, ttl: Option<Duration>) {
        let mut bell = self.world.bell();
        let beat = ttl.map_or(STREAM_LIFE, |ttl| ttl / 3).max(Duration::from_millis(10));
        let mut heartbeat = tokio::time::interval(beat);
        heartbeat.tick().await;
        let spread = Duration::from_secs(self.number.wrapping_mul(97) % (STREAM_LIFE.as_secs() / 4));
        let end = tokio::time::sleep(STREAM_LIFE - spread);
        tokio::pin!(end);
        loop {
            let responses = tokio::select! {
                () = &mut end => break,
                request = requests.next() => match request {
                    Some(Ok(request)) => self.requested(request).await,
                    Some(Err(_)) | None => break,
                },
                rung = bell.changed() => match rung {
                    Ok(()) => {
                        let connection = &mut self.connection;
                        self.world.read(|world| connection.on_change(world)).await
                    }
                    Err(_) => break,
                },
                _ = heartbeat.tick() => {
                    let connection = &mut self.connection;
                    self.world.read(|world| connection.heartbeat(world)).await.into_iter().collect()
                }
            };
            for response in responses {
                if self.responses.send(Ok(response)).await.is_err() {
                    self.proxies.set(self.number, None);
                    return;
                }
            }
            self.report();
        }
        tracing::info!(proxy = self.instance.proxy, node = self.instance.node, "stream ended");
        self.proxies.set(self.number, None);
    }

    async fn requested(&mut self, request: DeltaDiscoveryRequest) -> Vec<DeltaDiscoveryResponse> {
        if let Some(node) = &request.node
            && self.instance.node.is_empty()
        {
            self.instance.node.clone_from(&node.id);
            tracing::info!(proxy = self.instance.proxy, node = node.id, "stream opened");
        }
        if let Some(error) = &request.error_detail {
            tracing::warn!(
                proxy = self.instance.proxy, node = self.instance.node, type_url = request.type_url,
                reason = error.message, "response refused"
            );
        }
        let connection = &mut self.connection;
        self.world.read(|world| connection.on_request(request, world)).await
    }

    fn report(&mut self) {
        self.instance.is_filter = self.connection.is_filter();
        self.instance.grants = self.connection.acknowledged(types::GRANT);
        self.instance.sessions = self.connection.acknowledged(types::SESSION);
        (self.instance.refusals, self.instance.last_refusal) = self.connection.refusals();
        self.proxies.set(self.number, Some(self.instance.clone()));
    }
}

//! Many proxies as the control plane sees them, in one process: each a TLS connection of its own, with its own token, Envoy's
//! stream and a filter's stream on it. They acknowledge everything, and tell when what reached them.
//!
//! `proxies CONNECT SERVER_NAME CA_FILE TOKENS_FILE` reads lines of `proxy<TAB>token` and prints a JSON object per line:
//! `{"at", "connected", "complete", "updates"}` each second, and `{"at", "proxy", "name", "removed"}` for each grant or session
//! that reaches a complete proxy. Times are seconds since 1970.
#![expect(clippy::print_stdout, reason = "its output is the result")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use sallyport_operator_xds::types;
use sallyport_policy_proto::wire;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Handshakes under way at once: as many proxies would not start in the same millisecond.
const HANDSHAKES: usize = 64;
/// Pause before another attempt.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    complete: AtomicU64,
    updates: AtomicU64,
}

#[derive(Debug)]
struct Proxy {
    name: String,
    token: String,
    endpoint: Endpoint,
    counts: Arc<Counts>,
    handshakes: Arc<Semaphore>,
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn subscribe(type_url: &str, name: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: name.map(|id| Node {
            id: id.into(),
            user_agent_name: wire::FILTER.into(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(wire::VERSION.to_string())),
            ..Node::default()
        }),
        type_url: type_url.into(),
        resource_names_subscribe: vec!["*".into()],
        ..DeltaDiscoveryRequest::default()
    }
}

fn acknowledge(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    }
}

impl Proxy {
    async fn run(self) {
        loop {
            // What ended it is the control plane's to tell; a proxy just comes back.
            let _ = self.live().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn live(&self) -> Result<(), Failure> {
        let permit = self.handshakes.acquire().await?;
        let channel = self.endpoint.connect().await?;
        drop(permit);
        self.counts.connected.fetch_add(1, Ordering::Relaxed);
        let envoy = [types::CLUSTER, types::LISTENER, types::ROUTES, types::EXTENSION];
        let filter = [types::GRANT, types::SESSION, types::BASELINE];
        let ended = tokio::select! {
            ended = self.stream(channel.clone(), &envoy) => ended,
            ended = self.stream(channel, &filter) => ended,
        };
        self.counts.connected.fetch_sub(1, Ordering::Relaxed);
        ended
    }

    async fn stream(&self, channel: Channel, kinds: &[&str]) -> Result<(), Failure> {
        let (requests, queue) = mpsc::unbounded_channel();
        for (at, kind) in kinds.iter().enumerate() {
            requests.send(subscribe(kind, (at == 0).then_some(self.name.as_str())))?;
        }
        let mut request = Request::new(UnboundedReceiverStream::new(queue));
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        let client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let mut responses = { client }.delta_aggregated_resources(request).await?.into_inner();
        let mut complete = Complete { counts: &self.counts, is_complete: false };
        while let Some(response) = responses.next().await {
            let response = response?;
            requests.send(acknowledge(&response))?;
            if response.type_url == types::BASELINE {
                complete.reached();
            } else if complete.is_complete {
                self.tell(&response);
            }
        }
        Ok(())
    }

    fn tell(&self, response: &DeltaDiscoveryResponse) {
        let at = now();
        let names = response.resources.iter().map(|resource| (resource.name.as_str(), false));
        for (name, removed) in
            names.chain(response.removed_resources.iter().map(|name| (name.as_str(), true)))
        {
            self.counts.updates.fetch_add(1, Ordering::Relaxed);
            println!(
                "{{\"at\":{at:.6},\"proxy\":\"{}\",\"name\":\"{name}\",\"removed\":{removed}}}",
                self.name
            );
        }
    }
}

/// Counts a stream as complete for as long as it lives.
struct Complete<'a> {
    counts: &'a Counts,
    is_complete: bool,
}

impl Complete<'_> {
    fn reached(&mut self) {
        if !std::mem::replace(&mut self.is_complete, true) {
            self.counts.complete.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Complete<'_> {
    fn drop(&mut self) {
        if self.is_complete {
            self.counts.complete.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [connect, server_name, ca, tokens] = arguments.as_slice() else {
        return Err("usage: proxies CONNECT SERVER_NAME CA_FILE TOKENS_FILE".into());
    };
    let ca = Certificate::from_pem(std::fs::read(ca)?);
    let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name(server_name);
    let endpoint = Endpoint::from_shared(format!("https://{connect}"))?.tls_config(tls)?.tcp_nodelay(true);
    let (counts, handshakes) = (Arc::new(Counts::default()), Arc::new(Semaphore::new(HANDSHAKES)));
    for line in std::fs::read_to_string(tokens)?.lines() {
        let (name, token) = line.split_once('\t').ok_or("tokens are lines of proxy, tab, token")?;
        let (counts, handshakes) = (counts.clone(), handshakes.clone());
        let proxy =
            Proxy { name: name.into(), token: token.into(), endpoint: endpoint.clone(), counts, handshakes };
        tokio::spawn(proxy.run());
    }
    loop {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        println!(
            "{{\"at\":{:.3},\"connected\":{},\"complete\":{},\"updates\":{}}}",
            now(),
            count(&counts.connected),
            count(&counts.complete),
            count(&counts.updates)
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

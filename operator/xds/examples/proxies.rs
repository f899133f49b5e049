//! Many proxies as the control plane sees them, in one process: each a TLS connection of its own, with its own token, Envoy's
//! stream and a filter's stream on it. They acknowledge everything, and tell when what reached them.
//!
//! `proxies CONNECT SERVER_NAME CA_FILE TOKENS_FILE` reads lines of `proxy<TAB>token` and prints a JSON object per line:
//! `{"at", "connected", "complete", "updates", "failures"}` five times a second, `{"at", "proxy", "name"}` for each session that
//! reaches a complete proxy anew, and a failure's text where it is another than the one before. A proxy is complete when it
//! holds as many grants and sessions as its baseline says. Grants count as updates and are not told one by one: there are too
//! many. Times are seconds since 1970.
#![expect(clippy::print_stdout, reason = "its output is the result")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use sallyport_operator_xds::types;
use sallyport_policy_proto::{v1, wire};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Handshakes under way at once: as many proxies would not start in the same millisecond.
const HANDSHAKES: usize = 64;
/// Pauses before another attempt: the first, and the longest, as in the bootstrap of a real proxy.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// Time between two lines of counts.
const TELL: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    complete: AtomicU64,
    updates: AtomicU64,
    failures: AtomicU64,
    failure: Mutex<String>,
}

impl Counts {
    fn failed(&self, failure: &Failure) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let text = format!("{failure:?}");
        let mut last = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != text {
            println!("{{\"at\":{:.6},\"failure\":{text:?}}}", now());
            *last = text;
        }
    }
}

#[derive(Debug)]
struct Proxy {
    name: String,
    token: String,
    /// From 0 to 1, another one for each: they do not come back at one moment.
    share: f64,
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
        let [first, longest] = PAUSES;
        let mut pause = first;
        loop {
            let was_connected = match self.live().await {
                Ok(()) => true,
                Err(failure) => {
                    self.counts.failed(&failure);
                    false
                }
            };
            // What ends a stream is the control plane's to tell; a proxy just comes back.
            pause = if was_connected { first } else { (pause * 2).min(longest) };
            tokio::time::sleep(pause.mul_f64(self.share)).await;
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
        let mut held = v1::Baseline::default();
        while let Some(response) = responses.next().await {
            let response = response?;
            requests.send(acknowledge(&response))?;
            let number = u64::try_from(response.resources.len())?;
            match response.type_url.as_str() {
                types::BASELINE => {
                    let body = response.resources.first().and_then(|baseline| baseline.resource.as_ref());
                    let baseline = v1::Baseline::decode(body.ok_or("an empty baseline")?.value.as_slice())?;
                    if baseline != held {
                        return Err(format!("holds {held:?}, and should {baseline:?}").into());
                    }
                    complete.reached();
                }
                _ if complete.is_complete => self.tell(&response),
                types::GRANT => held.grants += number,
                types::SESSION => held.sessions += number,
                _ => {}
            }
        }
        Ok(())
    }

    fn tell(&self, response: &DeltaDiscoveryResponse) {
        let at = now();
        let changed = response.resources.iter().map(|resource| &resource.name);
        for name in changed.chain(&response.removed_resources) {
            self.counts.updates.fetch_add(1, Ordering::Relaxed);
            if response.type_url == types::SESSION {
                println!("{{\"at\":{at:.6},\"proxy\":\"{}\",\"name\":\"{name}\"}}", self.name);
            }
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
    let tokens = std::fs::read_to_string(tokens)?;
    let all = tokens.lines().count();
    for (number, line) in (1_u32..).zip(tokens.lines()) {
        let (name, token) = line.split_once('\t').ok_or("tokens are lines of proxy, tab, token")?;
        let (counts, handshakes) = (counts.clone(), handshakes.clone());
        let share = f64::from(number) / f64::from(u32::try_from(all)?);
        let (name, token) = (name.to_string(), token.to_string());
        let proxy = Proxy { name, token, share, endpoint: endpoint.clone(), counts, handshakes };
        tokio::spawn(proxy.run());
    }
    loop {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        println!(
            "{{\"at\":{:.3},\"connected\":{},\"complete\":{},\"updates\":{},\"failures\":{}}}",
            now(),
            count(&counts.connected),
            count(&counts.complete),
            count(&counts.updates),
            count(&counts.failures)
        );
        tokio::time::sleep(TELL).await;
    }
}

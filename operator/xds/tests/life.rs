//! A stream's life: it ends by itself, and the next one is admitted anew and has what there is.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use sallyport_operator_xds::{Admission, Admit, Service, Target, serve, types};
use sallyport_policy_proto::{discovery, wire};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Code, Request, Status, Streaming};

const LIFE: Duration = Duration::from_secs(1);
/// Everything happens within it, on a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(20);

/// Admits everybody while the token counts.
#[derive(Clone, Default)]
struct Door {
    target: Target,
    asked: Arc<AtomicUsize>,
    is_shut: Arc<AtomicBool>,
}

impl Admit for Door {
    async fn admit(&self, _: &str) -> Admission {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_shut.load(Ordering::SeqCst) {
            return Admission::Unknown;
        }
        Admission::Served("ns/pay-1".into(), self.target.clone())
    }
}

impl Door {
    async fn set(&self, session: &str, version: Option<&str>) {
        let body = version.map(|version| {
            let value = version.as_bytes().to_vec();
            (Any { type_url: types::SESSION.into(), value }, version.to_string())
        });
        self.target.world.change(|world| world.set(types::SESSION, session, body)).await;
    }
}

/// A filter's stream, and the sessions that it holds, with their versions.
struct Filter {
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    held: BTreeMap<String, String>,
}

impl Filter {
    /// Opens a stream, naming what is `held` from the one before.
    async fn open(address: SocketAddr, held: &BTreeMap<String, String>) -> Result<Self, Status> {
        let mut client =
            AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await.unwrap();
        let (requests, queue) = mpsc::unbounded_channel();
        for type_url in [types::SESSION, types::BASELINE] {
            let node = discovery::DeltaDiscoveryRequest {
                node: Some(wire::introduction("ns/pay-1/1/x")),
                type_url: type_url.into(),
                resource_names_subscribe: vec!["*".into()],
                ..Default::default()
            };
            let mut request = DeltaDiscoveryRequest::decode(node.encode_to_vec().as_slice()).unwrap();
            if type_url == types::SESSION {
                request.initial_resource_versions = held.clone().into_iter().collect();
            }
            requests.send(request).unwrap();
        }
        let mut request = Request::new(UnboundedReceiverStream::new(queue));
        request.metadata_mut().insert("authorization", "Bearer x".parse().unwrap());
        let responses = client.delta_aggregated_resources(request).await?.into_inner();
        Ok(Self { requests, responses, held: held.clone() })
    }

    /// Takes the next response: its type; none where the stream ended.
    async fn take(&mut self) -> Option<String> {
        let next = tokio::time::timeout(LIMIT, self.responses.message()).await.unwrap();
        let response = next.unwrap()?;
        for resource in response.resources.iter().filter(|_| response.type_url == types::SESSION) {
            self.held.insert(resource.name.clone(), resource.version.clone());
        }
        for name in &response.removed_resources {
            self.held.remove(name);
        }
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce,
            ..Default::default()
        };
        // The stream may have ended meanwhile.
        let _ = self.requests.send(answer);
        Some(response.type_url)
    }

    /// Takes everything up to the baseline: from then on it is complete.
    async fn synchronise(&mut self) {
        while self.take().await.unwrap() != types::BASELINE {}
    }

    async fn last(&mut self) {
        while self.take().await.is_some() {}
    }
}

fn sessions(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(name, version)| ((*name).to_string(), (*version).to_string())).collect()
}

async fn serve_with_life(door: Door) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Service::new(door, None).with_stream_life(LIFE);
    tokio::spawn(serve(TcpListenerStream::new(listener), service, std::future::pending()));
    address
}

#[tokio::test]
async fn a_stream_ends_by_itself_and_the_next_is_admitted_anew_with_all_that_changed_between() {
    let door = Door::default();
    door.set("ns/one", Some("1")).await;
    door.set("ns/two", Some("1")).await;
    let address = serve_with_life(door.clone()).await;
    let began = Instant::now();
    let mut first = Filter::open(address, &BTreeMap::new()).await.unwrap();
    first.synchronise().await;
    assert_eq!(first.held, sessions(&[("ns/one", "1"), ("ns/two", "1")]));
    first.last().await;
    assert!(began.elapsed() >= LIFE, "{:?}", began.elapsed());
    assert_eq!(door.asked.load(Ordering::SeqCst), 1);
    let ended = door.target.proxies.all().into_values().next().unwrap();
    assert!(!ended.is_connected, "{ended:?}: it counts as one that may still enforce what it held");
    // What happens between two streams is not lost: a change, a removal, and what is new.
    door.set("ns/one", Some("2")).await;
    door.set("ns/two", None).await;
    door.set("ns/three", Some("1")).await;
    let mut second = Filter::open(address, &first.held).await.unwrap();
    assert_eq!(door.asked.load(Ordering::SeqCst), 2, "it is asked again who this is");
    second.synchronise().await;
    assert_eq!(second.held, sessions(&[("ns/one", "2"), ("ns/three", "1")]));
}

#[tokio::test]
async fn a_token_that_went_bad_serves_to_the_end_of_the_streams_life_and_no_longer() {
    let door = Door::default();
    door.set("ns/one", Some("1")).await;
    let address = serve_with_life(door.clone()).await;
    let mut filter = Filter::open(address, &BTreeMap::new()).await.unwrap();
    door.is_shut.store(true, Ordering::SeqCst);
    filter.synchronise().await;
    filter.last().await;
    let refused = Filter::open(address, &filter.held).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(door.asked.load(Ordering::SeqCst), 2);
}

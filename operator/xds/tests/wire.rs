//! Filters of other wire versions than the control plane's own.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use prost::Message;
use sallyport_operator_ir::{Address, ProxyPlan};
use sallyport_operator_xds::{Admission, Admit, Service, Target, render, serve, types};
use sallyport_policy_proto::{discovery, wire};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Status};

struct Anybody(Target);

impl Admit for Anybody {
    async fn admit(&self, _: &str) -> Admission {
        Admission::Served("edge".into(), self.0.clone())
    }
}

/// The first subscription of a filter of version 1, byte for byte.
fn of_version_1() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../crates/policy-proto/testdata/wire/v1/subscribe_grants.hex"
    );
    let digits: Vec<u8> = std::fs::read(path).unwrap().into_iter().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// The first subscription of a filter of this version.
fn of_this_version() -> Vec<u8> {
    let request = discovery::DeltaDiscoveryRequest {
        node: Some(wire::introduction("edge/1/2")),
        type_url: types::GRANT.into(),
        resource_names_subscribe: vec!["*".into()],
        ..Default::default()
    };
    request.encode_to_vec()
}

/// What a control plane whose configuration needs `needs` answers to a filter's first request: the type of its response.
async fn answer(needs: u32, first: Vec<u8>) -> Result<String, Status> {
    let target = Target::default();
    let plan = ProxyPlan {
        listen: Address { host: "127.0.0.1".into(), port: 1 },
        filter_needs: needs,
        ..ProxyPlan::default()
    };
    target.world.change(|world| render::apply(&plan, world)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Service::new(Anybody(target), None);
    let serving = serve(TcpListenerStream::new(listener), service, std::future::pending());
    let asking = async {
        let mut client =
            AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await.unwrap();
        let first = DeltaDiscoveryRequest::decode(first.as_slice()).unwrap();
        let requests = futures::StreamExt::chain(tokio_stream::once(first), tokio_stream::pending());
        let mut request = Request::new(requests);
        request.metadata_mut().insert("authorization", "Bearer x".parse().unwrap());
        let mut responses = client.delta_aggregated_resources(request).await?.into_inner();
        Ok(responses.message().await?.unwrap().type_url)
    };
    tokio::select! {
        answer = asking => answer,
        _ = serving => Err(Status::internal("the server ended")),
    }
}

#[tokio::test]
async fn an_older_filter_is_served_what_it_understands() {
    assert_eq!(answer(1, of_version_1()).await.unwrap(), types::GRANT);
    assert_eq!(answer(wire::VERSION, of_this_version()).await.unwrap(), types::GRANT);
}

#[tokio::test]
async fn an_older_filter_gets_nothing_of_what_it_would_overlook_and_is_told_why() {
    let refused = answer(2, of_version_1()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("gateway image"), "{refused}");
}

//! A filter's stream, as its worker speaks it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use sallyport_policy_proto::resource::{BASELINE_TYPE, GRANT_TYPE, SESSION_TYPE};
use sallyport_policy_proto::wire;
use sallyport_runtime::tls;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, Streaming};

/// Everything here happens within it.
pub const LIMIT: Duration = Duration::from_secs(10);

async fn channel(folder: &Path, address: SocketAddr) -> Channel {
    let ca = Certificate::from_pem(std::fs::read(folder.join("ca.crt")).unwrap());
    let tls = ClientTlsConfig::new().ca_certificate(ca).domain_name(tls::SERVER_NAME);
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.unwrap()
}

/// A filter's stream.
pub struct Filter {
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    pub responses: Streaming<DeltaDiscoveryResponse>,
}

impl Filter {
    /// Opens a stream with a token to a control plane whose certificate lies in `folder`.
    pub async fn connect(folder: &Path, address: SocketAddr, token: Option<&str>) -> Result<Self, Status> {
        let channel = channel(folder, address).await;
        let (requests, queue) = mpsc::unbounded_channel();
        let mut request = Request::new(UnboundedReceiverStream::new(queue));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.delta_aggregated_resources(request).await?.into_inner();
        Ok(Self { requests, responses })
    }

    pub fn subscribe(&self, node: &str) {
        for type_url in [GRANT_TYPE, SESSION_TYPE, BASELINE_TYPE] {
            let request = DeltaDiscoveryRequest {
                node: Some(Node {
                    id: node.into(),
                    user_agent_name: wire::FILTER.into(),
                    user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(
                        wire::VERSION.to_string(),
                    )),
                    ..Default::default()
                }),
                type_url: type_url.into(),
                resource_names_subscribe: vec!["*".into()],
                ..Default::default()
            };
            self.requests.send(request).unwrap();
        }
    }

    pub async fn next(&mut self) -> DeltaDiscoveryResponse {
        self.next_within(LIMIT).await
    }

    pub async fn next_within(&mut self, limit: Duration) -> DeltaDiscoveryResponse {
        tokio::time::timeout(limit, self.responses.message())
            .await
            .expect("a response in time")
            .unwrap()
            .unwrap()
    }

    pub fn acknowledge(&self, response: &DeltaDiscoveryResponse) {
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..Default::default()
        };
        self.requests.send(request).unwrap();
    }

    /// Takes everything up to the baseline; the names of it.
    pub async fn synchronise(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let response = self.next().await;
            self.acknowledge(&response);
            if response.type_url == BASELINE_TYPE {
                return names;
            }
            names.extend(response.resources.into_iter().map(|resource| resource.name));
        }
    }
}

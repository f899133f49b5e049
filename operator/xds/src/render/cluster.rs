//! An upstream as a cluster.

use std::collections::HashMap;
use std::net::IpAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::{Address, DataSource, SocketAddress, TransportSocket};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, UpstreamTlsContext,
    subject_alt_name_matcher::SanType,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Duration;
use sallyport_operator_ir::{Address as Place, Upstream};

use super::any;

/// Certificate authorities of Debian-like systems.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";

pub(super) fn address(place: &Place) -> Address {
    Address {
        address: Some(AddressKind::SocketAddress(SocketAddress {
            address: place.host.clone(),
            port_specifier: Some(PortSpecifier::PortValue(u32::from(place.port))),
            ..Default::default()
        })),
    }
}

pub(super) fn render(upstream: &Upstream) -> Cluster {
    let is_ip = upstream.address.host.parse::<IpAddr>().is_ok();
    let discovery = if is_ip { DiscoveryType::Static } else { DiscoveryType::StrictDns };
    let endpoint = Endpoint { address: Some(address(&upstream.address)), ..Default::default() };
    Cluster {
        name: upstream.name.clone(),
        // Dots and slashes would split the name in statistics.
        alt_stat_name: upstream.name.replace(['/', '.'], "_"),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        connect_timeout: Some(Duration { seconds: 5, nanos: 0 }),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: upstream.name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![LbEndpoint {
                    host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        }),
        transport_socket: upstream.tls.as_deref().map(tls),
        typed_extension_protocol_options: HashMap::new(),
        ..Default::default()
    }
}

fn tls(name: &str) -> TransportSocket {
    let exact = StringMatcher { match_pattern: Some(MatchPattern::Exact(name.into())), ..Default::default() };
    let validation = CertificateValidationContext {
        trusted_ca: Some(DataSource { specifier: Some(Specifier::Filename(TRUSTED.into())), ..Default::default() }),
        match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
            san_type: SanType::Dns.into(),
            matcher: Some(exact),
            ..Default::default()
        }],
        ..Default::default()
    };
    let context = UpstreamTlsContext {
        sni: name.into(),
        common_tls_context: Some(CommonTlsContext {
            validation_context_type: Some(ValidationContextType::ValidationContext(validation)),
            ..Default::default()
        }),
        ..Default::default()
    };
    TransportSocket {
        name: "envoy.transport_sockets.tls".into(),
        config_type: Some(SocketConfig::TypedConfig(any(&context))),
    }
}

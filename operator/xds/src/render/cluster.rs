//! An upstream as a cluster.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType as SocketConfig;
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
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
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
        // `localhost` has two families, and a server mostly one.
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        connect_timeout: Some(Duration { seconds: 5, nanos: 0 }),
        circuit_breakers: Some(unbroken()),
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
        ..Default::default()
    }
}

/// Envoy's own limits (1,024) are below what a server's open streams may need.
fn unbroken() -> CircuitBreakers {
    let most = Some(UInt32Value { value: u32::MAX });
    let thresholds = Thresholds {
        max_connections: most,
        max_pending_requests: most,
        max_requests: most,
        ..Default::default()
    };
    CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

fn tls(name: &str) -> TransportSocket {
    let is_ip = name.parse::<IpAddr>().is_ok();
    let exact = StringMatcher { match_pattern: Some(MatchPattern::Exact(name.into())), ..Default::default() };
    let validation = CertificateValidationContext {
        trusted_ca: Some(DataSource {
            specifier: Some(Specifier::Filename(TRUSTED.into())),
            ..Default::default()
        }),
        match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
            san_type: if is_ip { SanType::IpAddress } else { SanType::Dns }.into(),
            matcher: Some(exact),
            ..Default::default()
        }],
        ..Default::default()
    };
    let context = UpstreamTlsContext {
        sni: if is_ip { String::new() } else { name.into() },
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

//! Bytes of older versions, read by this one.
//!
//! `testdata/wire/v1` and `v3` were written by these versions and are never written again; of version 2 there is no record.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use prost::Message;
use sallyport_policy::{AuditArguments, AuditOverload, AuthMode, Mode, Trust};
use sallyport_policy_proto::discovery::DeltaDiscoveryRequest;
use sallyport_policy_proto::{servers, v1, wire};

fn recorded(version: u32, name: &str) -> Vec<u8> {
    let path = format!("{}/testdata/wire/v{version}/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let digits: Vec<u8> = std::fs::read(path).unwrap().into_iter().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn a_configuration_of_version_1_means_what_it_meant() {
    let bytes = recorded(1, "filter_config");
    let config = v1::FilterConfig::decode(bytes.as_slice()).unwrap();
    assert_eq!((config.needs, wire::needed(&config), config.proxy.as_str()), (0, 1, "test"));
    assert_eq!(config.encode_to_vec(), bytes, "and is written as it was");
    let servers = servers(config);
    let [server] = servers.as_slice() else { panic!("one server") };
    assert_eq!(server.id.to_string(), "ns/server");
    assert_eq!(server.tools[0].required_trust, Trust::Low);
    assert!(server.session.required);
    assert_eq!(server.audit_arguments, AuditArguments::Digest);
}

#[test]
fn a_configuration_of_version_3_means_what_it_meant() {
    let bytes = recorded(3, "filter_config");
    let config = v1::FilterConfig::decode(bytes.as_slice()).unwrap();
    assert_eq!((config.needs, wire::needed(&config), config.proxy.as_str()), (3, 3, ""));
    assert_eq!(config.encode_to_vec(), bytes, "and is written as it was");
    let servers = servers(config);
    let [server] = servers.as_slice() else { panic!("one server") };
    assert_eq!(server.id.to_string(), "ns/server");
    assert_eq!(server.audit_arguments, AuditArguments::Redacted);
    assert_eq!(server.audit_redact, ["/card/number", "/items/*/secret"]);
    assert_eq!(server.audit_max_argument_bytes, 2048);
}

#[test]
fn a_filter_of_version_3_tells_so() {
    let request = DeltaDiscoveryRequest::decode(recorded(3, "subscribe_grants").as_slice()).unwrap();
    let node = request.node.unwrap();
    assert_eq!(wire::of_filter(&node.user_agent_name, &node.user_agent_version), 3);
}

/// Whoever makes another version records what it writes, before it is changed again.
#[test]
fn what_this_version_writes_is_recorded() {
    let folder = format!("{}/testdata/wire/v{}", env!("CARGO_MANIFEST_DIR"), wire::VERSION);
    for name in ["filter_config", "subscribe_grants"] {
        assert!(std::path::Path::new(&format!("{folder}/{name}.hex")).exists(), "{folder}/{name}.hex");
    }
}

#[test]
fn a_filter_of_version_1_is_known_by_not_telling() {
    let request = DeltaDiscoveryRequest::decode(recorded(1, "subscribe_grants").as_slice()).unwrap();
    let node = request.node.unwrap();
    assert_eq!(wire::of_filter(&node.user_agent_name, &node.user_agent_version), 1);
    assert_eq!(wire::of_filter(wire::FILTER, "7"), 7);
    assert_eq!(wire::of_filter(wire::FILTER, "x"), 1);
    assert_eq!(wire::of_filter("envoy", "7"), 1);
}

#[test]
fn what_an_older_writer_leaves_out_is_never_more_than_it_allowed() {
    let bare = v1::Server { namespace: "ns".into(), name: "server".into(), ..Default::default() };
    let config = v1::FilterConfig { servers: vec![bare], ..Default::default() };
    let servers = servers(config);
    assert_eq!(servers[0].mode, Mode::AllowList);
    assert!(!servers[0].default_allow);
    assert_eq!(servers[0].auth.mode, AuthMode::Header);
    assert_eq!(servers[0].audit_overload, AuditOverload::Deny);
}

#[test]
fn what_is_kept_of_arguments_needs_version_3_unless_it_is_the_digest() {
    let server = |arguments: v1::AuditArguments| v1::Server {
        audit_arguments: arguments.into(),
        ..Default::default()
    };
    let needed = |arguments| {
        let config =
            v1::FilterConfig { proxy: "edge".into(), servers: vec![server(arguments)], ..Default::default() };
        wire::needed(&config)
    };
    assert_eq!(needed(v1::AuditArguments::Unspecified), 1);
    assert_eq!(needed(v1::AuditArguments::Digest), 1);
    for more in [v1::AuditArguments::None, v1::AuditArguments::Redacted, v1::AuditArguments::Full] {
        assert_eq!(needed(more), 3, "{more:?}");
    }
}

#[test]
fn only_what_version_1_does_not_know_needs_version_2() {
    let named = v1::FilterConfig { proxy: "edge".into(), ..Default::default() };
    assert_eq!((wire::needed(&named), wire::needed(&v1::FilterConfig::default())), (1, 2));
}

//! Control planes of other versions than the filter's own.
//!
//! `crates/policy-proto/testdata/wire/v1` holds what a control plane of version 1 sent, byte for byte.

use sallyport_filter_core::ConfigFault;
use sallyport_policy_proto::{v1, wire};

use crate::proxy::{Proxy, ROOT, config, server};

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/policy-proto/testdata/wire/v1");

fn recorded(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(format!("{RECORDED}/{name}.hex")).expect("a recording");
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("a byte");
    digits.chunks(2).map(byte).collect()
}

#[test]
fn what_a_control_plane_of_version_1_says_is_enforced_as_it_was() {
    let mut proxy = Proxy::bare();
    proxy.worker.configure(ROOT, &recorded("filter_config"), &proxy.host).expect("understood");
    proxy.tick();
    proxy.call(1, "sess").denied(503, "state_syncing");
    for message in ["grants", "sessions", "baseline"] {
        proxy.told(&recorded(message));
    }
    assert!(proxy.requests().iter().all(|request| request.error_detail.is_none()));
    proxy.call(2, "sess").passed();
    proxy.call(3, "revoked").denied(401, "session_revoked");
    proxy.call(4, "other").denied(401, "session_not_found");
}

#[test]
fn a_configuration_for_newer_filters_is_refused_and_allows_nothing() {
    let newer = v1::FilterConfig { needs: wire::VERSION + 1, ..config(&[server()]) };
    let bytes = prost::Message::encode_to_vec(&newer);
    let mut fresh = Proxy::bare();
    let fault = fresh.worker.configure(ROOT, &bytes, &fresh.host).expect_err("newer");
    assert_eq!(fault, ConfigFault::Newer { needs: wire::VERSION + 1 });
    assert!(fault.to_string().contains("gateway image"), "{fault}");
    fresh.call(1, "sess").denied(503, "policy_unavailable");
    let mut ready = Proxy::ready();
    assert!(ready.worker.configure(2, &bytes, &ready.host).is_err());
    ready.call(1, "sess").passed();
}

#[test]
fn a_filter_tells_its_version_when_it_subscribes() {
    let proxy = Proxy::ready();
    let node = proxy.requests().remove(0).node.expect("an introduction");
    assert_eq!(wire::of_filter(&node.user_agent_name, &node.user_agent_version), wire::VERSION);
}

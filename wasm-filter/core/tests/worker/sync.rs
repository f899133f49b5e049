//! Configuration and state of the control plane.

use sallyport_policy::{Mode, ServerPolicy};
use sallyport_policy_proto::resource::{BASELINE_TYPE, GRANT_TYPE, SESSION_TYPE};

use crate::fake_host::HostCall;
use crate::proxy::{Proxy, ROOT, config, grant, of_session, response, server, session};

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const ANYBODY: [(&str, &str); 4] = [
    (":method", "POST"),
    (":path", "/server/mcp"),
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream"),
];

#[test]
fn without_a_configuration_everything_is_denied() {
    let mut proxy = Proxy::bare();
    proxy.call(1, "sess").denied(503, "policy_unavailable");
    proxy.request(2, &ANYBODY, LIST).denied(503, "policy_unavailable");
    assert_eq!(proxy.ready_probe(), (503, "policy_unavailable".into()));
    proxy.worker.configure(ROOT, &[], &proxy.host).expect("no bytes deny everything");
    proxy.call(3, "sess").denied(503, "policy_unavailable");
    proxy.tick();
    assert_eq!(proxy.gauge("sallyport_state_complete"), None, "a VM that serves nobody has no gauges");
}

#[test]
fn a_route_without_a_server_is_not_found() {
    let routed = ServerPolicy { route: "ns/server".into(), ..server() };
    let mut proxy = Proxy::ready_with(&config(&[routed]));
    *proxy.host.route.borrow_mut() = "ns/server".into();
    proxy.call(1, "sess").passed();
    *proxy.host.route.borrow_mut() = "ns/other".into();
    proxy.call(2, "sess").denied(404, "no_route");
}

#[test]
fn a_configuration_that_cannot_be_read_leaves_the_last_good_one() {
    let mut proxy = Proxy::ready();
    assert!(proxy.worker.configure(2, b"\xff\xff\xff", &proxy.host).is_err());
    proxy.call(1, "sess").passed();
    proxy.tick();
    assert_eq!(proxy.gauge("sallyport_state_complete"), Some(1), "ticks of the old context still count");
    assert!(proxy.host.closed.borrow().is_empty());
}

#[test]
fn until_the_baseline_is_complete_what_needs_state_is_denied() {
    let mut proxy = Proxy::connected(&config(&[server()]));
    proxy.call(1, "sess").denied(503, "state_syncing");
    proxy.request(2, &ANYBODY, LIST).passed();
    assert_eq!(proxy.ready_probe(), (503, "state_syncing".into()));
    proxy.told(&response(GRANT_TYPE, vec![], &[]));
    proxy.learn_session(&session("sess"));
    proxy.call(3, "sess").denied(503, "state_syncing");
    proxy.learn(&[grant()], &[session("sess")]);
    proxy.call(4, "sess").passed();
    assert_eq!(proxy.ready_probe(), (200, "ready".into()));
}

#[test]
fn observing_lets_pass_while_syncing_and_says_so() {
    let mut proxy = Proxy::connected(&config(&[ServerPolicy { mode: Mode::Observe, ..server() }]));
    proxy.call_and_end(1, "sess").passed();
    proxy.tick();
    assert_eq!(proxy.events()[0].would_deny, "state_syncing");
}

#[test]
fn every_response_is_acknowledged_by_its_nonce() {
    let mut proxy = Proxy::connected(&config(&[server()]));
    let subscribed: Vec<String> = proxy.requests().into_iter().map(|request| request.type_url).collect();
    assert_eq!(subscribed, [GRANT_TYPE, SESSION_TYPE, BASELINE_TYPE]);
    proxy.learn(&[grant()], &[session("sess")]);
    for (request, type_url) in proxy.requests()[3..].iter().zip([GRANT_TYPE, SESSION_TYPE, BASELINE_TYPE]) {
        assert_eq!((request.type_url.as_str(), request.response_nonce.as_str()), (type_url, "n1"));
        assert!(request.error_detail.is_none());
    }
}

#[test]
fn a_baseline_that_does_not_fit_forgets_everything_and_begins_anew() {
    let mut proxy = Proxy::ready();
    proxy.call(1, "sess").passed();
    let lost = proxy.stream();
    proxy.baseline(1, 2);
    assert_eq!(*proxy.host.closed.borrow(), [lost]);
    proxy.call(2, "sess").denied(503, "state_syncing");
    proxy.after_millis(200);
    proxy.tick();
    assert_ne!(proxy.stream(), lost);
    assert_eq!(
        (proxy.gauge("sallyport_sessions_held"), proxy.gauge("sallyport_grants_held")),
        (Some(0), Some(0))
    );
    let again = proxy.requests().split_off(6);
    assert!(again.iter().all(|request| request.initial_resource_versions.is_empty()), "{again:?}");
    proxy.learn(&[grant()], &[session("sess")]);
    proxy.call(3, "sess").passed();
}

#[test]
fn the_call_after_a_removal_or_revocation_is_denied() {
    let mut proxy = Proxy::ready();
    proxy.learn_session(&session("other"));
    proxy.call(1, "sess").passed();
    proxy.call(2, "other").passed();
    proxy.told(&response(SESSION_TYPE, vec![], &["ns/sess"]));
    proxy.call(3, "sess").denied(401, "session_not_found");
    let mut revoked = session("other");
    revoked.revoked = true;
    proxy.learn_session(&revoked);
    proxy.call(4, "other").denied(401, "session_revoked");
    proxy.told(&response(GRANT_TYPE, vec![], &["ns/grant"]));
    proxy.learn_session(&session("sess"));
    proxy.call(5, "sess").denied(403, "no_matching_grant");
}

#[test]
fn a_response_is_refused_as_a_whole_when_a_resource_of_it_is_bad() {
    let mut misnamed = of_session(&session("b"));
    misnamed.name = "ns/sess".into();
    let mut undecodable = of_session(&session("b"));
    undecodable.resource.as_mut().expect("it has one").value = vec![0xff];
    let mut empty = of_session(&session("b"));
    empty.resource = None;
    for bad in [misnamed, undecodable, empty] {
        let mut proxy = Proxy::ready();
        proxy.told(&response(SESSION_TYPE, vec![of_session(&session("a")), bad], &["ns/sess"]));
        let refusal = proxy.requests().pop().expect("an answer");
        assert_eq!((refusal.response_nonce.as_str(), refusal.error_detail.map(|e| e.code)), ("n1", Some(3)));
        proxy.call(1, "sess").passed();
        proxy.call(2, "a").denied(401, "session_not_found");
        proxy.tick();
        assert_eq!(proxy.counter("sallyport_state_refused"), 1);
    }
}

#[test]
fn what_is_held_stays_in_force_without_a_control_plane_and_is_resumed_from() {
    let mut proxy = Proxy::ready();
    let first = proxy.stream();
    proxy.worker.on_stream_closed(first, &proxy.host);
    proxy.call(1, "sess").passed();
    proxy.tick();
    assert_eq!(proxy.stream(), first, "the first pause is not over");
    proxy.after_millis(100);
    proxy.tick();
    assert_ne!(proxy.stream(), first);
    let resumed = proxy.requests().split_off(6);
    let versions = |at: usize| -> Vec<(String, String)> {
        resumed[at].initial_resource_versions.clone().into_iter().collect()
    };
    let wanted = |name: &str, version: String| vec![(name.to_string(), version)];
    assert_eq!(versions(0), wanted("ns/grant", sallyport_policy_proto::resource::grant(&grant()).1));
    assert_eq!(versions(1), wanted("ns/sess", of_session(&session("sess")).version));
    // Only what changed is told, and the baseline counts what was held along with it.
    proxy.learn_session(&session("new"));
    proxy.baseline(1, 2);
    proxy.call(2, "new").passed();
}

#[test]
fn a_message_that_cannot_be_read_ends_the_stream_and_keeps_what_is_held() {
    let mut proxy = Proxy::ready();
    let stream = proxy.stream();
    proxy.told(&[0xff; 9]);
    assert_eq!(*proxy.host.closed.borrow(), [stream]);
    proxy.call(1, "sess").passed();
}

#[test]
fn what_comes_on_a_stream_that_is_gone_changes_nothing() {
    let mut proxy = Proxy::ready();
    let stale = response(SESSION_TYPE, vec![], &["ns/sess"]);
    proxy.worker.on_stream_message(proxy.stream() + 100, &stale, &proxy.host);
    proxy.call(1, "sess").passed();
}

#[test]
fn pauses_between_attempts_to_connect_grow_and_wait_for_no_clock_that_is_set_back() {
    let mut proxy = Proxy::bare();
    proxy.configure(&config(&[server()]));
    proxy.fail(HostCall::OpenStream);
    proxy.tick();
    proxy.after_millis(100);
    proxy.tick();
    proxy.host.mend();
    proxy.clock_is_set_back_by_an_hour();
    proxy.tick();
    proxy.after_millis(150);
    proxy.tick();
    assert!(proxy.host.streams.borrow().is_empty(), "the second pause is twice the first");
    proxy.after_millis(50);
    proxy.tick();
    assert_eq!(proxy.host.streams.borrow().len(), 1);
}

#[test]
fn a_stream_on_which_nothing_can_be_sent_is_closed() {
    let mut proxy = Proxy::bare();
    proxy.configure(&config(&[server()]));
    proxy.fail(HostCall::Send);
    proxy.tick();
    assert_eq!(*proxy.host.closed.borrow(), [proxy.stream()]);
    let mut proxy = Proxy::ready();
    proxy.fail(HostCall::Send);
    proxy.learn_session(&session("new"));
    assert_eq!(*proxy.host.closed.borrow(), [proxy.stream()]);
}

#[test]
fn a_new_configuration_moves_the_stream_to_its_own_context_and_keeps_the_state() {
    let mut proxy = Proxy::ready();
    let old = proxy.stream();
    let bytes = prost::Message::encode_to_vec(&config(&[server()]));
    proxy.worker.configure(2, &bytes, &proxy.host).expect("a configuration");
    assert_eq!(*proxy.host.closed.borrow(), [old]);
    proxy.call(1, "sess").passed();
    proxy.tick();
    assert_eq!(proxy.stream(), old, "the old context's tick does nothing");
    proxy.worker.on_tick(2, &proxy.host);
    assert_ne!(proxy.stream(), old);
}

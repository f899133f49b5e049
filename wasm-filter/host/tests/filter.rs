//! The built filter, from outside: configuration, state and requests in; verdicts, records and acknowledgements out.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::sync::LazyLock;

use prost::Message;
use sallyport_audit_proto::chain::{Link, Verifier};
use sallyport_audit_proto::v1::{AuditEvent, Phase};
use sallyport_filter_host::{Count, End, Fate, Filter, Gateway, Request, sample};
use sallyport_policy::{ObjectId, ServerPolicy, Session};
use sallyport_policy_proto::discovery::{Any, DeltaDiscoveryResponse, Resource};
use sallyport_policy_proto::resource::SESSION_TYPE;

const TICK: u64 = 50_000_000;
const SECOND: u64 = 1_000_000_000;
const INTERNAL_FAILURE: u32 = 10;
const UNAVAILABLE: u32 = 14;

static FILTER: LazyLock<Filter> = LazyLock::new(|| Filter::built(Count::Callbacks).unwrap());

#[test]
fn until_its_state_is_complete_every_call_is_denied() {
    let mut gateway = mk_configured();
    assert_eq!(reason(&mut gateway, &mk_call()), "state_syncing");
    gateway.tick(TICK).unwrap();
    assert_eq!(gateway.proxy().open_stream().unwrap().sent.len(), 3, "one subscription of each type");
    gateway.send_grants(&[sample::grant(0)], &[]).unwrap();
    assert_eq!(reason(&mut gateway, &mk_call()), "state_syncing");
    gateway.send_sessions(&[mk_session()], &[]).unwrap();
    assert_eq!(reason(&mut gateway, &mk_call()), "state_syncing");
    assert_eq!(ready(&mut gateway), 503);
    gateway.send_baseline(1, 1).unwrap();
    assert_eq!(ready(&mut gateway), 200);
    let forwarded = forwarded(&mut gateway, &mk_call());
    assert!(forwarded.iter().any(|(name, _)| name == "x-mcp-human-id"), "{forwarded:?}");
}

#[test]
fn what_only_the_gateway_may_say_does_not_reach_the_upstream() {
    let mut gateway = mk_synced();
    let mut call = mk_call();
    for name in ["x-mcp-decision", "x-sallyport-verdict"] {
        call.headers.push((name.into(), "allow".into()));
    }
    let mut expected = call.headers.clone();
    expected.retain(|(name, _)| name != "x-mcp-decision" && name != "x-sallyport-verdict");
    assert_eq!(forwarded(&mut gateway, &call), expected);
}

#[test]
fn a_body_that_arrives_in_parts_is_judged_whole() {
    let mut gateway = mk_synced();
    let allowed = Request { body: sample::CALL.chunks(7).map(<[u8]>::to_vec).collect(), ..mk_call() };
    forwarded(&mut gateway, &allowed);
    // Each part alone would be harmless.
    let twice = [sample::CALL, sample::CALL].map(<[u8]>::to_vec).into();
    assert_eq!(reason(&mut gateway, &Request { body: twice, ..mk_call() }), "json_syntax");
}

#[test]
fn a_request_with_trailers_is_refused_although_the_proxy_would_let_it_go_on() {
    let mut gateway = mk_synced();
    for body in [vec![sample::CALL.to_vec()], Vec::new()] {
        let request = Request { body, end: End::Trailers, ..mk_call() };
        assert_eq!(reason(&mut gateway, &request), "trailers");
    }
    gateway.tick(TICK).unwrap();
    assert_eq!(gateway.batches().unwrap()[0].events.len(), 2);
}

#[test]
fn a_session_that_is_revoked_or_removed_denies_from_the_next_call_on() {
    let mut gateway = mk_synced();
    forwarded(&mut gateway, &mk_call());
    gateway.send_sessions(&[Session { revoked: true, ..mk_session() }], &[]).unwrap();
    assert_eq!(reason(&mut gateway, &mk_call()), "session_revoked");
    gateway.send_sessions(&[mk_session()], &[]).unwrap();
    forwarded(&mut gateway, &mk_call());
    gateway.send_sessions(&[], &["ns/sess-000000000"]).unwrap();
    assert_eq!(reason(&mut gateway, &mk_call()), "session_not_found");
    gateway.send_sessions(&[mk_session()], &[]).unwrap();
    gateway.send_grants(&[], &["ns/grant-0000000"]).unwrap();
    assert_eq!(reason(&mut gateway, &mk_call()), "no_matching_grant");
}

#[test]
fn an_open_exchange_is_cut_at_the_first_tick_after_its_session_is_revoked() {
    let mut gateway = mk_synced();
    let (open, fate, _) = gateway.begin(&mk_call()).unwrap();
    assert!(fate.is_forwarded());
    gateway.tick(TICK).unwrap();
    assert!(gateway.proxy().resets.is_empty());
    gateway.send_sessions(&[Session { revoked: true, ..mk_session() }], &[]).unwrap();
    gateway.tick(TICK).unwrap();
    assert_eq!(gateway.proxy().resets, [open]);
    gateway.end(open, 0, 0).unwrap();
    gateway.tick(TICK).unwrap();
    assert_eq!(gateway.proxy().metric("sallyport_streams_cut"), 1);
}

#[test]
fn a_configuration_that_cannot_be_read_leaves_the_one_before_in_force() {
    let mut gateway = mk_synced();
    let whole = sample::configuration(&[sample::server()]);
    for bad in [&b"\xff\xff\xff\xff"[..], &whole[..whole.len() / 2]] {
        assert!(!gateway.configure(bad).unwrap());
        forwarded(&mut gateway, &mk_call());
        let batches = gateway.batches().unwrap().len();
        gateway.tick(TICK).unwrap();
        assert_eq!(gateway.batches().unwrap().len(), batches + 1, "the old root context goes on ticking");
        gateway.answer_call(0).unwrap();
    }
}

#[test]
fn no_configuration_denies_everything() {
    let mut gateway = Gateway::start(&FILTER, sample::NOW_NANOS).unwrap();
    assert!(gateway.configure(&[]).unwrap());
    assert_eq!(reason(&mut gateway, &mk_call()), "policy_unavailable");
    gateway.tick(TICK).unwrap();
    assert!(gateway.proxy().streams.is_empty());
}

#[test]
fn state_and_records_outlive_a_new_configuration() {
    let mut gateway = mk_synced();
    forwarded(&mut gateway, &mk_call());
    gateway.tick(TICK).unwrap();
    let sent = gateway.batches().unwrap();
    assert_eq!(sent.len(), 1);
    // The call in flight ends with the root context that made it; whether it arrived is not known.
    assert!(gateway.configure(&sample::configuration(&[sample::server()])).unwrap());
    forwarded(&mut gateway, &mk_call());
    gateway.tick(TICK).unwrap();
    let again = gateway.batches().unwrap().pop().unwrap();
    assert_eq!(again.events[..1], sent[0].events[..]);
    let said = &gateway.proxy().open_stream().unwrap().sent;
    assert_eq!(said.len(), 3, "a stream of the new root context");
}

#[test]
fn a_stream_that_ends_leaves_what_was_learned_in_force_and_is_resumed_from_there() {
    let mut gateway = mk_synced();
    gateway.end_stream().unwrap();
    forwarded(&mut gateway, &mk_call());
    gateway.tick(SECOND).unwrap();
    assert_eq!(gateway.proxy().streams.len(), 2);
    let resumed = gateway.said().unwrap();
    let held = |index: usize| resumed[index].initial_resource_versions.keys().cloned().collect::<Vec<_>>();
    assert_eq!((held(0), held(1)), (vec!["ns/grant-0000000".into()], vec!["ns/sess-000000000".into()]));
    forwarded(&mut gateway, &mk_call());
}

#[test]
fn a_resource_that_cannot_be_read_is_refused_and_changes_nothing() {
    let mut gateway = mk_synced();
    let good = sallyport_policy_proto::resource::session(&Session { revoked: true, ..mk_session() });
    let resource = |name: &str, value: &[u8]| Resource {
        name: name.into(),
        version: good.1.clone(),
        resource: Some(Any { type_url: SESSION_TYPE.into(), value: value.to_vec() }),
    };
    let response = DeltaDiscoveryResponse {
        type_url: SESSION_TYPE.into(),
        resources: vec![resource("ns/sess-000000000", &good.0), resource("ns/other", b"\xff\xff")],
        ..DeltaDiscoveryResponse::default()
    };
    gateway.respond(response).unwrap();
    let said = gateway.said().unwrap().pop().unwrap();
    assert!(said.error_detail.is_some_and(|detail| detail.message.contains("ns/other")));
    forwarded(&mut gateway, &mk_call());
}

#[test]
fn a_state_that_differs_from_the_control_planes_is_forgotten_and_learned_anew() {
    let mut gateway = mk_synced();
    gateway.send_baseline(2, 1).unwrap();
    assert_eq!(reason(&mut gateway, &mk_call()), "state_syncing");
    assert!(gateway.proxy().open_stream().is_none());
    gateway.tick(SECOND).unwrap();
    let anew = gateway.said().unwrap();
    assert!(anew.iter().all(|request| request.initial_resource_versions.is_empty()));
    teach(&mut gateway);
    forwarded(&mut gateway, &mk_call());
}

#[test]
fn a_message_that_cannot_be_read_ends_the_stream_and_leaves_what_was_learned() {
    let mut gateway = mk_synced();
    gateway.stream_message(vec![0xff; 9]).unwrap();
    assert!(gateway.proxy().open_stream().is_none());
    forwarded(&mut gateway, &mk_call());
}

#[test]
fn a_host_call_that_fails_never_lets_a_request_pass_that_would_not_have() {
    let refused = Request { body: vec![b"{}".to_vec()], ..mk_call() };
    let calls = host_calls_made();
    assert!(calls.len() > 12, "{calls:?}");
    for name in calls {
        for status in [1, 2, 7, INTERNAL_FAILURE, 12] {
            let mut gateway = mk_synced();
            gateway.send_sessions(&[Session { revoked: true, ..mk_session() }], &[]).unwrap();
            gateway.proxy_mut().faults.insert(name, status);
            for request in [&mk_call(), &refused] {
                let traps = match gateway.exchange(request) {
                    Ok((fate, _)) => {
                        assert!(!fate.is_forwarded(), "{name} fails with {status}: {request:?}");
                        false
                    }
                    // The VM is gone, and the request with it.
                    Err(_) => true,
                };
                if traps {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_request_whose_headers_body_or_time_are_not_to_be_had_is_not_forwarded() {
    let mut gateway = mk_synced();
    let mut call = mk_call();
    call.headers.push(("x-mcp-decision".into(), "allow".into()));
    for name in [
        "proxy_get_header_map_pairs",
        "proxy_get_buffer_bytes",
        "proxy_get_property",
        "proxy_remove_header_map_value",
        "proxy_get_current_time_nanoseconds",
    ] {
        gateway.proxy_mut().faults.insert(name, INTERNAL_FAILURE);
        let (fate, _) = gateway.exchange(&call).unwrap();
        assert!(matches!(fate, Fate::Answered(_)), "{name}: {fate:?}");
        gateway.proxy_mut().faults.clear();
        forwarded(&mut gateway, &call);
    }
    // An answer that cannot be given is no leave to go on.
    gateway.send_sessions(&[], &["ns/sess-000000000"]).unwrap();
    gateway.proxy_mut().faults.insert("proxy_send_local_response", INTERNAL_FAILURE);
    assert_eq!(gateway.exchange(&call).unwrap().0, Fate::Held);
}

#[test]
fn a_host_that_shares_nothing_between_its_workers_stops_none_of_them() {
    let mut gateway = mk_configured();
    for name in ["proxy_get_shared_data", "proxy_set_shared_data"] {
        gateway.proxy_mut().faults.insert(name, INTERNAL_FAILURE);
    }
    gateway.tick(TICK).unwrap();
    teach(&mut gateway);
    forwarded(&mut gateway, &mk_call());
}

#[test]
fn a_batch_of_records_that_is_not_acknowledged_is_sent_again() {
    let mut gateway = mk_synced();
    forwarded(&mut gateway, &mk_call());
    gateway.tick(TICK).unwrap();
    let first = gateway.batches().unwrap();
    assert_eq!((first.len(), first[0].events.len()), (1, 1));
    gateway.tick(TICK).unwrap();
    assert_eq!(gateway.batches().unwrap().len(), 1, "one is in flight at a time");
    gateway.answer_call(UNAVAILABLE).unwrap();
    gateway.tick(SECOND).unwrap();
    let again = gateway.batches().unwrap();
    assert_eq!((again.len(), &again[1].events), (2, &first[0].events));
    gateway.answer_call(0).unwrap();
    gateway.tick(SECOND).unwrap();
    assert_eq!(gateway.batches().unwrap().len(), 2, "nothing is left to send");
    assert_eq!(gateway.proxy().metric("sallyport_audit_events_acknowledged"), 1);
    assert_eq!(gateway.proxy().metric("sallyport_audit_batches_failed"), 1);
}

#[test]
fn a_call_that_the_host_never_ends_is_taken_for_lost() {
    let mut gateway = mk_synced();
    forwarded(&mut gateway, &mk_call());
    gateway.tick(TICK).unwrap();
    gateway.tick(16 * SECOND).unwrap();
    gateway.tick(SECOND).unwrap();
    let batches = gateway.batches().unwrap();
    assert_eq!((batches.len(), &batches[0].events), (2, &batches[1].events));
}

#[test]
fn every_exchange_leaves_its_record_in_one_unbroken_chain() {
    let mut gateway = mk_synced();
    forwarded(&mut gateway, &mk_call());
    reason(&mut gateway, &Request { body: vec![b"nonsense".to_vec()], ..mk_call() });
    let (gone, fate, _) = gateway.begin(&Request { end: End::CutShort, ..mk_call() }).unwrap();
    assert_eq!(fate, Fate::Held);
    gateway.end(gone, 0, 0).unwrap();
    gateway.tick(TICK).unwrap();
    gateway.answer_call(0).unwrap();
    let (open, _, _) = gateway.begin(&mk_call()).unwrap();
    gateway.tick(TICK).unwrap();
    gateway.answer_call(0).unwrap();
    gateway.end(open, 200, 5).unwrap();
    gateway.tick(TICK).unwrap();
    let batches = gateway.batches().unwrap();
    let mut verifier = Verifier::begin(&batches[0].proxy, batches[0].worker, batches[0].epoch);
    let events: Vec<_> = batches.iter().flat_map(|batch| &batch.events).collect();
    let mut phases = Vec::new();
    for bytes in events {
        let event = AuditEvent::decode(bytes.as_slice()).unwrap();
        let link = verifier.take(event.seq, &event.prev_hash, event.dropped_before, bytes);
        assert_eq!(link, Link::Follows, "{event:?}");
        phases.push((event.phase(), event.allowed));
    }
    let whole = |allowed| (Phase::Complete, allowed);
    let parts = [(Phase::Decision, true), (Phase::Outcome, true)];
    assert_eq!(phases, [whole(true), whole(false), whole(false), parts[0], parts[1]]);
}

fn mk_session() -> Session {
    // One that ends, so that the time matters.
    let expires_at = Some(i64::try_from(sample::NOW_NANOS / SECOND).unwrap() + 3600);
    Session { expires_at, ..sample::session(0, 1) }
}

fn mk_call() -> Request {
    sample::request(0, 1, sample::CALL)
}

fn mk_configured() -> Gateway {
    let mut gateway = Gateway::start(&FILTER, sample::NOW_NANOS).unwrap();
    // Two servers, so that the route matters.
    let other =
        ServerPolicy { id: ObjectId::new("ns", "other"), route: "ns/other".into(), ..sample::server() };
    assert!(gateway.configure(&sample::configuration(&[sample::server(), other])).unwrap());
    gateway
}

fn mk_synced() -> Gateway {
    let mut gateway = mk_configured();
    gateway.tick(TICK).unwrap();
    teach(&mut gateway);
    gateway
}

fn teach(gateway: &mut Gateway) {
    gateway.send_grants(&[sample::grant(0)], &[]).unwrap();
    gateway.send_sessions(&[mk_session()], &[]).unwrap();
    gateway.send_baseline(1, 1).unwrap();
}

/// The headers with which the upstream gets `request`.
fn forwarded(gateway: &mut Gateway, request: &Request) -> Vec<(String, String)> {
    match gateway.exchange(request).unwrap().0 {
        Fate::Forwarded(headers) => headers,
        fate => panic!("not forwarded: {fate:?}"),
    }
}

/// The reason for which `request` is refused.
fn reason(gateway: &mut Gateway, request: &Request) -> String {
    let (fate, _) = gateway.exchange(request).unwrap();
    fate.reason().map(str::to_owned).unwrap_or_else(|| panic!("not refused: {fate:?}"))
}

/// The status of the readiness path.
fn ready(gateway: &mut Gateway) -> u32 {
    let headers = [(":path", "/.sallyport/ready"), (":method", "GET")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let (fate, _) = gateway.exchange(&Request { headers, ..Request::default() }).unwrap();
    fate.status().unwrap()
}

/// Every host call that the filter makes between its start and the end of some exchanges.
fn host_calls_made() -> Vec<&'static str> {
    let mut gateway = mk_synced();
    let mut call = mk_call();
    call.headers.push(("x-mcp-decision".into(), "allow".into()));
    forwarded(&mut gateway, &call);
    reason(&mut gateway, &Request { body: vec![b"{}".to_vec()], ..call });
    gateway.tick(TICK).unwrap();
    gateway.proxy().host_calls.keys().copied().collect()
}

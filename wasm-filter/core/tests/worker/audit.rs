//! The record: batches, their loss and repetition, overload, open exchanges.

use sallyport_audit_proto::chain::{Link, Verifier};
use sallyport_audit_proto::v1::{AuditEvent, Phase};
use sallyport_filter_core::host::Node;
use sallyport_policy::{AuditOverload, ServerPolicy, Session};
use sallyport_policy_proto::v1;

use crate::fake_host::HostCall;
use crate::proxy::{NOW, Proxy, config, grant, server, session};

/// A ring that is full after one or two events.
fn tight(audit_overload: AuditOverload) -> v1::FilterConfig {
    let server = ServerPolicy { audit_overload, ..server() };
    v1::FilterConfig { audit_ring_bytes: 32 * 1024 + 300, ..config(&[server]) }
}

fn seqs(events: &[AuditEvent]) -> Vec<u64> {
    events.iter().map(|event| event.seq).collect()
}

#[test]
fn events_form_a_chain_and_leave_the_ring_when_they_are_acknowledged() {
    let mut proxy = Proxy::ready();
    for exchange in 1..=3 {
        proxy.call_and_end(exchange, "sess").passed();
    }
    assert!(proxy.batches().is_empty(), "nothing goes before the tick");
    proxy.tick();
    let (_, batch) = proxy.batches().remove(0);
    let mut verifier = Verifier::begin(&batch.proxy, batch.worker, batch.epoch);
    let events = proxy.events();
    for (event, bytes) in events.iter().zip(&batch.events) {
        assert_eq!(verifier.take(event.seq, &event.prev_hash, event.dropped_before, bytes), Link::Follows);
        assert_eq!((event.phase(), event.status, event.tool_name.as_str()), (Phase::Complete, 200, "read"));
    }
    assert_eq!(seqs(&events), [1, 2, 3]);
    assert!(proxy.gauge("sallyport_audit_ring_bytes") > Some(0));
    proxy.answered(true);
    proxy.tick();
    assert_eq!(proxy.gauge("sallyport_audit_ring_bytes"), Some(0));
    assert_eq!(proxy.counter("sallyport_audit_events_acknowledged"), 3);
    assert_eq!(proxy.batches().len(), 1, "there is nothing more to send");
}

#[test]
fn a_worker_tells_what_it_has_given_out_with_each_batch_and_every_few_seconds_without() {
    let mut proxy = Proxy::ready();
    let told = |proxy: &Proxy| {
        let requests = proxy.requests_to_ingest();
        requests.iter().map(|(_, batch)| (batch.events.len(), batch.last_seq)).collect::<Vec<_>>()
    };
    assert_eq!(told(&proxy), [(0, 0)], "that it has begun");
    proxy.call_and_end(1, "sess").passed();
    proxy.tick();
    proxy.call_and_end(2, "sess").passed();
    proxy.call_and_end(3, "sess").passed();
    proxy.answered(false);
    proxy.after_millis(50);
    proxy.tick();
    assert_eq!(told(&proxy), [(0, 0), (1, 1), (3, 3)]);
    proxy.answered(true);
    proxy.after_millis(3999);
    proxy.tick();
    assert_eq!(told(&proxy).len(), 3);
    proxy.after_millis(1);
    proxy.tick();
    assert_eq!(told(&proxy)[3], (0, 3));
}

#[test]
fn a_clock_that_is_set_back_delays_neither_batches_nor_words() {
    let mut proxy = Proxy::ready();
    proxy.call_and_end(1, "sess").passed();
    proxy.tick();
    proxy.answered(false);
    proxy.clock_is_set_back_by_an_hour();
    proxy.tick();
    assert_eq!(proxy.batches().len(), 1, "the pause is not over");
    proxy.after_millis(50);
    proxy.tick();
    assert_eq!(proxy.batches().len(), 2, "sent again");
    proxy.clock_is_set_back_by_an_hour();
    proxy.tick();
    for _ in 0..2 {
        proxy.after_millis(15_001);
        proxy.tick();
    }
    assert_eq!(proxy.batches().len(), 3, "the call that nobody answers is given up");
    proxy.answered(true);
    proxy.clock_is_set_back_by_an_hour();
    proxy.tick();
    let words = proxy.requests_to_ingest().len();
    proxy.after_millis(4000);
    proxy.tick();
    assert_eq!(proxy.requests_to_ingest().len(), words + 1);
}

#[test]
fn one_batch_is_in_flight_at_a_time() {
    let mut proxy = Proxy::ready();
    proxy.call_and_end(1, "sess").passed();
    proxy.tick();
    proxy.call_and_end(2, "sess").passed();
    proxy.tick();
    assert_eq!(proxy.batches().len(), 1);
    proxy.answered(true);
    proxy.tick();
    assert_eq!(seqs(&proxy.events()), [2]);
}

#[test]
fn a_batch_that_is_not_acknowledged_is_sent_again_with_what_came_since() {
    let mut proxy = Proxy::ready();
    proxy.call_and_end(1, "sess").passed();
    proxy.tick();
    proxy.answered(false);
    proxy.call_and_end(2, "sess").passed();
    proxy.tick();
    assert_eq!(proxy.batches().len(), 1, "the pause is not over");
    proxy.after_millis(50);
    proxy.tick();
    assert_eq!(seqs(&proxy.events()), [1, 2]);
    assert_eq!(proxy.batches()[0].1.events[0], proxy.batches()[1].1.events[0], "the very same bytes");
    assert_eq!(proxy.counter("sallyport_audit_batches_failed"), 1);
}

#[test]
fn a_call_that_fails_at_once_or_is_never_answered_loses_nothing() {
    let mut proxy = Proxy::ready();
    proxy.call_and_end(1, "sess").passed();
    proxy.fail(HostCall::Call);
    proxy.tick();
    proxy.host.mend();
    proxy.after_millis(50);
    proxy.tick();
    assert_eq!(seqs(&proxy.events()), [1]);
    let (lost, _) = proxy.batches().remove(0);
    proxy.after_millis(15_001);
    proxy.tick();
    proxy.after_millis(100);
    proxy.tick();
    assert_eq!(proxy.batches().len(), 2);
    proxy.worker.on_call_ended(lost, true, &proxy.host);
    proxy.tick();
    assert_eq!(proxy.counter("sallyport_audit_events_acknowledged"), 0, "an answer that came too late");
    proxy.answered(true);
    proxy.tick();
    assert_eq!(proxy.counter("sallyport_audit_events_acknowledged"), 1);
}

#[test]
fn a_full_ring_denies_until_there_is_room() {
    let mut proxy = Proxy::ready_with(&tight(AuditOverload::Deny));
    let mut exchange = 1;
    while proxy.call_and_end(exchange, "sess").denial().is_none() {
        exchange += 1;
        assert!(exchange < 5, "the ring is never full");
    }
    proxy.call_and_end(exchange + 1, "sess").denied(503, "audit_unavailable");
    proxy.tick();
    proxy.answered(true);
    proxy.call_and_end(exchange + 2, "sess").passed();
}

#[test]
fn what_was_let_through_finds_room_however_many_are_open_and_refused_beside_it() {
    let mut proxy = Proxy::ready_with(&tight(AuditOverload::Deny));
    let mut open = Vec::new();
    for exchange in 1..=20 {
        if proxy.call(exchange, "sess").denial().is_none() {
            open.push(exchange);
        }
    }
    assert!((1..20).contains(&open.len()), "{} of 20 were let through", open.len());
    for exchange in (1..=20).rev() {
        proxy.end(exchange);
    }
    for exchange in 21..=30 {
        proxy.call_and_end(exchange, "nobody");
    }
    proxy.tick();
    let allowed = proxy.events().iter().filter(|event| event.allowed).count();
    assert_eq!(allowed, open.len(), "each verdict to allow has its event");
}

#[test]
fn a_full_ring_that_drops_lets_pass_and_shows_the_gap() {
    let mut proxy = Proxy::ready_with(&tight(AuditOverload::Drop));
    for exchange in 1..=6 {
        proxy.call_and_end(exchange, "sess").passed();
    }
    proxy.tick();
    let kept = proxy.events().len() as u64;
    let dropped = 6 - kept;
    assert!(kept >= 1 && dropped >= 1, "{kept} kept");
    assert_eq!(proxy.batches()[0].1.dropped_total, dropped);
    assert_eq!(proxy.counter("sallyport_audit_events_dropped"), dropped);
    proxy.answered(true);
    proxy.call_and_end(7, "sess").passed();
    proxy.tick();
    let [after] = &proxy.events()[..] else { panic!("one event is left") };
    assert_eq!((after.seq, after.dropped_before), (7, dropped));
}

#[test]
fn an_exchange_that_stays_open_is_told_of_twice() {
    let mut proxy = Proxy::ready();
    proxy.call(1, "sess").passed();
    proxy.tick();
    assert!(proxy.batches().is_empty(), "most exchanges end before anything must be told");
    proxy.after_millis(60);
    proxy.tick();
    let decision = proxy.events().remove(0);
    assert_eq!((decision.phase(), decision.allowed, decision.status), (Phase::Decision, true, 0));
    proxy.answered(true);
    proxy.end(1);
    proxy.tick();
    let outcome = proxy.events().remove(0);
    assert_eq!((outcome.phase(), outcome.decision_seq, outcome.status), (Phase::Outcome, decision.seq, 200));
    assert_ne!(outcome.event_id, decision.event_id);
}

#[test]
fn a_request_that_ends_before_it_is_whole_is_recorded_as_refused() {
    for (status, reason) in [(0, "incomplete"), (413, "body_too_large")] {
        let mut proxy = Proxy::ready();
        proxy.call_and_end(1, "sess").passed();
        proxy.host.response_code.set(status);
        proxy.end(2);
        proxy.tick();
        let event = proxy.events().remove(1);
        assert_eq!((event.allowed, event.reason.as_str(), event.status), (false, reason, status));
    }
}

#[test]
fn what_is_open_is_cut_on_the_tick_after_its_subject_lost_access() {
    let mut proxy = Proxy::ready();
    proxy.learn_session(&session("other"));
    proxy.call(1, "sess").passed();
    proxy.call(2, "other").passed();
    proxy.call(3, "forged").denied(401, "session_not_found");
    proxy.tick();
    assert!(proxy.host.resets.borrow().is_empty());
    proxy.learn_session(&Session { revoked: true, ..session("sess") });
    assert!(proxy.host.resets.borrow().is_empty(), "the tick does it");
    proxy.tick();
    assert_eq!(*proxy.host.resets.borrow(), [1]);
    proxy.after_millis(2000);
    proxy.tick();
    assert_eq!(*proxy.host.resets.borrow(), [1], "once");
    assert_eq!(proxy.counter("sallyport_streams_cut"), 1);
    proxy.answered(true);
    proxy.end(1);
    proxy.tick();
    assert!(proxy.events().pop().expect("the outcome").cut);
}

#[test]
fn what_is_open_is_cut_within_a_second_of_its_sessions_end() {
    let mut proxy = Proxy::ready();
    proxy.learn_session(&Session { expires_at: Some(NOW + 10), ..session("brief") });
    proxy.call(1, "brief").passed();
    proxy.at(NOW + 9);
    proxy.tick();
    assert!(proxy.host.resets.borrow().is_empty());
    proxy.at(NOW + 10);
    proxy.tick();
    assert_eq!(*proxy.host.resets.borrow(), [1]);
}

#[test]
fn a_server_that_is_gone_takes_what_is_open_with_it() {
    let mut proxy = Proxy::ready();
    proxy.call(1, "sess").passed();
    proxy.configure(&config(&[]));
    proxy.tick();
    assert_eq!(*proxy.host.resets.borrow(), [1]);
}

#[test]
fn a_proxy_without_a_configured_name_is_called_what_envoy_is_called_and_tells_its_track() {
    let named = |proxy: &str, cluster: &str| {
        let mut at = Proxy::bare();
        *at.host.node.borrow_mut() = Node { id: "ns/server-5d8f".into(), cluster: cluster.into() };
        at.configure(&v1::FilterConfig { proxy: proxy.into(), ..config(&[server()]) });
        at.tick();
        at.learn(&[grant()], &[session("sess")]);
        at.call_and_end(1, "sess").passed();
        at.tick();
        let (_, batch) = at.batches().remove(0);
        let node = at.requests().remove(0).node.expect("an introduction").id;
        assert!(node.starts_with(&format!("{}/", batch.proxy)), "{node}");
        (batch.proxy, at.events().remove(0).rollout_track)
    };
    let text = |name: &str, track: &str| (name.to_string(), track.to_string());
    assert_eq!(named("", "server-canary:stable"), text("ns/server-5d8f", "stable"));
    assert_eq!(named("", "server:canary"), text("ns/server-5d8f", "canary"));
    assert_eq!(named("edge", "server-canary"), text("edge", ""), "a configured name counts");
    assert_eq!(named("edge", "server:other").1, "", "only what is a track is told as one");
}

//! The corpus of decision cases, judged by the whole state machine: configuration, sync, request, record.

use sallyport_filter_core::Flow;
use sallyport_test_support::cases::{Case, cases};

use crate::proxy::{Proxy, config};

#[test]
fn the_filter_decides_answers_and_records_every_case() {
    for case in cases() {
        let policy = case.policy();
        let mut proxy = Proxy::bare();
        proxy.at(case.learned.unwrap_or(case.now()));
        *proxy.host.route.borrow_mut() = policy.server.route.clone();
        proxy.configure(&config(&[policy.server]));
        proxy.tick();
        proxy.learn(&policy.grants, &policy.sessions);
        proxy.at(case.now());
        let told = proxy.request(1, &case.header_pairs(), &case.request.body);
        proxy.end(1);
        proxy.tick();
        let name = &case.name;
        let expect = &case.expect;
        let wanted = expect.status.map(|status| (status, expect.reason.as_str()));
        assert_eq!(told.denial(), wanted, "{name}");
        assert_eq!(told.flow == Flow::Forward, wanted.is_none(), "{name}");
        assert_body(case, &told.answer.map(|answer| answer.body).unwrap_or_default());
        let events = proxy.events();
        let [event] = events.as_slice() else { panic!("{name}: {} events", events.len()) };
        assert_eq!(
            (event.allowed, event.reason.as_str()),
            (wanted.is_none(), expect.reason.as_str()),
            "{name}"
        );
        assert_eq!(event.would_deny, expect.would_deny.clone().unwrap_or_default(), "{name}");
        if let Some(grant) = &expect.grant {
            assert_eq!(event.matched_grant, format!("{name}/{grant}"), "{name}");
        }
    }
}

/// An answer is a JSON-RPC error that names the reason and the request's id, or nothing.
fn assert_body(case: &Case, body: &[u8]) {
    let (name, expect) = (&case.name, &case.expect);
    if body.is_empty() {
        assert!(matches!(expect.status, None | Some(202)), "{name}");
        return;
    }
    let body: serde_json::Value = serde_json::from_slice(body).expect("an answer is JSON");
    assert_eq!(body["error"]["data"]["reason"], expect.reason, "{name}");
    assert!(body["error"]["code"].is_i64(), "{name}");
    assert!(body["id"] == 7 || body["id"].is_null(), "{name}");
}

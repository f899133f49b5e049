//! What a request meets: failing host calls, headers that the upstream must not see, counters, idle sessions.

use std::rc::Rc;

use sallyport_filter_core::Flow;
use sallyport_policy::{AuthMode, ServerPolicy, SessionRules};

use crate::fake_host::HostCall;
use crate::proxy::{NOW, Proxy, config, server};

#[test]
fn a_request_that_cannot_be_read_from_the_host_does_not_pass() {
    for call in [HostCall::RequestHeaders, HostCall::RequestBody] {
        let mut proxy = Proxy::ready();
        proxy.fail(call);
        proxy.call(1, "sess").denied(503, "policy_unavailable");
    }
}

#[test]
fn a_request_whose_headers_cannot_be_removed_does_not_pass() {
    let mut proxy = Proxy::ready();
    let mut headers = vec![
        (":method", "POST"),
        (":path", "/server/mcp"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("x-mcp-agent-id", "agent"),
        ("x-mcp-agent-session", "sess"),
    ];
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}"#;
    proxy.fail(HostCall::RemoveHeader);
    proxy.request(1, &headers, body).passed();
    headers.push(("x-mcp-verified-spiffe-id", "forged"));
    proxy.request(2, &headers, body).denied(503, "policy_unavailable");
    proxy.host.mend();
    proxy.request(3, &headers, body).passed();
}

#[test]
fn an_identity_that_is_named_twice_is_refused_even_if_one_is_empty() {
    for values in [["", "sess"], ["sess", ""], ["sess", "sess"]] {
        let headers = [
            (":method", "POST"),
            (":path", "/server/mcp"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("x-mcp-agent-id", "agent"),
            ("x-mcp-agent-session", values[0]),
            ("x-mcp-agent-session", values[1]),
        ];
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read"}}"#;
        Proxy::ready().request(1, &headers, body).denied(400, "repeated_header");
    }
}

#[test]
fn a_request_with_trailers_is_answered_and_recorded() {
    let mut proxy = Proxy::ready();
    proxy.worker.on_trailers(1, &proxy.host);
    assert_eq!(proxy.host.answers.borrow()[0].status, 400);
    proxy.end(1);
    proxy.tick();
    assert_eq!((proxy.events()[0].allowed, proxy.events()[0].reason.as_str()), (false, "trailers"));
}

#[test]
fn a_caller_cannot_swell_the_record() {
    let long = "x://".to_string() + &"u".repeat(100_000);
    let many = vec!["\"x://y\""; 20_000].join(",");
    let params = [
        ("tools/list", format!(r#"{{"uri":"{long}"}}"#)),
        ("tools/list", format!(r#"{{"notifications":{{"resourceSubscriptions":[{many}]}}}}"#)),
        ("subscriptions/listen", format!(r#"{{"notifications":{{"resourceSubscriptions":[{many}]}}}}"#)),
        ("completion/complete", format!(r#"{{"ref":{{"type":"ref/prompt","name":"{long}"}}}}"#)),
        ("completion/complete", format!(r#"{{"ref":{{"type":"ref/resource","uri":"{long}"}}}}"#)),
        ("prompts/get", format!(r#"{{"name":"{long}"}}"#)),
        ("resources/read", format!(r#"{{"uri":"{long}"}}"#)),
        ("tasks/get", format!(r#"{{"taskId":"{long}"}}"#)),
        ("unknown", format!(r#"{{"uri":"{long}","name":"{long}","taskId":"{long}"}}"#)),
    ];
    let mut proxy = Proxy::ready();
    for (exchange, (method, params)) in (1..).zip(params) {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let headers = [
            (":method", "POST"),
            (":path", "/server/mcp"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("x-mcp-agent-id", "agent"),
            ("x-mcp-agent-session", "sess"),
        ];
        proxy.request(exchange, &headers, &body);
        proxy.end(exchange);
    }
    proxy.tick();
    for bytes in &proxy.batches()[0].1.events {
        assert!(bytes.len() < 1024, "an event of {} bytes", bytes.len());
    }
}

#[test]
fn a_denial_that_cannot_be_answered_is_a_denial_all_the_same() {
    let mut proxy = Proxy::ready();
    proxy.fail(HostCall::Answer);
    let told = proxy.call_and_end(1, "forged");
    assert_eq!((told.flow, told.answer), (Flow::Stop, None));
    proxy.tick();
    assert_eq!((proxy.events()[0].allowed, proxy.events()[0].reason.as_str()), (false, "session_not_found"));
}

#[test]
fn the_upstream_sees_no_internal_headers_no_token_and_no_identity_where_nobody_is_identified() {
    let headers = [
        (":method", "POST"),
        (":path", "/server/mcp"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("authorization", "Bearer mine"),
        ("x-mcp-agent-id", "agent"),
        ("x-mcp-anything", "forged"),
        ("x-sallyport-reason", "forged"),
        ("x-other", "kept"),
        ("mcp-session-id", "chosen"),
    ];
    let initialize =
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
    let removed = |mode: AuthMode, body: &str| {
        let mut server = server();
        server.auth.mode = mode;
        server.session = SessionRules { upstream_token_header: "authorization".into(), ..Default::default() };
        let mut proxy = Proxy::ready_with(&config(&[server]));
        proxy.request(1, &headers, body).passed();
        proxy.host.removed.take()
    };
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(removed(AuthMode::Header, ping), ["authorization", "x-mcp-anything", "x-sallyport-reason"]);
    assert_eq!(
        removed(AuthMode::None, ping),
        ["authorization", "x-mcp-agent-id", "x-mcp-anything", "x-sallyport-reason"]
    );
    assert_eq!(
        removed(AuthMode::Header, initialize),
        ["authorization", "x-mcp-anything", "x-sallyport-reason", "mcp-session-id"]
    );
}

#[test]
fn verdicts_are_counted_by_server_class_and_reason_and_wait_for_a_host_that_takes_them() {
    const ALLOWED: &str = "sallyport_verdicts;server=ns/server;class=tool;decision=allow;reason=allowed";
    const DENIED: &str =
        "sallyport_verdicts;server=ns/server;class=tool;decision=deny;reason=session_not_found";
    let mut proxy = Proxy::ready();
    proxy.call(1, "sess").passed();
    proxy.call(2, "sess").passed();
    proxy.call(3, "forged").denied(401, "session_not_found");
    assert_eq!(proxy.counter(ALLOWED), 0, "nothing is counted before the tick");
    proxy.fail(HostCall::Count);
    proxy.tick();
    proxy.host.mend();
    proxy.tick();
    proxy.tick();
    assert_eq!((proxy.counter(ALLOWED), proxy.counter(DENIED)), (2, 1), "each once");
    proxy.call(4, "sess").passed();
    proxy.tick();
    assert_eq!(proxy.counter(ALLOWED), 3);
    assert_eq!(proxy.gauge("sallyport_open_exchanges"), Some(4));
}

#[test]
fn what_was_counted_for_a_server_keeps_its_name_when_the_configuration_changes() {
    let mut proxy = Proxy::ready();
    proxy.call(1, "sess").passed();
    let renamed = ServerPolicy { id: sallyport_policy::ObjectId::new("ns", "renamed"), ..server() };
    proxy.configure(&config(&[renamed]));
    let name = "sallyport_verdicts;server=ns/server;class=tool;decision=allow;reason=allowed";
    assert_eq!(proxy.counter(name), 1);
}

#[test]
fn a_session_that_another_worker_saw_used_is_not_idle() {
    let rules = SessionRules { required: true, idle_timeout_seconds: 3600, ..Default::default() };
    let config = config(&[ServerPolicy { session: rules, ..server() }]);
    let mut here = Proxy::ready_with(&config);
    let mut there = Proxy::ready_with(&config);
    there.host.shared = Rc::clone(&here.host.shared);
    there.at(NOW + 3000);
    there.call(1, "sess").passed();
    there.at(NOW + 3030);
    there.tick();
    here.at(NOW + 4000);
    here.call(1, "sess").passed();
    here.at(NOW + 3000 + 3600 + 3600);
    here.call(2, "sess").denied(401, "session_idle");
}

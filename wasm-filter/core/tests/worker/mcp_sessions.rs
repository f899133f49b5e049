//! Whose an MCP session is.

use std::rc::Rc;

use sallyport_policy::{Auth, AuthMode, Mode, ServerPolicy};

use crate::proxy::{Proxy, Told, config, server};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}"#;

fn send(proxy: &mut Proxy, exchange: u32, method: &str, agent: &str, body: &str) -> Told {
    let mut headers = vec![
        (":method", method),
        (":path", "/server/mcp"),
        (":authority", "gateway"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-session-id", "s-1"),
    ];
    if !agent.is_empty() {
        headers.push(("x-mcp-agent-id", agent));
    }
    proxy.request(exchange, &headers, body)
}

#[test]
fn nobody_else_speaks_in_listens_to_or_ends_the_session_of_its_first_caller() {
    let mut proxy = Proxy::ready();
    send(&mut proxy, 1, "POST", "agent", PING).passed();
    for (exchange, agent) in [(2, "thief"), (3, "")] {
        send(&mut proxy, exchange, "POST", agent, PING).denied(404, "mcp_session_of_another");
        send(&mut proxy, exchange + 10, "GET", agent, "").denied(404, "mcp_session_of_another");
        send(&mut proxy, exchange + 20, "DELETE", agent, "").denied(404, "mcp_session_of_another");
        send(&mut proxy, exchange + 30, "POST", agent, ANSWER).denied(202, "mcp_session_of_another");
    }
    send(&mut proxy, 5, "GET", "agent", "").passed();
}

#[test]
fn another_worker_knows_the_owner() {
    let mut here = Proxy::ready();
    let mut there = Proxy::ready();
    there.host.shared = Rc::clone(&here.host.shared);
    send(&mut here, 1, "POST", "agent", PING).passed();
    send(&mut there, 1, "POST", "thief", PING).denied(404, "mcp_session_of_another");
    send(&mut there, 2, "POST", "agent", PING).passed();
}

#[test]
fn a_caller_that_does_not_say_who_it_is_owns_nothing() {
    let mut proxy = Proxy::ready();
    send(&mut proxy, 1, "POST", "", PING).passed();
    send(&mut proxy, 2, "POST", "agent", PING).passed();
    send(&mut proxy, 3, "POST", "", PING).denied(404, "mcp_session_of_another");
}

#[test]
fn where_nobody_is_identified_nothing_is_bound() {
    let open = ServerPolicy { auth: Auth { mode: AuthMode::None, ..server().auth }, ..server() };
    let mut proxy = Proxy::ready_with(&config(&[open]));
    send(&mut proxy, 1, "POST", "agent", PING).passed();
    send(&mut proxy, 2, "POST", "other", PING).passed();
}

#[test]
fn observing_notes_what_would_be_denied() {
    let observed = ServerPolicy { mode: Mode::Observe, ..server() };
    let mut proxy = Proxy::ready_with(&config(&[observed]));
    send(&mut proxy, 1, "POST", "agent", PING).passed();
    send(&mut proxy, 2, "POST", "thief", PING).passed();
    proxy.end(2);
    proxy.tick();
    assert_eq!(proxy.events()[0].would_deny, "mcp_session_of_another");
}

//! What one verdict costs, natively: a `tools/call` of about 300 bytes, read and decided, at growing numbers of
//! sessions and grants. `make bench-policy` runs it.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a program for people")]

use std::hint::black_box;
use std::time::Instant;

use sallyport_filter_core::judge::{Input, judge};
use sallyport_filter_core::pairs::{Pairs, serialize};
use sallyport_mcp_wire::Scratch;
use sallyport_policy::{
    Grant, ObjectId, ServerPolicy, Session, SideEffect, SideEffects, Store, Subject, Tool, Trust,
};

const NOW: i64 = 1_800_000_000;
const ROUNDS: u32 = 200_000;
/// Namespace, name, human and agent of a session here.
const IDENTIFIERS: usize = 2 + 14 + 12 + 9;

fn main() {
    println!(
        "{:>9} {:>9} {:>12} {:>16} {:>14}",
        "sessions", "grants", "ns/verdict", "bytes/session", "bytes/grant"
    );
    for (sessions, grants) in [(10, 10), (10_000, 1_000), (100_000, 10_000)] {
        let mut store = Store::new();
        let before = resident();
        add_sessions(&mut store, sessions, grants);
        let with_sessions = resident();
        add_grants(&mut store, grants);
        let per_session = (with_sessions.saturating_sub(before) / sessions).saturating_sub(IDENTIFIERS);
        let per_grant = resident().saturating_sub(with_sessions) / grants;
        add_server(&mut store);
        let best = (0..5).map(|_| measure(&store)).fold(f64::MAX, f64::min);
        println!("{sessions:>9} {grants:>9} {best:>12.0} {per_session:>16} {per_grant:>14}");
    }
    println!("Bytes are resident memory; a session's are beside its identifiers ({IDENTIFIERS} bytes here).");
}

fn add_sessions(store: &mut Store, sessions: usize, grants: usize) {
    let server = ObjectId::new("ns", "payments");
    for n in 0..sessions {
        let subject = subject(n % grants);
        let id = ObjectId::new("ns", format!("sess-{n:09}"));
        let session = Session {
            id,
            server: server.clone(),
            subject,
            consented_trust: Trust::High,
            ..Session::default()
        };
        store.upsert_session(&session, 0, NOW).expect("short");
    }
}

fn add_grants(store: &mut Store, grants: usize) {
    let server = ObjectId::new("ns", "payments");
    for n in 0..grants {
        store.upsert_grant(
            Grant {
                id: ObjectId::new("ns", format!("grant-{n}")),
                server: server.clone(),
                subject: subject(n),
                max_trust: Trust::High,
                allowed_side_effects: SideEffects::NONE.with(SideEffect::Read),
                ..Grant::default()
            },
            0,
        );
    }
}

fn add_server(store: &mut Store) {
    let tools = (0..50).map(|n| Tool {
        name: format!("tool_{n}"),
        required_trust: Trust::Medium,
        side_effect: Some(SideEffect::Read),
        risk: None,
    });
    store.set_servers(vec![ServerPolicy {
        id: ObjectId::new("ns", "payments"),
        tools: tools.collect(),
        max_request_bytes: 1 << 20,
        ..ServerPolicy::default()
    }]);
}

fn subject(n: usize) -> Subject {
    Subject { human_id: format!("user-{n:07}"), agent_id: "ops-agent".into(), team_id: String::new() }
}

fn measure(store: &Store) -> f64 {
    let headers = serialize(&[
        (":authority", "mcp.example.com"),
        (":path", "/payments/mcp"),
        (":method", "POST"),
        (":scheme", "http"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("user-agent", "bench"),
        ("x-mcp-human-id", "user-0000003"),
        ("x-mcp-agent-id", "ops-agent"),
        ("x-mcp-agent-session", "sess-000000003"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
    ]);
    let body = br#"{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"tool_17","arguments":{"customer":"c-1838","from":"2026-01-01","to":"2026-06-30","status":["open","overdue"],"page":{"size":50,"after":"eyJvZmZzZXQiOjUwfQ"},"note":"as asked for in the meeting of last week"},"_meta":{"progressToken":"p-1"}}}"#;
    let mut scratch = Scratch::new(7);
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let input = Input { headers: Pairs::new(&headers), body, route: "", now: NOW, synced: true };
        assert!(black_box(judge(store, &mut scratch, &input)).allowed());
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

//! One server with grants, sessions and requests, at any number.

use prost::Message;
use sallyport_policy::{
    Grant, ObjectId, ServerPolicy, Session, SideEffect, SideEffects, Subject, Tool, Trust,
};
use sallyport_policy_proto::{resource, v1};

use crate::gateway::{End, Request};

/// When the samples begin, in nanoseconds since 1970.
pub const NOW_NANOS: u64 = 1_800_000_000_000_000_000;
/// Route and id of the server.
pub const ROUTE: &str = "ns/payments";
/// A `tools/call` of 300 bytes.
pub const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{"name":"tool_17","arguments":{"customer":"c-1838","from":"2026-01-01","to":"2026-06-30","status":["open","overdue"],"page":{"size":50,"after":"eyJvZmZzZXQiOjUwfQ"},"note":"as asked for in the meeting of last week"},"_meta":{"progressToken":"p-1"}}}"#;

/// The server: fifty tools that need medium trust and only read.
pub fn server() -> ServerPolicy {
    let tools = (0..50).map(|n| Tool {
        name: format!("tool_{n}"),
        required_trust: Trust::Medium,
        side_effect: Some(SideEffect::Read),
        risk: None,
    });
    ServerPolicy {
        id: ObjectId::new("ns", "payments"),
        route: ROUTE.into(),
        tools: tools.collect(),
        max_request_bytes: 1 << 20,
        ..ServerPolicy::default()
    }
}

/// The filter's configuration for these servers, as the control plane renders it.
pub fn configuration(servers: &[ServerPolicy]) -> Vec<u8> {
    let mut config = v1::FilterConfig {
        servers: servers.iter().map(v1::Server::from).collect(),
        xds_cluster: "sallyport-xds".into(),
        audit_cluster: "sallyport-audit".into(),
        proxy: "gateway".into(),
        digest_key: vec![7; 32],
        ..v1::FilterConfig::default()
    };
    config.revision = resource::version(&config.encode_to_vec());
    config.encode_to_vec()
}

fn subject(n: usize) -> Subject {
    Subject { human_id: format!("user-{n:07}"), agent_id: "ops-agent".into(), team_id: String::new() }
}

/// The grant of subject `n`: reads, with high trust.
pub fn grant(n: usize) -> Grant {
    Grant {
        id: ObjectId::new("ns", format!("grant-{n:07}")),
        server: ObjectId::new("ns", "payments"),
        subject: subject(n),
        max_trust: Trust::High,
        allowed_side_effects: SideEffects::NONE.with(SideEffect::Read),
        ..Grant::default()
    }
}

/// Session `n`, whose subject consented to high trust; `grants` subjects have sessions in turn.
pub fn session(n: usize, grants: usize) -> Session {
    Session {
        id: ObjectId::new("ns", format!("sess-{n:09}")),
        server: ObjectId::new("ns", "payments"),
        subject: subject(n.checked_rem(grants).unwrap_or(0)),
        consented_trust: Trust::High,
        ..Session::default()
    }
}

/// A request with `body` in session `n`.
pub fn request(n: usize, grants: usize, body: &[u8]) -> Request {
    let who = subject(n.checked_rem(grants).unwrap_or(0));
    let headers = [
        (":authority", "mcp.example.com"),
        (":path", "/payments/mcp"),
        (":method", "POST"),
        (":scheme", "http"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("user-agent", "bench"),
        ("x-mcp-human-id", who.human_id.as_str()),
        ("x-mcp-agent-id", who.agent_id.as_str()),
        ("x-mcp-agent-session", &format!("sess-{n:09}")),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
    ];
    Request {
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        body: vec![body.to_vec()],
        route: ROUTE.into(),
        end: End::Whole,
    }
}

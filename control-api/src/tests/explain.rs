//! The endpoint that explains a verdict.

use serde_json::{Value, json};

use super::support::{ACCESS, SERVERS, World};

const PATH: &str = "/api/runtime/policy/explain";

fn question(tool: &str, session: &str) -> Value {
    json!({
        "namespace": "mcp-servers", "server": "payments",
        "identity": { "humanID": "user-123", "agentID": "ops-agent", "sessionID": session },
        "request": { "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": {} } },
    })
}

fn step<'v>(body: &'v Value, name: &str) -> &'v Value {
    body["steps"].as_array().unwrap().iter().find(|step| step["step"] == name).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn an_allowed_call_is_explained() {
    let answer = World::new().await.post(PATH, question("list_invoices", "sess-1")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let told = |name: &str| answer.body[name].clone();
    assert_eq!(
        (told("decision"), told("reason"), told("http_status"), told("json_rpc_code")),
        (json!("allow"), json!("allowed"), json!(200), json!(null))
    );
    assert_eq!(
        (told("matched_grant"), told("matched_session")),
        (json!("mcp-servers/ops"), json!("mcp-servers/sess-1"))
    );
    assert_eq!(
        (told("required_trust"), told("admin_trust"), told("consented_trust"), told("effective_trust")),
        (json!("low"), json!("high"), json!("medium"), json!("medium"))
    );
    assert_eq!(
        (told("era"), told("rpc_method"), told("tool_name")),
        (json!("legacy"), json!("tools/call"), json!("list_invoices"))
    );
    let steps: Vec<&Value> =
        answer.body["steps"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
    assert_eq!(steps, ["governed", "identity", "session", "inventory", "grant"]);
    assert!(answer.body["steps"].as_array().unwrap().iter().all(|step| step["outcome"] == "pass"));
}

#[tokio::test]
async fn denials_name_the_step_that_failed() {
    let world = World::new().await;
    let cases = [
        (question("refund_invoice", "sess-1"), "trust_too_low", 403, "grant"),
        (question("mystery", "sess-1"), "tool_side_effect_unknown", 403, "inventory"),
        (question("list_invoices", ""), "missing_session", 401, "session"),
        (question("list_invoices", "nobody"), "session_not_found", 401, "session"),
        (question("list_invoices", "dangling"), "session_not_found", 401, "session"),
    ];
    for (body, reason, status, failed) in cases {
        let answer = world.post(PATH, body).await;
        assert_eq!(
            (&answer.body["reason"], &answer.body["http_status"]),
            (&json!(reason), &json!(status)),
            "{}",
            answer.body
        );
        assert_eq!((&answer.body["decision"], answer.body["json_rpc_code"].is_i64()), (&json!("deny"), true));
        assert!(!answer.body["remedy"].as_str().unwrap().is_empty());
        if reason != "tool_side_effect_unknown" {
            assert_eq!(step(&answer.body, failed)["reason"], reason, "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn it_follows_the_directory_and_the_given_time() {
    let world = World::new().await;
    let mut later = question("list_invoices", "sess-1");
    later["at"] = json!("2100-01-01T00:00:00Z");
    assert_eq!(world.post(PATH, later).await.body["reason"], "session_expired");
    world.call("POST", "/api/runtime/sessions/mcp-servers/sess-1/revoke", None).await;
    assert_eq!(world.post(PATH, question("list_invoices", "sess-1")).await.body["reason"], "session_revoked");
    world.call("POST", "/api/runtime/sessions/mcp-servers/sess-1/unrevoke", None).await;
    world.call("POST", "/api/runtime/grants/mcp-servers/ops/disable", None).await;
    assert_eq!(world.post(PATH, question("list_invoices", "sess-1")).await.body["reason"], "grant_disabled");
}

#[tokio::test]
async fn idleness_is_judged_where_the_last_use_is_told() {
    let world = World::new().await;
    let servers = SERVERS.replace("session: {required: true}", "session: {required: true, idleTimeout: 1h}");
    std::fs::write(world.config().join("servers.yaml"), servers).unwrap();
    let created = "name: sess-1, creationTimestamp: \"2090-01-01T07:00:00Z\",";
    let access = ACCESS.replace("name: sess-1,", created);
    std::fs::write(world.config().join("access.yaml"), access).unwrap();
    let ask = async |last_used: Value| {
        let mut body = question("list_invoices", "sess-1");
        body["at"] = json!("2090-01-01T10:00:00Z");
        body["last_used"] = last_used;
        world.post(PATH, body).await.body
    };
    assert_eq!(ask(json!("2090-01-01T08:59:59Z")).await["reason"], "session_idle");
    let answer = ask(json!("2090-01-01T09:00:00Z")).await;
    assert_eq!((&answer["decision"], answer.to_string().contains("idle")), (&json!("allow"), false));
    let answer = ask(json!(null)).await;
    assert_eq!(answer["decision"], "allow");
    let detail = step(&answer, "session")["detail"].as_str().unwrap();
    assert!(detail.contains("idle for 3600 s (see `last_used`)"), "{detail}");
}

#[tokio::test]
async fn exact_bodies_are_judged_as_the_proxy_judges_them() {
    let world = World::new().await;
    let ask = async |body: &str, headers: Value| {
        let mut question = question("list_invoices", "sess-1");
        question.as_object_mut().unwrap().remove("request");
        question["body"] = json!(body);
        question["headers"] = headers;
        world.post(PATH, question).await.body
    };
    let good = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_invoices"}}"#;
    let doubled =
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"list_invoices"}}"#;
    assert_eq!(ask(good, json!({})).await["decision"], "allow");
    let answer = ask(doubled, json!({})).await;
    assert_eq!(
        (&answer["reason"], &answer["http_status"], &answer["json_rpc_code"]),
        (&json!("duplicate_key"), &json!(400), &json!(-32600))
    );
    assert_eq!(step(&answer, "read")["outcome"], "fail");
    assert_eq!(ask("{", json!({})).await["reason"], "json_syntax");
    assert_eq!(ask(good, json!({ "Content-Type": "text/plain" })).await["http_status"], 415);
    assert_eq!(ask(good, json!({ "accept": null })).await["http_status"], 406);
    assert_eq!(
        ask(good, json!({ "x-mcp-human-id": ["user-123", "root"] })).await["reason"],
        "repeated_header"
    );
    assert_eq!(
        ask(good, json!({ "mcp-protocol-version": "2024-11-05", "mcp-session-id": "s" })).await["decision"],
        "allow"
    );
}

#[tokio::test]
async fn a_denial_within_a_legacy_session_is_a_result() {
    let mut body = question("refund_invoice", "sess-1");
    body["headers"] = json!({ "mcp-protocol-version": "2025-06-18", "mcp-session-id": "abc" });
    let answer = World::new().await.post(PATH, body).await;
    assert_eq!(
        (&answer.body["decision"], &answer.body["http_status"], &answer.body["json_rpc_code"]),
        (&json!("deny"), &json!(200), &json!(-31403))
    );
}

#[tokio::test]
async fn modern_messages_get_their_mirrored_headers() {
    let mut body = question("list_invoices", "sess-1");
    body["request"]["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
    });
    let world = World::new().await;
    let answer = world.post(PATH, body.clone()).await;
    assert_eq!(
        (&answer.body["decision"], &answer.body["era"]),
        (&json!("allow"), &json!("modern")),
        "{}",
        answer.body
    );
    body["headers"] = json!({ "mcp-name": "refund_invoice" });
    assert_eq!(world.post(PATH, body).await.body["reason"], "header_mismatch");
}

#[tokio::test]
async fn questions_that_are_none_are_told() {
    let world = World::new().await;
    let cases: [(&str, Value); 4] =
        [("server", json!(7)), ("at", json!("tomorrow")), ("identiy", json!({})), ("body", json!("{}"))];
    for (field, value) in cases {
        let mut body = question("list_invoices", "sess-1");
        body[field] = value;
        world.post(PATH, body).await.error(400, "invalid_request_body");
    }
    let mut body = question("list_invoices", "sess-1");
    body["headers"] = json!({ "x-a": "b\r\nx-mcp-human-id: root" });
    world.post(PATH, body).await.error(400, "invalid_request_body");
    let mut body = question("list_invoices", "sess-1");
    body["server"] = json!("none");
    world.post(PATH, body).await.error(404, "not_found");
}

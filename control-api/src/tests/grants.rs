//! Grants and sessions: reading, making, changing, and waiting for enforcement.

use serde_json::{Value, json};

use super::support::{ACCESS, World};

fn grant() -> Value {
    json!({
        "name": "payments-ops-agent", "namespace": "mcp-servers",
        "serverRef": { "name": "payments", "namespace": "mcp-servers" },
        "subject": { "humanID": "user-123", "agentID": "ops-agent" },
        "maxTrust": "high", "policyVersion": "v1",
        "toolRules": [
            { "name": "read_invoice", "decision": "allow" },
            { "name": "refund_invoice", "decision": "allow", "requiredTrust": "high" },
        ],
    })
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

#[tokio::test]
async fn grants_and_sessions_are_listed_flat() {
    let world = World::new().await;
    let answer = world.get("/api/v1/runtime/grants").await;
    let first = answer.at("/grants/0");
    assert_eq!(
        (&first["name"], &first["namespace"], &first["maxTrust"]),
        (&json!("ops"), &json!("mcp-servers"), &json!("high"))
    );
    assert_eq!((&first["disabled"], &first["serverRef"]["name"]), (&json!(false), &json!("payments")));
    assert_eq!(first["origin"], "access.yaml:1");
    let answer = world.get("/api/runtime/sessions?server=gone").await;
    assert_eq!(answer.at("/sessions/0/name"), "dangling");
    assert_eq!((answer.at("/sessions/1"), answer.at("/sessions/0/version")), (&json!(null), &json!(null)));
    assert_eq!(answer.at("/sessions/0/problems/0/reason"), "ServerNotFound");
    assert_eq!(world.get("/api/runtime/sessions?namespace=no").await.at("/sessions"), &json!([]));
    assert_eq!(world.get("/api/runtime/grants/mcp-servers/ops").await.at("/grant/name"), "ops");
    assert_eq!(
        world.get("/api/runtime/sessions/mcp-servers/sess-1").await.at("/session/revoked"),
        &json!(false)
    );
    world.get("/api/runtime/sessions/mcp-servers/ops").await.error(404, "not_found");
}

#[tokio::test]
async fn the_flat_bodies_make_objects() {
    let world = World::new().await;
    let answer = world.post("/api/runtime/grants", grant()).await;
    assert_eq!((answer.status.as_u16(), answer.at("/change")), (201, &json!("created")), "{}", answer.body);
    assert_eq!(answer.at("/grant/toolRules/1/requiredTrust"), "high");
    assert!(answer.at("/grant/creationTimestamp").is_string());
    assert!(world.text("grants/mcp-servers.payments-ops-agent.yaml").contains("kind: MCPAccessGrant"));
    let session = json!({
        "name": "sess-8f1b9d", "namespace": "mcp-servers", "serverRef": { "name": "payments", "namespace": "mcp-servers" },
        "subject": { "humanID": "user-123", "agentID": "ops-agent" }, "consentedTrust": "medium",
        "policyVersion": "v1", "expiresAt": "2030-12-31T23:59:00Z",
    });
    let answer = world.post("/api/v1/runtime/sessions", session).await;
    assert_eq!(
        (answer.status.as_u16(), answer.at("/session/expiresAt")),
        (201, &json!("2030-12-31T23:59:00Z"))
    );
    assert_eq!(world.text("access.yaml"), ACCESS);
}

#[tokio::test]
async fn an_existing_object_is_changed_where_it_is() {
    let world = World::new().await;
    let body = with(with(grant(), "name", json!("ops")), "maxTrust", json!("low"));
    let answer = world.post("/api/runtime/grants", body.clone()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.at("/change"), answer.at("/grant/maxTrust")),
        (200, &json!("updated"), &json!("low"))
    );
    let (text, border) = (world.text("access.yaml"), "---\n# The user's gate.");
    assert_eq!(text.split_once(border).unwrap().1, ACCESS.split_once(border).unwrap().1);
    assert!(!world.config().join("grants").exists());
    let again = world.post("/api/runtime/grants", body).await;
    assert_eq!((again.status.as_u16(), again.at("/change")), (200, &json!("unchanged")));
}

#[tokio::test]
async fn whose_an_object_is_and_for_which_server_cannot_change() {
    let world = World::new().await;
    let body = with(grant(), "name", json!("ops"));
    let answer =
        world.post("/api/runtime/grants", with(body, "subject", json!({ "humanID": "user-9" }))).await;
    let text = answer.error(400, "invalid_request_body");
    assert!(text.contains("cannot change"), "{text}");
    assert_eq!(world.text("access.yaml"), ACCESS);
}

#[tokio::test]
async fn bad_bodies_are_told_field_by_field_and_change_nothing() {
    let world = World::new().await;
    let cases = [
        (with(grant(), "maxTurst", json!("low")), "`maxTurst` is not a field here; did you mean `maxTrust`?"),
        (with(grant(), "maxTrust", json!("huge")), "`maxTrust` is `huge`"),
        (with(grant(), "subject", json!({ "humanId": "x" })), "`subject.humanId`"),
        (with(grant(), "name", json!("../../etc/passwd")), "`name` is `../../etc/passwd`"),
        (with(grant(), "name", json!(7)), "`name` must be a string"),
        (with(grant(), "namespace", json!("Upper")), "`namespace` is `Upper`"),
        (json!({ "serverRef": { "name": "payments" }, "subject": {} }), "`name` is missing"),
        (json!({ "name": "x", "namespace": "mcp-servers", "subject": {} }), "`serverRef` is missing"),
    ];
    for (body, expected) in cases {
        let answer = world.post("/api/runtime/grants", with_server_there(body)).await;
        let message = answer.error(400, "invalid_request_body");
        assert!(message.contains(expected), "{message}");
    }
    let empty = json!({ "name": "x", "namespace": "mcp-servers", "serverRef": { "name": "payments" }, "subject": {} });
    let answer = world.post("/api/runtime/sessions", empty).await;
    assert!(answer.error(400, "invalid_request_body").contains("a session is somebody's"));
    let names: Vec<_> =
        std::fs::read_dir(world.config()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((names.len(), world.text("access.yaml").as_str()), (2, ACCESS));
}

/// A server reference that is right, so that only what a case is about is wrong.
fn with_server_there(mut body: Value) -> Value {
    if let Some(reference) = body.get_mut("serverRef") {
        reference["namespace"] = json!("mcp-servers");
    }
    body
}

#[tokio::test]
async fn a_server_that_does_not_take_the_object_is_told() {
    let world = World::new().await;
    let body = with(grant(), "serverRef", json!({ "name": "definitely-missing" }));
    let answer = world.post("/api/runtime/grants", body).await;
    assert!(answer.error(400, "unknown_server_ref").starts_with("unknown serverRef"));
    let foreign = with(grant(), "namespace", json!("tenant"));
    let answer = world.post("/api/runtime/grants", foreign).await;
    assert!(answer.error(400, "unknown_server_ref").contains("acceptedNamespaces"));
    assert!(!world.config().join("grants").exists());
}

#[tokio::test]
async fn a_switch_waits_for_exactly_its_version() {
    let world = World::new().await;
    let switches = [
        ("grants/mcp-servers/ops/disable", "/grant/disabled", true),
        ("grants/mcp-servers/ops/enable", "/grant/disabled", false),
        ("sessions/mcp-servers/sess-1/revoke", "/session/revoked", true),
        ("sessions/mcp-servers/sess-1/unrevoke", "/session/revoked", false),
    ];
    for (path, field, state) in switches {
        let answer = world.call("POST", &format!("/api/v1/runtime/{path}?wait=2s"), None).await;
        assert_eq!(
            (answer.status.as_u16(), answer.at(field), answer.at("/complete")),
            (200, &json!(state), &json!(true))
        );
        assert_eq!((answer.at("/enforced/enforced"), answer.at("/enforced/of")), (&json!(3), &json!(3)));
        assert!(answer.at("/enforced/millis").as_f64().unwrap() > 0.0);
        let (object, _) = path.rsplit_once('/').unwrap();
        let (asked, version, timeout) = world.operator.asked.lock().unwrap().pop().unwrap();
        assert_eq!((asked.as_str(), timeout), (object, 2000));
        let shown = world.get(&format!("/api/runtime/{object}")).await;
        let shown = shown.at(&format!("{}/version", field.rsplit_once('/').unwrap().0)).clone();
        assert_eq!((answer.at("/enforced/version"), &shown), (&json!(version), &json!(version)));
    }
}

#[tokio::test]
async fn the_version_is_the_one_that_the_control_plane_computes() {
    let world = World::new().await;
    let answer = world.call("POST", "/api/runtime/sessions/mcp-servers/sess-1/revoke", None).await;
    // As the control plane does it: from the file's text alone.
    let (loaded, problems) = sallyport_api::manifest::load_str("access.yaml", &world.text("access.yaml"));
    assert_eq!(problems, []);
    let servers = sallyport_api::manifest::load_str("servers.yaml", &world.text("servers.yaml")).0;
    let sallyport_api::Object::Server(server) = &servers[0].object else { panic!() };
    let session = loaded.iter().find_map(|loaded| match &loaded.object {
        sallyport_api::Object::Session(session) if session.metadata.name.as_deref() == Some("sess-1") => {
            Some(session)
        }
        _ => None,
    });
    let resolved = sallyport_resolve::resolve_session(session.unwrap(), Some(server), None).value.unwrap();
    assert!(resolved.revoked && resolved.issued_at.is_some());
    let version = sallyport_policy_proto::resource::session(&resolved).1;
    assert_eq!(answer.at("/enforced/version"), &json!(version));
}

#[tokio::test]
async fn patches_set_the_switch_and_nothing_else() {
    let world = World::new().await;
    let path = "/api/runtime/grants/mcp-servers/ops";
    let answer = world.call("PATCH", path, Some(json!({ "disabled": true }))).await;
    assert_eq!((answer.status.as_u16(), answer.at("/grant/disabled")), (200, &json!(true)));
    for body in [
        json!({}),
        json!({ "disabled": "yes" }),
        json!({ "disabled": true, "maxTrust": "high" }),
        json!({ "revoked": true }),
    ] {
        let answer = world.call("PATCH", path, Some(body)).await;
        assert!(answer.error(400, "invalid_request_body").contains("{\"disabled\": true}"));
    }
    let answer = world
        .call("PATCH", "/api/runtime/sessions/mcp-servers/sess-1", Some(json!({ "revoked": true })))
        .await;
    assert_eq!(answer.at("/session/revoked"), &json!(true));
    world
        .call("PATCH", "/api/runtime/grants/mcp-servers/none", Some(json!({ "disabled": true })))
        .await
        .error(404, "not_found");
    world.call("POST", "/api/runtime/grants/mcp-servers/none/disable", None).await.error(404, "not_found");
    world
        .call("POST", "/api/runtime/grants/mcp-servers/ops/disable?wait=soon", None)
        .await
        .error(400, "invalid_query_param");
}

#[tokio::test]
async fn what_is_not_confirmed_is_told_and_done_all_the_same() {
    let world = World::new().await;
    let path = "/api/runtime/grants/mcp-servers/ops";
    world.operator.answers(false, 2, 3);
    let answer = world.call("POST", &format!("{path}/disable?wait=10ms"), None).await;
    assert_eq!((answer.status.as_u16(), answer.at("/complete")), (202, &json!(false)));
    assert_eq!(answer.at("/enforced/pending"), &json!(["standalone/2"]));
    world.operator.answers(true, 0, 0);
    let answer = world.call("POST", &format!("{path}/disable"), None).await;
    assert_eq!((answer.status.as_u16(), answer.at("/enforced/complete")), (202, &json!(false)));
    assert!(answer.at("/enforced/message").as_str().unwrap().contains("no proxy is connected"));
    let asked = world.operator.asked.lock().unwrap().len();
    let answer = world.call("POST", &format!("{path}/enable?wait=0"), None).await;
    assert_eq!((answer.status.as_u16(), answer.at("/grant/disabled")), (202, &json!(false)));
    assert_eq!(world.operator.asked.lock().unwrap().len(), asked, "who does not wait is not kept");
}

#[tokio::test]
async fn what_has_no_effect_must_be_gone_from_every_proxy() {
    let world = World::new().await;
    let answer = world.call("POST", "/api/runtime/sessions/mcp-servers/dangling/revoke", None).await;
    assert_eq!((answer.status.as_u16(), answer.at("/enforced/version")), (200, &json!(null)));
    assert_eq!(answer.at("/session/revoked"), &json!(true));
    let (asked, version, _) = world.operator.asked.lock().unwrap().pop().unwrap();
    assert_eq!((asked.as_str(), version.as_str()), ("sessions/mcp-servers/dangling", ""));
}

#[tokio::test]
async fn a_control_plane_that_is_away_does_not_stop_a_revocation() {
    let world = World::without_operator();
    let answer = world.call("POST", "/api/runtime/sessions/mcp-servers/sess-1/revoke", None).await;
    assert_eq!((answer.status.as_u16(), answer.at("/session/revoked")), (202, &json!(true)));
    assert!(answer.at("/enforced/message").as_str().unwrap().contains("is written"));
    assert!(world.text("access.yaml").contains("revoked: true"));
}

#[tokio::test]
async fn a_revocation_is_not_undone_by_the_way() {
    let world = World::new().await;
    world.call("POST", "/api/runtime/sessions/mcp-servers/sess-1/revoke", None).await;
    let body = json!({
        "name": "sess-1", "namespace": "mcp-servers", "serverRef": { "name": "payments" },
        "subject": { "humanID": "user-123", "agentID": "ops-agent" }, "consentedTrust": "high",
    });
    let answer = world.post("/api/runtime/sessions", body).await;
    assert_eq!(
        (answer.at("/session/consentedTrust"), answer.at("/session/revoked")),
        (&json!("high"), &json!(true))
    );
}

#[tokio::test]
async fn an_object_in_two_files_is_a_conflict() {
    let world = World::new().await;
    std::fs::write(world.config().join("copy.yaml"), ACCESS).unwrap();
    let answer = world.call("POST", "/api/runtime/grants/mcp-servers/ops/disable", None).await;
    assert!(answer.error(409, "conflict").contains("copy.yaml"));
}

//! Servers, policy, components, health.

use serde_json::json;

use super::support::World;

#[tokio::test]
async fn servers_are_listed_and_got() {
    let world = World::new().await;
    for base in ["/api", "/api/v1"] {
        let answer = world.get(&format!("{base}/runtime/servers")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.at("/servers/0/name"), "payments");
        assert_eq!(answer.at("/servers/0/path"), "/payments/mcp");
        assert_eq!(answer.at("/servers/0/policy/mode"), "allow-list");
        assert_eq!(answer.at("/servers/1/name"), "open");
        assert_eq!(answer.at("/servers/1/path"), &json!(null), "what is not governed is not exposed");
        assert_eq!(answer.at("/servers/1/problems/0/reason"), "NotGoverned");
        assert!(!answer.body.to_string().contains("hush"), "values of the environment are not told");
    }
    let answer = world.get("/api/runtime/servers?namespace=other").await;
    assert_eq!(answer.at("/servers").as_array().map(Vec::len), Some(1));
    assert_eq!(world.get("/api/runtime/servers/mcp-servers/payments").await.at("/server/name"), "payments");
    world.get("/api/runtime/servers/mcp-servers/none").await.error(404, "not_found");
    world.get("/api/runtime/servers/mcp-servers/NONE").await.error(400, "invalid_path_param");
    let answer = world.get("/api/runtime/servers?namspace=x").await;
    assert!(answer.error(400, "invalid_query_param").contains("there are: namespace"));
}

#[tokio::test]
async fn policy_is_rendered() {
    let world = World::new().await;
    let answer = world.get("/api/runtime/policy?namespace=mcp-servers&server=payments").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.at("/server/name"), "payments");
    assert_eq!(answer.at("/policy/defaultDecision"), "deny");
    assert_eq!(answer.at("/tools/1/required_trust"), "high");
    assert_eq!(answer.at("/grants/0/name"), "ops");
    assert_eq!(answer.at("/sessions/0/expires_at"), "2099-12-31T23:59:00Z");
    assert_eq!(answer.at("/sessions/1"), &json!(null), "a session of another server is not part of it");
    assert_eq!(answer.at("/source"), "directory");
    assert_eq!(answer.at("/problems/0/reason"), "SideEffectUnknown");
    world.get("/api/runtime/policy?namespace=mcp-servers").await.error(400, "invalid_query_param");
    world.get("/api/runtime/policy?namespace=mcp-servers&server=none").await.error(404, "not_found");
}

#[tokio::test]
async fn components_are_told_whatever_is_away() {
    let world = World::new().await;
    let answer = world.get("/api/runtime/components").await;
    let ready = |name: &str| {
        let parts = answer.at("/components").as_array().unwrap();
        parts.iter().find(|part| part["name"] == name).unwrap()["ready"].as_bool().unwrap()
    };
    assert!(ready("operator") && ready("control-api") && ready("manifests"));
    assert!(!ready("ingest") && !ready("event-store"));
    assert_eq!(answer.at("/proxies/proxies/0/proxy"), "standalone");
    let answer = World::without_operator().get("/api/runtime/components").await;
    assert_eq!(
        (answer.status.as_u16(), answer.at("/proxies"), answer.at("/problems")),
        (200, &json!(null), &json!(null))
    );
}

#[tokio::test]
async fn readiness_is_that_of_the_directory() {
    let world = World::new().await;
    assert_eq!(world.get("/readyz").await.status, 200);
    std::fs::remove_dir_all(world.config()).unwrap();
    world.get("/readyz").await.error(503, "service_unavailable");
    world.get("/api/runtime/grants").await.error(503, "service_unavailable");
    assert_eq!(world.get("/healthz").await.status, 200);
}

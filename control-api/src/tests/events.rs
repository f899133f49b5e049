//! Events, totals and the overview.

use sallyport_audit_proto::v1::AuditEvent;
use serde_json::json;

use super::support::World;

fn mk_event(tool: &str, allowed: bool) -> AuditEvent {
    AuditEvent {
        server: "payments".into(),
        namespace: "mcp-servers".into(),
        agent_id: "ops-agent".into(),
        tool_name: tool.into(),
        reason: if allowed { "allowed" } else { "trust_too_low" }.into(),
        allowed,
        ..AuditEvent::default()
    }
}

#[tokio::test]
async fn events_are_paged_and_filtered() {
    let world = World::new().await;
    world.record(&[mk_event("a", true), mk_event("b", false), mk_event("c", true)]).await;
    let first = world.get("/api/events?limit=2").await;
    assert_eq!(
        (first.at("/events/0/payload/tool_name"), first.at("/events/1/payload/tool_name")),
        (&json!("c"), &json!("b"))
    );
    assert_eq!(
        (first.at("/meta/limit"), first.at("/meta/has_more"), first.at("/meta/next_cursor")),
        (&json!(2), &json!(true), first.at("/next"))
    );
    let next = first.at("/next").as_str().unwrap();
    let last = world.get(&format!("/api/v1/events?limit=2&cursor={next}")).await;
    assert_eq!(
        (last.at("/events/0/payload/tool_name"), last.at("/events/1"), last.at("/next")),
        (&json!("a"), &json!(null), &json!(null))
    );
    let denied =
        world.get("/api/events/filter?server=payments&decision=deny&agent_id=ops-agent&limit=50").await;
    assert_eq!(
        (denied.at("/events/0/payload/reason"), denied.at("/events/1")),
        (&json!("trust_too_low"), &json!(null))
    );
    assert_eq!(world.get("/api/events/filter?server=other").await.at("/events"), &json!([]));
}

#[tokio::test]
async fn bad_questions_about_events_are_told() {
    let world = World::new().await;
    world.record(&[]).await;
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=*", "agentid=x", "decision=allow&decision=deny"]
    {
        world.get(&format!("/api/events/filter?{query}")).await.error(400, "invalid_query_param");
    }
}

#[tokio::test]
async fn totals_and_overview_have_the_known_shapes() {
    let world = World::new().await;
    world.record(&[mk_event("a", true), mk_event("b", false)]).await;
    let stats = world.get("/api/stats").await;
    assert_eq!(
        (stats.at("/events_total"), stats.at("/allowed"), stats.at("/denied")),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(world.get("/api/sources").await.body, json!([{ "source": "payments-gateway", "count": 2 }]));
    assert_eq!(
        world.get("/api/event-types").await.body,
        json!([{ "event_type": "mcp.request", "count": 2 }])
    );
    let summary = world.get("/api/dashboard/summary").await.body;
    let expected = json!({
        "total_events": 2, "active_servers": 1, "active_grants": 1, "active_sessions": 1,
        "latest_source": "payments-gateway", "last_event_type": "mcp.request",
        "last_event_time": "2030-03-17T17:46:40.000000002Z",
    });
    assert_eq!(summary, expected);
    world.call("POST", "/api/runtime/sessions/mcp-servers/sess-1/revoke", None).await;
    assert_eq!(world.get("/api/dashboard/summary").await.at("/active_sessions"), &json!(0));
}

#[tokio::test]
async fn a_store_that_is_away_is_told() {
    let world = World::new().await;
    for path in ["events", "events/filter", "stats", "sources", "event-types", "dashboard/summary"] {
        let answer = world.get(&format!("/api/{path}")).await;
        assert!(answer.error(503, "service_unavailable").contains("event store"));
        assert_eq!(answer.headers["retry-after"], "1");
    }
}

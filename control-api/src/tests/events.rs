//! Events, totals and the overview.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use futures::StreamExt;
use sallyport_audit_proto::v1::AuditEvent;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::support::{KEY, World};
use crate::app::router;
use crate::live::Live;

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
    for path in
        ["events", "events/filter", "stats", "sources", "event-types", "dashboard/summary", "events/stream"]
    {
        let answer = world.get(&format!("/api/{path}")).await;
        assert!(answer.error(503, "service_unavailable").contains("event store"));
        assert_eq!(answer.headers["retry-after"], "1");
    }
}

/// A stream of events, being read.
struct Following {
    body: BodyDataStream,
    text: String,
}

impl Following {
    async fn begin(world: &World, query: &str, last: Option<&str>) -> Self {
        let mut request =
            Request::builder().uri(format!("/api/v1/events/stream{query}")).header("x-api-key", KEY);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = router(world.app.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next message: lines up to an empty one; none: the stream has ended.
    async fn message(&mut self) -> Option<Vec<(String, String)>> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let field = |line: &str| line.split_once(':').map(|(n, v)| (n.into(), v.trim().into()));
                let fields = message.lines().filter_map(field).collect();
                self.text = rest.into();
                return Some(fields);
            }
            let part = tokio::time::timeout(Duration::from_secs(10), self.body.next()).await.unwrap();
            self.text.push_str(std::str::from_utf8(&part?.unwrap()).unwrap());
        }
    }

    /// The next event's tool, and its id.
    async fn tool(&mut self) -> (String, String) {
        loop {
            let fields = self.message().await.unwrap();
            let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, v)| v.clone());
            if let Some(data) = field("data") {
                let event: Value = serde_json::from_str(&data).unwrap();
                return (event["payload"]["tool_name"].as_str().unwrap().into(), field("id").unwrap());
            }
        }
    }
}

#[tokio::test]
async fn events_are_streamed_as_they_are_stored_and_from_where_a_client_was() {
    let world = World::new().await;
    world.record(&[mk_event("before", true)]).await;
    tokio::spawn(Live::watch(world.app.clone()));
    let mut all = Following::begin(&world, "", None).await;
    let mut denied = Following::begin(&world, "?decision=deny", None).await;
    let (name, _) = all.message().await.unwrap().remove(0);
    assert_eq!(name, "id", "it tells at once where it stands");
    world.record_from(2, &[mk_event("a", true), mk_event("b", false), mk_event("c", true)]).await;
    let ((first, id), (second, _), (third, _)) = (all.tool().await, all.tool().await, all.tool().await);
    assert_eq!([first.as_str(), &second, &third], ["a", "b", "c"]);
    assert_eq!(denied.tool().await.0, "b");
    let mut again = Following::begin(&world, "", Some(&id)).await;
    assert_eq!((again.tool().await.0, again.tool().await.0), ("b".into(), "c".into()));
    world.record_from(5, &[mk_event("d", false)]).await;
    assert_eq!([again.tool().await.0, denied.tool().await.0, all.tool().await.0], ["d", "d", "d"]);
    world.get("/api/events/stream?limit=1").await.error(400, "invalid_query_param");
    let request = Request::builder().uri("/api/events/stream").header("x-api-key", KEY);
    let request = request.header("last-event-id", "*").body(Body::empty()).unwrap();
    world.send(request).await.error(400, "invalid_query_param");
}

#[tokio::test]
async fn a_stream_in_which_nothing_happens_shows_that_it_lives() {
    let world = World::new().await;
    world.record(&[]).await;
    let mut following = Following::begin(&world, "", None).await;
    for expected in ["live", "heartbeat", "heartbeat"] {
        let fields = following.message().await.unwrap();
        assert!(fields.contains(&(String::new(), expected.into())), "{fields:?}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_and_told_and_goes_on_where_it_was() {
    let world = World::new().await;
    world.record(&[]).await;
    tokio::spawn(Live::watch(world.app.clone()));
    let mut slow = Following::begin(&world, "", None).await;
    let events: Vec<_> = (0..200).map(|n| mk_event(&format!("t{n}"), true)).collect();
    world.record(&events).await;
    let cut = async {
        while world.app.metrics.subscribers_cut.get() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), cut).await.unwrap();
    let (mut seen, mut last, mut comment) = (0, String::new(), String::new());
    while let Some(fields) = slow.message().await {
        for (name, value) in fields {
            match name.as_str() {
                "id" => last = value,
                "data" => seen += 1,
                _ => comment = value,
            }
        }
    }
    assert_eq!(comment, "cut: this client was too slow");
    assert!((1..200).contains(&seen), "{seen}");
    let mut again = Following::begin(&world, "", Some(&last)).await;
    assert_eq!(again.tool().await.0, format!("t{seen}"));
    assert_eq!(world.app.metrics.subscribers.get(), 1);
}

#[tokio::test]
async fn followers_beyond_the_bound_are_turned_away_until_one_leaves() {
    let world = World::new().await;
    world.record(&[]).await;
    let mut all = Vec::new();
    for _ in 0..64 {
        let mut following = Following::begin(&world, "", None).await;
        following.message().await.unwrap();
        all.push(following);
    }
    world.get("/api/events/stream").await.error(503, "service_unavailable");
    all.pop();
    let room = async {
        while world.app.metrics.subscribers.get() >= 64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), room).await.unwrap();
    Following::begin(&world, "", None).await;
}

#[tokio::test]
async fn the_record_can_be_read_as_it_was_chained_and_its_integrity_is_told() {
    let world = World::new().await;
    world.record(&[mk_event("a", true), mk_event("b", true)]).await;
    let first = world.get("/api/v1/audit/chains?limit=1&columns=true").await;
    let (proxy, epoch, seq) =
        (first.at("/events/0/proxy"), first.at("/events/0/epoch"), first.at("/events/0/seq"));
    assert!(proxy.is_string() && epoch.is_string() && first.at("/events/0/bytes").is_string(), "{first:?}");
    let (proxy, epoch, worker) =
        (proxy.as_str().unwrap(), epoch.as_str().unwrap(), first.at("/events/0/worker"));
    let place = format!("proxy={proxy}&worker={worker}&epoch={epoch}&seq={seq}");
    let rest = world.get(&format!("/api/v1/audit/chains?{place}")).await;
    assert_eq!(rest.at("/events").as_array().unwrap().len(), 1);
    let spans = world.get("/api/v1/audit/spans?server=payments").await;
    assert_eq!(spans.at("/spans/0/events"), &json!(2));
    assert_eq!(world.get("/api/v1/audit/checkpoints").await.at("/checkpoints"), &json!([]));
    let integrity = world.get("/api/v1/audit/integrity").await;
    assert_eq!(integrity.at("/last_checkpoint"), &json!(null));
    assert_eq!(integrity.at("/ingest"), &json!(null), "it does not run");
    assert!(integrity.at("/servers").is_array());
    for query in
        ["chains?worker=1", "chains?proxy=p", "chains?columns=yes", "checkpoints?after=x", "spans?x=1"]
    {
        world.get(&format!("/api/v1/audit/{query}")).await.error(400, "invalid_query_param");
    }
}

#[tokio::test]
async fn usage_is_told_by_the_hour() {
    let world = World::new().await;
    let at = |mut event: AuditEvent, nanos| {
        event.time_unix_nanos = nanos;
        event
    };
    let (day, hour) = (86_400_000_000_000, 3_600_000_000_000);
    let events = [
        at(mk_event("a", true), day),
        at(mk_event("a", false), day + 1),
        at(mk_event("a", true), day + hour),
    ];
    world.record(&events).await;
    let answer = world
        .get("/api/v1/usage?since=1970-01-01T00:00:00Z&until=1970-01-02T01:00:00Z&server=payments")
        .await;
    let wanted = json!([{ "hour": "1970-01-02T00:00:00Z", "namespace": "mcp-servers", "server": "payments", "team_id": "",
                          "tool_name": "a", "events": 2, "allowed": 1, "denied": 1 }]);
    assert_eq!(answer.at("/usage"), &wanted);
    assert_eq!(world.get("/api/v1/usage").await.at("/usage"), &json!([]), "of the last day, by default");
    world.get("/api/v1/usage?since=yesterday").await.error(400, "invalid_query_param");
}

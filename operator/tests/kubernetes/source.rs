use serde_json::json;
use tonic::Code;

use crate::filter::Filter;
use crate::support::{Cluster, NAMESPACE, Operator, told, until};

#[tokio::test(flavor = "multi_thread")]
async fn proxies_follow_what_becomes_of_their_servers_objects_and_hear_of_no_other() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.server("pay").await;
    cluster.server("other").await;
    cluster.session("one", "pay").await;
    let token = cluster.pod_token("pay", "pay-1").await;
    let operator = Operator::ready(&cluster, "a", &[]).await;
    let mut filter = operator.filter(&token, "ns/pay-1/1/x").await;
    cluster.session("foreign", "other").await;
    cluster.session("two", "pay").await;
    assert_eq!(told(&mut filter).await, ["+ns/two"], "and nothing of the other server");
    cluster.revoke("one").await;
    assert_eq!(told(&mut filter).await, ["+ns/one"]);
    let enforced = operator.get("enforcement/sessions/ns/one?timeout_ms=10000").await;
    assert_eq!((&enforced["complete"], &enforced["of"]), (&true.into(), &1.into()), "{enforced}");
    cluster.delete("MCPAgentSession", "two").await;
    assert_eq!(told(&mut filter).await, ["-ns/two"]);
    let grant = json!({ "serverRef": { "name": "pay" }, "subject": { "humanID": "h" }, "allowedSideEffects": ["read"] });
    cluster.make("MCPAccessGrant", "g", grant).await;
    assert_eq!(told(&mut filter).await, ["+ns/g"]);
    cluster.delete("MCPServer", "pay").await;
    let mut gone = both(&mut filter).await;
    gone.sort();
    assert_eq!(gone, ["-ns/g", "-ns/one"], "nothing is left of a server that is gone");
}

/// A token says who a proxy is; what it calls itself opens nothing.
#[tokio::test(flavor = "multi_thread")]
async fn who_calls_itself_another_servers_proxy_has_what_its_token_opens() {
    let Some(cluster) = Cluster::start().await else { return };
    for server in ["pay", "other"] {
        cluster.server(server).await;
        cluster.session(&format!("of-{server}"), server).await;
    }
    let token = cluster.pod_token("pay", "pay-1").await;
    cluster.pod_token("other", "other-1").await;
    let operator = Operator::ready(&cluster, "a", &[]).await;
    let mut thief = Filter::connect(&operator.folder(), operator.xds, Some(&token)).await.unwrap();
    thief.subscribe("ns/other-1/1/x");
    assert_eq!(thief.synchronise().await, ["ns/of-pay"]);
    cluster.revoke("of-other").await;
    cluster.session("more", "pay").await;
    assert_eq!(told(&mut thief).await, ["+ns/more"], "and nothing of the other server");
    let enforced = operator.get("enforcement/sessions/ns/of-other").await;
    assert_eq!(enforced["of"], 0, "nobody enforces for the other server: {enforced}");
    let proxies = async |server: &str| {
        let all = operator.get(&format!("proxies?server=ns/{server}")).await;
        all["proxies"].as_array().unwrap().iter().map(|proxy| proxy["proxy"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(proxies("other").await, [json!(null); 0]);
    assert_eq!(proxies("pay").await, [json!("ns/pay-1")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_namespace_grants_counts_while_the_servers_owner_lists_it() {
    const ELSEWHERE: &str = "elsewhere";
    let Some(cluster) = Cluster::start().await else { return };
    cluster.server.kubectl(&["create", "namespace", ELSEWHERE], "");
    cluster.server("pay").await;
    let token = cluster.pod_token("pay", "pay-1").await;
    let operator = Operator::ready(&cluster, "a", &[]).await;
    let mut filter = operator.filter(&token, "ns/pay-1/1/x").await;
    let spec =
        json!({ "serverRef": { "name": "pay", "namespace": NAMESPACE }, "subject": { "humanID": "h" } });
    let mut grant = spec.clone();
    grant["allowedSideEffects"] = json!(["read"]);
    cluster.make_in(ELSEWHERE, "MCPAccessGrant", "guest", grant).await;
    cluster.make_in(ELSEWHERE, "MCPAgentSession", "guest", spec).await;
    let is_refused = async || {
        operator.problems("MCPAgentSession/guest").await == ["NotAccepted"]
            && cluster.phase(ELSEWHERE, "MCPAgentSession", "guest").await == "Rejected"
            && cluster.phase(ELSEWHERE, "MCPAccessGrant", "guest").await == "Rejected"
    };
    until("nobody accepts them", is_refused).await;
    cluster.session("own", "pay").await;
    assert_eq!(told(&mut filter).await, ["+ns/own"], "they have no effect");

    cluster.change("MCPServer", "pay", json!({ "acceptedNamespaces": [ELSEWHERE] })).await;
    assert_eq!(both(&mut filter).await, ["+elsewhere/guest", "+elsewhere/guest"]);
    until("their statuses tell that they count", async || {
        operator.problems("MCPAgentSession/guest").await.is_empty()
            && cluster.phase(ELSEWHERE, "MCPAgentSession", "guest").await == "Active"
    })
    .await;

    cluster.change("MCPServer", "pay", json!({ "acceptedNamespaces": [] })).await;
    assert_eq!(both(&mut filter).await, ["-elsewhere/guest", "-elsewhere/guest"]);
    for kind in ["sessions", "grants"] {
        let path = format!("enforcement/{kind}/elsewhere/guest?version=&timeout_ms=10000");
        let enforced = operator.get(&path).await;
        assert_eq!(
            (&enforced["complete"], &enforced["enforced"], &enforced["of"]),
            (&true.into(), &1.into(), &1.into()),
            "{kind}: {enforced}"
        );
    }
    until("nobody accepts them any more", is_refused).await;
}

/// What is told in one or two responses: a grant and a session.
async fn both(filter: &mut Filter) -> Vec<String> {
    let mut all = told(filter).await;
    if all.len() < 2 {
        all.extend(told(filter).await);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_tell_how_far_a_revocation_has_come() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.server("pay").await;
    cluster.session("one", "pay").await;
    let token = cluster.pod_token("pay", "pay-1").await;
    let operator = Operator::ready(&cluster, "a", &[]).await;
    let mut filter = operator.filter(&token, "ns/pay-1/1/x").await;
    let figure =
        async |name: &str, labels: &[&str]| operator.sum(&format!("sallyport_operator_{name}"), labels).await;
    let settled = async |sessions: f64| {
        figure("connected_proxies", &[]).await == 1.0
            && figure("acknowledged_proxies", &["type=\"sessions\""]).await == sessions
            && figure("changes_unacknowledged", &[]).await == 1.0 - sessions
    };
    until("the proxy counts as up to date", async || settled(1.0).await).await;
    assert_eq!(figure("acknowledged_proxies", &["type=\"configuration\""]).await, 0.0, "that is Envoy's own");
    let propagated = figure("propagation_seconds_count", &[]).await;
    let lagged = figure("watch_lag_seconds_count", &[]).await;
    cluster.revoke("one").await;
    let revoked = filter.next().await;
    until("the proxy counts as behind", async || settled(0.0).await).await;
    assert_eq!(figure("propagation_seconds_count", &[]).await, propagated, "it is still on its way");
    filter.acknowledge(&revoked);
    until("the proxy counts as up to date again", async || settled(1.0).await).await;
    assert_eq!(figure("propagation_seconds_count", &[]).await, propagated + 1.0);
    assert!(figure("watch_lag_seconds_count", &[]).await > lagged);
    until("the work on its server is counted", async || {
        figure("workload_servers", &[]).await == 1.0
            && figure("workload_round_seconds_count", &[]).await >= 1.0
    })
    .await;
    drop(filter);
    until("the proxy is gone", async || figure("connected_proxies", &[]).await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_pod_of_a_server_that_is_there_has_a_stream() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.server("pay").await;
    cluster.make("MCPServer", "direct", json!({ "image": "i" })).await;
    let operator = Operator::ready(&cluster, "a", &[]).await;
    let code = async |token: Option<&str>| {
        Filter::connect(&operator.folder(), operator.xds, token).await.err().map(|status| status.code())
    };
    for server in ["direct", "absent"] {
        let token = cluster.pod_token(server, &format!("{server}-1")).await;
        assert_eq!(code(Some(&token)).await, Some(Code::PermissionDenied), "{server}");
    }
    assert_eq!(code(None).await, Some(Code::Unauthenticated));
    assert_eq!(code(Some("no.such.token")).await, Some(Code::Unauthenticated));
    let token = cluster.pod_token("pay", "pay-1").await;
    assert_eq!(code(Some(&token)).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_older_than_the_rules_are_problems_of_their_own_and_stop_nothing() {
    let Some(cluster) = Cluster::without_our_kinds().await else { return };
    cluster.define_without_rules();
    let gateway = json!({ "enabled": true });
    let hostile = [
        ("MCPServer", "unreadable", json!({ "image": 7, "gateway": gateway })),
        (
            "MCPServer",
            "huge",
            json!({ "image": "i", "gateway": gateway, "description": "\u{202e}x".repeat(50_000) }),
        ),
        ("MCPServer", "path", json!({ "image": "i", "gateway": gateway, "ingressPath": "/../%2e\u{0}" })),
        ("MCPAgentSession", "nobodys", json!({ "serverRef": { "name": "pay" }, "subject": {} })),
        (
            "MCPAgentSession",
            "typed",
            json!({ "serverRef": { "name": "pay" }, "subject": "h", "revoked": "yes" }),
        ),
        (
            "MCPAgentSession",
            "dangling",
            json!({ "serverRef": { "name": "none" }, "subject": { "humanID": "h" } }),
        ),
        ("MCPAccessGrant", "empty", json!({})),
        ("MCPAccessGrant", "nothing", json!(null)),
        (
            "MCPAccessGrant",
            "many",
            json!({ "serverRef": { "name": "pay" }, "subject": { "humanID": "h" },
            "toolRules": (0..5000).map(|n| json!({ "name": format!("t{n}"), "decision": "allow" })).collect::<Vec<_>>() }),
        ),
    ];
    for (kind, name, spec) in &hostile {
        cluster.make(kind, name, spec.clone()).await;
    }
    cluster.server("pay").await;
    cluster.session("good", "pay").await;
    cluster.define();
    let operator = Operator::ready(&cluster, "a", &[]).await;
    for (kind, name, _) in &hostile {
        let object = format!("{kind}/{name}");
        until(&object, async || !operator.problems(&object).await.is_empty()).await;
    }
    let token = cluster.pod_token("pay", "pay-1").await;
    let mut filter = operator.filter(&token, "ns/pay-1/1/x").await;
    cluster.revoke("good").await;
    assert_eq!(told(&mut filter).await, ["+ns/good"]);
    cluster.delete("MCPAgentSession", "nobodys").await;
    until("its problem goes with it", async || operator.problems("MCPAgentSession/nobodys").await.is_empty())
        .await;
}

use serde_json::json;
use tonic::Code;

use crate::filter::Filter;
use crate::support::{Cluster, Operator, told, until};

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
    let mut gone = told(&mut filter).await;
    if gone.len() < 2 {
        gone.extend(told(&mut filter).await);
    }
    gone.sort();
    assert_eq!(gone, ["-ns/g", "-ns/one"], "nothing is left of a server that is gone");
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
    for (kind, plural) in [
        ("MCPServer", "mcpservers"),
        ("MCPAccessGrant", "mcpaccessgrants"),
        ("MCPAgentSession", "mcpagentsessions"),
    ] {
        let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        let version = json!({ "name": "v1alpha1", "served": true, "storage": true,
            "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": anything } } } });
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("{plural}.mcpruntime.org") },
            "spec": { "group": "mcpruntime.org", "scope": "Namespaced", "versions": [version],
                      "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() } },
        });
        cluster.server.kubectl(&["apply", "--server-side", "-f", "-"], &crd.to_string());
        cluster
            .server
            .kubectl(&["wait", "--for=condition=Established", &format!("crd/{plural}.mcpruntime.org")], "");
    }
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

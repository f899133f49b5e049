use serde_json::{Value, json};

use crate::support::{Cluster, NAMESPACE, Operator, told, until};

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_the_last_state_stays_and_changes_arrive_after() {
    let Some(mut cluster) = Cluster::start().await else { return };
    cluster.server("pay").await;
    cluster.session("one", "pay").await;
    let token = cluster.pod_token("pay", "pay-1").await;
    let operator = Operator::ready(&cluster, "a", &[]).await;
    let mut filter = operator.filter(&token, "ns/pay-1/1/x").await;
    cluster.server.stop();
    until("the loss is noticed", async || {
        operator.metric("sallyport_operator_watch_lost_total").await.is_some_and(|lost| lost > 0.0)
    })
    .await;
    assert!(operator.is_ready().await, "it goes on serving what it knows");
    let enforced = operator.get("enforcement/sessions/ns/one").await;
    assert_eq!(enforced["complete"], true, "{enforced}");
    // A worker that comes back meanwhile has all there is: its token is remembered.
    drop(operator.filter(&token, "ns/pay-1/2/x").await);
    cluster.server.restart();
    cluster.revoke("one").await;
    assert_eq!(told(&mut filter).await, ["+ns/one"]);
}

/// A watch that begins before what etcd has forgotten is refused (410), and everything is listed anew.
#[tokio::test(flavor = "multi_thread")]
async fn what_went_while_nobody_could_tell_is_found_gone() {
    let Some(mut cluster) = Cluster::start().await else { return };
    cluster.server("pay").await;
    for name in ["one", "two"] {
        cluster.session(name, "pay").await;
    }
    let token = cluster.pod_token("pay", "pay-1").await;
    let operator = Operator::ready(&cluster, "a", &[]).await;
    let mut filter = operator.filter(&token, "ns/pay-1/1/x").await;
    cluster.server.stop();
    // As if another API server had deleted it, and its own history were gone since.
    let key = format!("/registry/mcpruntime.org/mcpagentsessions/{NAMESPACE}/one");
    let deleted = etcd(&cluster, "kv/deleterange", json!({ "key": encoded(&key) })).await;
    assert_eq!(deleted["deleted"], "1", "{deleted}");
    let revision = deleted["header"]["revision"].clone();
    etcd(&cluster, "kv/compaction", json!({ "revision": revision, "physical": true })).await;
    cluster.server.restart();
    assert_eq!(told(&mut filter).await, ["-ns/one"]);
    cluster.revoke("two").await;
    assert_eq!(told(&mut filter).await, ["+ns/two"], "and the watch goes on");
}

async fn etcd(cluster: &Cluster, path: &str, body: Value) -> Value {
    let url = format!("{}/v3/{path}", cluster.server.etcd_url());
    reqwest::Client::new().post(url).json(&body).send().await.unwrap().json().await.unwrap()
}

fn encoded(text: &str) -> Value {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap()
}

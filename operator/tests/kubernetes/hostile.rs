//! Malformed and hostile objects that are stored: those of one tenant keep nothing from the proxies of another.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::generated::{Numbers, storable};
use crate::support::{Cluster, NAMESPACE, Operator, told, until};

const OBJECTS: usize = 1000;
/// A revocation takes no longer beside them.
const BITES: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_passes_a_thousand_hostile_objects_that_are_stored() {
    let Some(cluster) = Cluster::without_our_kinds().await else { return };
    cluster.define_without_rules();
    cluster.server("pay").await;
    for session in ["first", "second"] {
        cluster.session(session, "pay").await;
    }
    let token = cluster.pod_token("pay", "pay-1").await;
    let operator = Operator::ready(&cluster, "a", &[]).await;
    let mut filter = operator.filter(&token, "ns/pay-1/1/x").await;
    let (mut numbers, mut stored) = (Numbers::new(3), 0);
    while stored < OBJECTS {
        let (kind, manifest) = storable(&mut numbers);
        stored += usize::from(cluster.store(kind, &manifest).await);
    }
    until("all are taken in", async || operator.sum("sallyport_operator_changes_total", &[]).await >= 1003.0)
        .await;
    let problems = operator.get("problems").await["objects"].as_array().unwrap().len();
    assert!(problems > OBJECTS / 2, "{problems} are told of");
    revoke(&cluster, &mut filter, "first").await;
    until("its status is told", async || {
        cluster.phase(NAMESPACE, "MCPAgentSession", "first").await == "Revoked"
    })
    .await;

    // Today's rules come, which most of what is stored breaks.
    cluster.define();
    revoke(&cluster, &mut filter, "second").await;
    cluster.make("MCPServer", "sound", json!({ "image": "i", "gateway": { "enabled": true } })).await;
    until("a new server is told of", async || {
        !cluster.phase(NAMESPACE, "MCPServer", "sound").await.is_empty()
    })
    .await;
    assert!(operator.is_ready().await);
}

async fn revoke(cluster: &Cluster, filter: &mut crate::filter::Filter, session: &str) {
    let began = Instant::now();
    cluster.revoke(session).await;
    assert_eq!(told(filter).await, [format!("+ns/{session}")]);
    assert!(began.elapsed() < BITES, "{session}: {:?}", began.elapsed());
}

use std::time::{Duration, Instant};

use crate::partition::Cut;
use crate::support::{Cluster, NAMESPACE, Operator, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_ends_hands_over_at_once() {
    let Some(cluster) = Cluster::start().await else { return };
    let first = Operator::ready(&cluster, "a", &[]).await;
    until("the first leads", async || first.leads().await).await;
    let second = Operator::ready(&cluster, "b", &[]).await;
    assert!(!second.leads().await);
    let began = Instant::now();
    first.stop().await;
    until("the second leads", async || second.leads().await).await;
    // Without being released, a lease stands for 15 s.
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_gives_up_before_another_takes_over() {
    let Some(cluster) = Cluster::start().await else { return };
    let cut = Cut::before(&cluster).await;
    let first = Operator::start(&cut.kubeconfig(&cluster), "a", &[]);
    until("the first leads", async || first.leads().await).await;
    let second = Operator::ready(&cluster, "b", &[]).await;
    cluster.server("pay").await;
    until("the server is known", async || !cluster.phase(NAMESPACE, "MCPServer", "pay").await.is_empty())
        .await;
    cluster.session("before", "pay").await;
    until("the first writes statuses", async || statuses(&first).await == 1.0).await;
    cut.cut();
    cluster.session("after", "pay").await;
    until("either of them changes", async || {
        let (first, second) = (first.leads().await, second.leads().await);
        assert!(!(first && second), "there is never more than one");
        second
    })
    .await;
    let has_status =
        async |session: &str| !cluster.phase(NAMESPACE, "MCPAgentSession", session).await.is_empty();
    until("the second writes what came meanwhile", async || has_status("after").await).await;
    until("the second counts it", async || statuses(&second).await == 1.0).await;
    cut.heal();
    until("the first is back, and follows", async || first.is_ready().await).await;
    for number in 0..20 {
        cluster.session(&format!("later-{number}"), "pay").await;
    }
    until("the first has heard of all", async || {
        first.sum("sallyport_operator_changes_total", &["kind=\"MCPAgentSession\""]).await >= 22.0
    })
    .await;
    until("the second writes on", async || statuses(&second).await >= 21.0).await;
    assert!(!first.leads().await && second.leads().await);
    assert_eq!(statuses(&first).await, 1.0, "the one from before the cut");
}

/// Statuses of sessions that an operator wrote, or tried to write.
async fn statuses(operator: &Operator) -> f64 {
    operator.sum("sallyport_operator_status_writes_total", &["kind=\"MCPAgentSession\""]).await
}

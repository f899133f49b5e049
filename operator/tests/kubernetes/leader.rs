use std::time::{Duration, Instant};

use crate::partition::Cut;
use crate::support::{Cluster, Operator, until};

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
    cut.cut();
    until("either of them changes", async || {
        let (first, second) = (first.leads().await, second.leads().await);
        assert!(!(first && second), "there is never more than one");
        second
    })
    .await;
    cut.heal();
    until("the first is back, and follows", async || first.is_ready().await).await;
    assert!(!first.leads().await && second.leads().await);
}

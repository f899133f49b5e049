use crate::support::{Cluster, Operator, told, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxies_of_all_replicas_enforce_is_one_answer_counted_by_proxy() {
    let Some(cluster) = Cluster::start().await else { return };
    cluster.server("pay").await;
    cluster.session("one", "pay").await;
    let tokens = [cluster.pod_token("pay", "pay-1").await, cluster.pod_token("pay", "pay-2").await];
    let first = Operator::ready(&cluster, "a", &[]).await;
    let second =
        Operator::ready(&cluster, "b", &[format!("--peers={}", first.admin), "--gateway-filters=2".into()])
            .await;
    let mut here = second.filter(&tokens[0], "ns/pay-1/1/x").await;
    let mut there = first.filter(&tokens[0], "ns/pay-1/2/x").await;
    let mut other = first.filter(&tokens[1], "ns/pay-2/1/x").await;
    let mut another = second.filter(&tokens[1], "ns/pay-2/2/x").await;
    let path = "enforcement/sessions/ns/one";
    let whole = second.get(&format!("{path}?timeout_ms=20000")).await;
    assert_eq!(
        (&whole["complete"], &whole["enforced"], &whole["of"]),
        (&true.into(), &2.into(), &2.into()),
        "{whole}"
    );
    cluster.revoke("one").await;
    assert_eq!(told(&mut here).await, ["+ns/one"]);
    assert_eq!(told(&mut other).await, ["+ns/one"]);
    assert_eq!(told(&mut another).await, ["+ns/one"]);
    let late = there.next().await;
    let version = late.resources[0].version.clone();
    let half = second.get(&format!("{path}?version={version}&timeout_ms=300")).await;
    assert_eq!(
        (&half["complete"], &half["enforced"], &half["of"]),
        (&false.into(), &1.into(), &2.into()),
        "{half}"
    );
    assert_eq!(
        half["pending"][0], "ns/pay-1",
        "one of its workers is served elsewhere, and has not answered"
    );
    there.acknowledge(&late);
    let whole = second.get(&format!("{path}?version={version}&timeout_ms=20000")).await;
    assert_eq!((&whole["complete"], &whole["enforced"]), (&true.into(), &2.into()), "{whole}");
    drop((there, other));
    first.stop().await;
    until("a filter that is connected nowhere any more is missed", async || {
        let alone = second.get(&format!("{path}?version={version}")).await;
        alone["complete"] == false && alone["pending"].to_string().contains("only 1 of 2 filters")
    })
    .await;
}

//! Canaries, promotions and ways back.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::fixture::{Fixture, image};
use crate::render::ChildKind;

const DEPLOYMENT: ChildKind = ChildKind::Deployment;

fn canary(image: &str) -> Value {
    // What Go would write otherwise in JSON stands in the environment.
    let odd = json!([{ "name": "ODD", "value": "a<b>&\u{2028}" }]);
    let rollout = json!({ "strategy": "Canary", "canaryReplicas": 1 });
    json!({ "image": image, "replicas": 3, "gateway": { "enabled": true }, "rollout": rollout, "envVars": odd })
}

async fn runs(fixture: &Fixture, name: &str, wanted: &str, replicas: i32) {
    let is = |found: Option<&Value>| {
        let replicas_there = found.and_then(|found| found.pointer("/spec/replicas"));
        found.is_some_and(|found| image(found) == wanted) && replicas_there == Some(&json!(replicas))
    };
    fixture.until(DEPLOYMENT, name, is).await;
}

async fn with_canary() -> Option<Fixture> {
    let fixture = Fixture::new().await?;
    fixture.server("payments", canary("payments:1")).await;
    runs(&fixture, "payments", "payments:1", 3).await;
    fixture.server("payments", canary("payments:2")).await;
    runs(&fixture, "payments-canary", "payments:2", 1).await;
    runs(&fixture, "payments", "payments:1", 2).await;
    Some(fixture)
}

#[tokio::test]
async fn a_canary_runs_the_new_template_until_it_is_promoted() {
    let Some(fixture) = with_canary().await else { return };
    let report = fixture.until_told("payments", |report| report.workload.canary.is_some()).await;
    assert_eq!(report.rollout.map(|rollout| (rollout.stable, rollout.canary)), Some((Some(1), Some(2))));
    fixture.annotate("payments", json!({ "mcpruntime.org/promote": "2" })).await;
    runs(&fixture, "payments", "payments:2", 3).await;
    fixture.until_gone(DEPLOYMENT, "payments-canary").await;
}

#[tokio::test]
async fn a_canary_that_is_rolled_back_goes_and_a_promotion_can_be_undone() {
    let Some(fixture) = with_canary().await else { return };
    fixture.annotate("payments", json!({ "mcpruntime.org/rollback": "2" })).await;
    fixture.until_gone(DEPLOYMENT, "payments-canary").await;
    runs(&fixture, "payments", "payments:1", 3).await;
    let report =
        fixture.until_told("payments", |report| report.rollout.is_some_and(|r| r.rejected.is_some())).await;
    assert_eq!(report.rollout.map(|rollout| (rollout.stable, rollout.rejected)), Some((Some(1), Some(2))));

    let promote = json!({ "mcpruntime.org/rollback": null, "mcpruntime.org/promote": "2" });
    fixture.annotate("payments", promote).await;
    runs(&fixture, "payments", "payments:2", 3).await;
    let undo = json!({ "mcpruntime.org/rollback": "2", "mcpruntime.org/promote": null });
    fixture.annotate("payments", undo).await;
    runs(&fixture, "payments", "payments:1", 3).await;
}

#[tokio::test]
async fn a_strategy_that_is_changed_away_ends_the_canary() {
    let Some(fixture) = with_canary().await else { return };
    fixture
        .server("payments", json!({ "image": "payments:2", "replicas": 3, "gateway": { "enabled": true } }))
        .await;
    fixture.until_gone(DEPLOYMENT, "payments-canary").await;
    runs(&fixture, "payments", "payments:2", 3).await;
}

#[tokio::test]
async fn a_leader_that_comes_new_goes_on_with_the_canary() {
    let Some(fixture) = with_canary().await else { return };
    fixture.settle().await;
    fixture.lead(false);
    while fixture.report("payments").is_some() {
        tokio::task::yield_now().await;
    }
    fixture.lead(true);
    let report = fixture.until_told("payments", |report| report.rollout.is_some()).await;
    assert_eq!(report.rollout.map(|rollout| (rollout.stable, rollout.canary)), Some((Some(1), Some(2))));
    fixture.settle().await;
    runs(&fixture, "payments", "payments:1", 2).await;
    runs(&fixture, "payments-canary", "payments:2", 1).await;
}

#[tokio::test]
async fn ten_revisions_are_kept_with_their_templates() {
    let Some(fixture) = Fixture::new().await else { return };
    for number in 1..=13 {
        let image_name = format!("payments:{number}");
        fixture.server("payments", json!({ "image": image_name, "gateway": { "enabled": true } })).await;
        fixture
            .until(DEPLOYMENT, "payments", |found| found.is_some_and(|found| image(found) == image_name))
            .await;
    }
    fixture.settle().await;
    let labels = ListParams::default().labels("mcpruntime.org/server=payments");
    let kept = fixture.api::<ControllerRevision>().list(&labels).await.unwrap();
    let mut numbers: Vec<i64> = kept.iter().map(|revision| revision.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (4..=13).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_canary_that_changes_ports_is_refused_and_nothing_changes() {
    let Some(fixture) = with_canary().await else { return };
    let mut spec = canary("payments:3");
    spec["gateway"]["port"] = json!(9000);
    fixture.server("payments", spec).await;
    let report = fixture.until_told("payments", |report| !report.problems.is_empty()).await;
    assert_eq!(report.problems[0].reason, "CanaryChangesPorts");
    fixture.settle().await;
    runs(&fixture, "payments", "payments:1", 2).await;
    runs(&fixture, "payments-canary", "payments:2", 1).await;
}

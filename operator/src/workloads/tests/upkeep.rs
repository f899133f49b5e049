//! What is rendered is there, and stays as it is rendered.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::fixture::{Fixture, WRITES_OF_A_SERVER, apply, from, image, scale, settings};
use crate::render::{ChildKind, Settings};

const GOVERNED: &str = "payments:1";

fn governed() -> Value {
    json!({ "image": GOVERNED, "replicas": 2, "gateway": { "enabled": true } })
}

async fn governed_server() -> Option<Fixture> {
    let fixture = Fixture::new().await?;
    fixture.server("payments", governed()).await;
    fixture.until_there(ChildKind::Ingress, "payments").await;
    fixture.settle().await;
    Some(fixture)
}

#[tokio::test]
async fn a_new_server_has_all_its_objects_within_a_second() {
    let Some(fixture) = Fixture::new().await else { return };
    // Watching has begun by then.
    fixture.settle().await;
    let began = Instant::now();
    fixture.server("payments", governed()).await;
    fixture.until_there(ChildKind::Ingress, "payments").await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    for (kind, name) in [
        (ChildKind::ServiceAccount, "mcp-workload-payments"),
        (ChildKind::ConfigMap, "payments-gateway"),
        (ChildKind::Deployment, "payments"),
        (ChildKind::Service, "payments"),
        (ChildKind::NetworkPolicy, "payments"),
        (ChildKind::PodDisruptionBudget, "payments"),
    ] {
        assert!(fixture.get(kind, name).await.is_some(), "{kind:?}");
    }
    let report = fixture.until_told("payments", |report| report.workload.ingress.is_some()).await;
    assert_eq!(
        (report.workload.service, report.problems.len(), &report.workload.failure),
        (Some(true), 0, &None)
    );
    let rollout = report.rollout.unwrap();
    assert_eq!((rollout.stable, rollout.canary, rollout.rejected), (Some(1), None, None));
}

#[tokio::test]
async fn nothing_is_written_where_nothing_changed() {
    let Some(fixture) = governed_server().await else { return };
    let before = fixture.writes.load(Ordering::SeqCst);
    // Its status, and that of its Deployment, are no reason to write.
    let status = json!({ "status": { "phase": "Ready" } });
    let api = fixture.api::<sallyport_api::v1alpha1::MCPServer>();
    api.patch_status("payments", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let deployments = fixture.api::<k8s_openapi::api::apps::v1::Deployment>();
    let status = json!({ "status": { "replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2, "observedGeneration": 1 } });
    deployments.patch_status("payments", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    fixture.until_told("payments", |report| report.workload.available() == 2).await;
    fixture.server("payments", governed()).await;
    assert_eq!(fixture.settle().await - before, WRITES_OF_A_SERVER, "no more than the one that settles");
}

#[tokio::test]
async fn what_somebody_changes_or_deletes_is_put_right() {
    let Some(fixture) = governed_server().await else { return };
    let container = json!([{ "name": "payments", "image": "mallory:1" }]);
    fixture
        .patch(
            ChildKind::Deployment,
            "payments",
            json!({ "spec": { "template": { "spec": { "containers": container } } } }),
        )
        .await;
    fixture
        .until(ChildKind::Deployment, "payments", |found| found.is_some_and(|found| image(found) == GOVERNED))
        .await;

    let open = json!({ "spec": { "ingress": [{}] } });
    fixture.patch(ChildKind::NetworkPolicy, "payments", open).await;
    fixture.until_has(ChildKind::NetworkPolicy, "payments", "/spec/ingress/0/ports/0/port", 8091).await;

    fixture
        .patch(ChildKind::ConfigMap, "payments-gateway", json!({ "data": { "bootstrap.yaml": "x" } }))
        .await;
    fixture.until_has(ChildKind::ConfigMap, "payments-gateway", "/data/bootstrap.yaml", "admin: {}\n").await;

    fixture.delete(ChildKind::Service, "payments").await;
    fixture.until_there(ChildKind::Service, "payments").await;

    let bare = json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": null } } });
    fixture.patch(ChildKind::ServiceAccount, "mcp-workload-payments", bare).await;
    let label = "/metadata/labels/app.kubernetes.io~1managed-by";
    fixture.until_has(ChildKind::ServiceAccount, "mcp-workload-payments", label, "sallyport").await;
}

#[tokio::test]
async fn what_belongs_to_others_survives() {
    let Some(fixture) = governed_server().await else { return };
    let restarted = json!({ "kubectl.kubernetes.io/restartedAt": "now" });
    let patch = json!({ "spec": { "template": { "metadata": { "annotations": restarted } } } });
    fixture.patch(ChildKind::Deployment, "payments", patch).await;
    scale(&fixture, "payments", 7).await;

    let spec = |image: &str, replicas: i32| json!({ "image": image, "replicas": replicas, "gateway": { "enabled": true } });
    fixture.server("payments", spec("payments:2", 2)).await;
    let is_new = |found: Option<&Value>| found.is_some_and(|found| image(found) == "payments:2");
    let deployment = fixture.until(ChildKind::Deployment, "payments", is_new).await.unwrap();
    let annotation = "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt";
    assert_eq!(deployment.pointer(annotation), Some(&json!("now")));
    assert_eq!(deployment.pointer("/spec/replicas"), Some(&json!(7)), "an autoscaler's");

    fixture.server("payments", spec("payments:2", 3)).await;
    fixture.until_has(ChildKind::Deployment, "payments", "/spec/replicas", 3).await;
}

#[tokio::test]
async fn an_object_of_somebody_else_is_not_touched_and_named() {
    let Some(fixture) = Fixture::new().await else { return };
    let service: k8s_openapi::api::core::v1::Service =
        from(json!({ "metadata": { "name": "payments" }, "spec": { "ports": [{ "port": 1 }] } }));
    fixture.api().create(&PostParams::default(), &service).await.unwrap();
    fixture.server("payments", governed()).await;
    let report = fixture.until_told("payments", |report| report.workload.failure.is_some()).await;
    let failure = report.workload.failure.clone().unwrap();
    assert!(failure.contains("Service `payments` exists"), "{failure}");
    let there = fixture.get(ChildKind::Service, "payments").await.unwrap();
    assert_eq!(there.pointer("/spec/ports/0/port"), Some(&json!(1)));

    fixture.delete(ChildKind::Service, "payments").await;
    fixture.until_has(ChildKind::Service, "payments", "/spec/ports/0/targetPort", 8091).await;
    fixture.until_told("payments", |report| report.workload.failure.is_none()).await;
}

#[tokio::test]
async fn what_is_not_wanted_any_more_goes() {
    let Some(fixture) = governed_server().await else { return };
    let others = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "others", "namespace": fixture.namespace,
            "labels": { "app.kubernetes.io/managed-by": "sallyport", "mcpruntime.org/server": "payments" },
        },
    });
    apply(&fixture.admin, &others).await;
    fixture.server("payments", json!({ "image": GOVERNED, "gateway": { "enabled": false } })).await;
    fixture.until_gone(ChildKind::ConfigMap, "payments-gateway").await;
    fixture.until_gone(ChildKind::PodDisruptionBudget, "payments").await;
    fixture.until_has(ChildKind::Service, "payments", "/spec/ports/0/targetPort", 8088).await;
    fixture.settle().await;
    assert!(
        fixture.get(ChildKind::ConfigMap, "others").await.is_some(),
        "it carries our labels, and is not the server's"
    );
}

#[tokio::test]
async fn strategies_follow_one_another() {
    let Some(fixture) = governed_server().await else { return };
    for (strategy, unavailable) in
        [("Recreate", Value::Null), ("RollingUpdate", json!("25%")), ("Recreate", Value::Null)]
    {
        let mut spec = governed();
        spec["rollout"] = json!({ "strategy": strategy });
        fixture.server("payments", spec).await;
        let there =
            fixture.until_has(ChildKind::Deployment, "payments", "/spec/strategy/type", strategy).await;
        let found = there.pointer("/spec/strategy/rollingUpdate/maxUnavailable").cloned();
        assert_eq!(found.unwrap_or_default(), unavailable);
    }
}

#[tokio::test]
async fn a_bad_change_leaves_everything_as_it_was() {
    let Some(fixture) = governed_server().await else { return };
    let mut spec = governed();
    spec["image"] = json!("payments:2");
    spec["envVars"] = json!([{ "name": "A", "value": "1" }]);
    spec["env"] = json!([{ "name": "A", "value": "2" }]);
    fixture.server("payments", spec).await;
    let report = fixture.until_told("payments", |report| !report.problems.is_empty()).await;
    assert_eq!(
        (report.problems[0].path.as_str(), report.problems[0].reason),
        ("spec.env[0].name", "DuplicateVariable")
    );
    fixture.settle().await;
    assert_eq!(image(&fixture.get(ChildKind::Deployment, "payments").await.unwrap()), GOVERNED);
}

#[tokio::test]
async fn a_platform_that_demands_gateways_withdraws_servers_without() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.server("payments", json!({ "image": GOVERNED })).await;
    fixture.until_there(ChildKind::Ingress, "payments").await;
    fixture.set(Settings { require_gateway: true, ..settings() });
    fixture.until_gone(ChildKind::Service, "payments").await;
    fixture.until_gone(ChildKind::Ingress, "payments").await;
    fixture
        .until(ChildKind::NetworkPolicy, "payments", |found| {
            found.is_some_and(|f| f.pointer("/spec/ingress").is_none())
        })
        .await;
    let report = fixture.until_told("payments", |report| !report.problems.is_empty()).await;
    assert_eq!(report.problems[0].reason, "GatewayRequired");
    assert!(fixture.get(ChildKind::Deployment, "payments").await.is_some(), "its pods stay");
}

#[tokio::test]
async fn of_two_servers_in_one_place_the_older_has_it_until_it_goes() {
    let Some(fixture) = Fixture::new().await else { return };
    let spec = json!({ "image": GOVERNED, "ingressPath": "/shared/mcp", "ingressHost": format!("{}.example", fixture.namespace) });
    fixture.server("a-first", spec.clone()).await;
    fixture.until_there(ChildKind::Ingress, "a-first").await;
    fixture.server("b-second", spec).await;
    let report = fixture.until_told("b-second", |report| !report.problems.is_empty()).await;
    assert_eq!(report.problems[0].reason, "RouteCollision");
    fixture.until_there(ChildKind::Service, "b-second").await;
    fixture.settle().await;
    assert!(fixture.get(ChildKind::Ingress, "b-second").await.is_none());
    fixture.gone("a-first");
    fixture.until_there(ChildKind::Ingress, "b-second").await;
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing_and_who_does_again_catches_up() {
    let Some(fixture) = governed_server().await else { return };
    fixture.lead(false);
    // It hears, and does not act.
    fixture.server("other", json!({ "image": "a:1" })).await;
    fixture.delete(ChildKind::Service, "payments").await;
    let before = fixture.writes.load(Ordering::SeqCst);
    while fixture.report("payments").is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.writes.load(Ordering::SeqCst), before);
    fixture.lead(true);
    fixture.until_there(ChildKind::Service, "payments").await;
    fixture.until_there(ChildKind::Ingress, "other").await;
}

fn with_secret() -> Value {
    let variable = json!({ "name": "KEY", "secretKeyRef": { "name": "keys", "key": "k" } });
    json!({ "image": GOVERNED, "secretEnvVars": [variable] })
}

async fn put_secret(fixture: &Fixture, value: &str, label: &str) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "keys", "labels": { "x": label } }, "stringData": { "k": value, "other": label },
    });
    let parameters = PatchParams::apply("developer").force();
    fixture.api::<Secret>().patch("keys", &parameters, &Patch::Apply(&secret)).await.unwrap();
}

/// The namespace binds `sallyport-secrets` to the operator.
async fn let_keep_secrets(fixture: &Fixture) {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "sallyport-secrets", "namespace": fixture.namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "sallyport-secrets" },
        "subjects": [{ "kind": "ServiceAccount", "name": "sallyport-operator", "namespace": "sallyport-system" }],
    });
    apply(&fixture.admin, &binding).await;
}

const DIGEST: &str = "/spec/template/metadata/annotations/mcpruntime.org~1secrets-hash";

#[tokio::test]
async fn the_content_of_a_secret_restarts_pods_where_the_operator_may_read_it() {
    let Some(fixture) = Fixture::new().await else { return };
    let_keep_secrets(&fixture).await;
    put_secret(&fixture, "one", "a").await;
    fixture.server("payments", with_secret()).await;
    let digest = |found: &Value| found.pointer(DIGEST).and_then(Value::as_str).map(str::to_string);
    let has = |found: Option<&Value>| found.is_some_and(|found| digest(found).is_some());
    let first = digest(&fixture.until(ChildKind::Deployment, "payments", has).await.unwrap());
    assert_eq!(fixture.until_told("payments", |report| report.rollout.is_some()).await.problems, []);

    put_secret(&fixture, "two", "a").await;
    let is_another = |found: Option<&Value>| found.is_some_and(|found| digest(found) != first);
    let second = digest(&fixture.until(ChildKind::Deployment, "payments", is_another).await.unwrap());

    // Other keys and labels of the Secret are nothing to the pods.
    put_secret(&fixture, "two", "b").await;
    fixture.settle().await;
    assert_eq!(digest(&fixture.get(ChildKind::Deployment, "payments").await.unwrap()), second);
    let names: BTreeSet<String> = fixture.names(ChildKind::ControllerRevision).await;
    assert_eq!(names.iter().filter(|name| name.starts_with("payments-")).count(), 2);
}

#[tokio::test]
async fn secrets_that_the_operator_may_not_read_are_told_and_do_not_stand_in_the_way() {
    let Some(fixture) = Fixture::new().await else { return };
    put_secret(&fixture, "one", "a").await;
    fixture.server("payments", with_secret()).await;
    let there = fixture.until_there(ChildKind::Deployment, "payments").await;
    assert_eq!(there.pointer(DIGEST), None);
    let report = fixture.until_told("payments", |report| report.rollout.is_some()).await;
    assert_eq!(
        report.problems.iter().map(|problem| problem.reason).collect::<Vec<_>>(),
        ["SecretsUnreadable"]
    );
}

/// Pulls from the platform's own registry.
fn registry() -> Settings {
    let registry = crate::render::Registry {
        url: Some("registry.example.com".into()),
        username: Some("pull".into()),
        password: Some("p".into()),
        ..crate::render::Registry::default()
    };
    Settings { registry, ..settings() }
}

fn provisioned(is_used: bool) -> Value {
    json!({ "image": "payments:1", "useProvisionedRegistry": is_used })
}

#[tokio::test]
async fn the_provisioned_registry_needs_the_right_to_keep_its_secret() {
    let Some(fixture) = Fixture::new().await else { return };
    fixture.set(registry());
    fixture.server("payments", provisioned(true)).await;
    let report = fixture.until_told("payments", |report| !report.problems.is_empty()).await;
    assert_eq!(report.problems[0].reason, "PullSecretForbidden");
    fixture.until_there(ChildKind::Deployment, "payments").await;
}

#[tokio::test]
async fn where_it_may_be_kept_the_pull_secret_is_there_and_named_while_it_is_used() {
    const SECRET: &str = "payments-registry-pull";
    const NAMED: &str = "/imagePullSecrets/0/name";
    let Some(fixture) = Fixture::new().await else { return };
    let_keep_secrets(&fixture).await;
    fixture.set(registry());
    fixture.server("payments", provisioned(true)).await;
    let secret = fixture.until_there(ChildKind::Secret, SECRET).await;
    assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
    let secret: Secret = from(secret);
    let content: Value = serde_json::from_slice(&secret.data.unwrap()[".dockerconfigjson"].0).unwrap();
    let credentials = &content["auths"]["registry.example.com"];
    assert_eq!((&credentials["username"], &credentials["password"]), (&json!("pull"), &json!("p")));
    fixture.until_has(ChildKind::ServiceAccount, "mcp-workload-payments", NAMED, SECRET).await;
    let report = fixture.until_told("payments", |report| report.rollout.is_some()).await;
    assert_eq!(report.problems, []);

    fixture.server("payments", provisioned(false)).await;
    fixture.until_gone(ChildKind::Secret, SECRET).await;
    let is_named = |found: Option<&Value>| found.is_none_or(|found| found.pointer(NAMED).is_some());
    fixture.until(ChildKind::ServiceAccount, "mcp-workload-payments", |found| !is_named(found)).await;
}

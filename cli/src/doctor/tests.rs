use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use sallyport_api::v1alpha1::MCPServer;
use sallyport_test_support::ApiServer;
use serde_json::{Value, json};

use super::*;
use crate::install::apply;
use crate::install::manifests::{Overlay, compose};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn server(name: &str, gateway: bool, class: Option<&str>, enforced: Option<&str>) -> MCPServer {
    let conditions: Vec<Value> = enforced
        .map(|status| {
            json!({ "type": "Enforced", "status": status, "reason": "Waiting", "message": "on 1/2 proxies",
                "lastTransitionTime": "2030-01-01T00:00:00Z" })
        })
        .into_iter()
        .collect();
    read(json!({
        "apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPServer",
        "metadata": { "name": name, "namespace": "ns" },
        "spec": { "image": "i", "gateway": { "enabled": gateway }, "ingressClass": class },
        "status": { "conditions": conditions },
    }))
}

#[test]
fn a_cluster_without_native_sidecars_is_too_old() {
    assert_eq!(cluster::version("v1.29.1", "29").severity, Severity::Ok);
    assert_eq!(cluster::version("v1.36.3-gke", "36+").severity, Severity::Ok);
    assert_eq!(cluster::version("v1.28.9", "28").severity, Severity::Failure);
}

#[test]
fn a_definition_is_compared_with_that_of_this_version() {
    let [ours, ..] = sallyport_api::crds();
    assert_eq!(cluster::definition(&ours, None).severity, Severity::Failure);
    assert!(cluster::definition(&ours, Some(&ours)).message.contains("not established"));
    let mut live = ours.clone();
    live.status = Some(read(json!({ "conditions": [{ "type": "Established", "status": "True",
        "lastTransitionTime": "2030-01-01T00:00:00Z", "reason": "", "message": "" }] })));
    assert_eq!(cluster::definition(&ours, Some(&live)).severity, Severity::Ok);
    live.spec.versions[0].schema = None;
    assert_eq!(cluster::definition(&ours, Some(&live)).severity, Severity::Warning);
}

#[test]
fn clocks_that_differ_are_told() {
    let now = time("2030-01-01T12:00:00Z");
    assert_eq!(cluster::skew("it", time("2030-01-01T12:00:05Z"), now).severity, Severity::Ok);
    assert!(cluster::skew("it", time("2030-01-01T13:00:00Z"), now).message.contains("3600 s ahead"));
    assert!(cluster::skew("it", time("2030-01-01T11:59:00Z"), now).message.contains("60 s behind"));
    let node = |renewed: &str| {
        let lease: Lease = read(json!({ "metadata": { "name": "n1" }, "spec": { "renewTime": renewed } }));
        cluster::node(&lease, now)
    };
    assert_eq!(node("2030-01-01T11:59:50.000000Z"), None);
    assert!(node("2030-01-01T13:00:00.000000Z").unwrap().message.contains("node n1 is 3600 s ahead"));
    assert!(node("2030-01-01T11:00:00.000000Z").unwrap().message.contains("3600 s old"));
}

#[test]
fn a_server_whose_ingress_class_is_missing_is_named() {
    let servers = [server("a", true, Some("traefik"), None), server("b", true, None, None)];
    assert_eq!(cluster::ingress(&["traefik".into()], &servers).severity, Severity::Ok);
    let finding = cluster::ingress(&["nginx".into()], &servers);
    assert!(finding.severity == Severity::Failure && finding.message.contains("ns/a"), "{finding:?}");
    assert_eq!(cluster::ingress(&[], &servers[1..]).severity, Severity::Warning);
}

#[test]
fn a_lease_that_is_not_renewed_means_nobody_leads() {
    let now = time("2030-01-01T12:00:00Z");
    let lease = |renewed: &str| -> Lease {
        read(json!({ "spec": { "holderIdentity": "pod-1", "renewTime": renewed } }))
    };
    assert_eq!(
        control_plane::leader(Some(&lease("2030-01-01T11:59:50.000000Z")), now).severity,
        Severity::Ok
    );
    let old = control_plane::leader(Some(&lease("2030-01-01T11:58:00.000000Z")), now);
    assert!(old.severity == Severity::Failure && old.message.contains("120 s"), "{old:?}");
    assert_eq!(control_plane::leader(None, now).severity, Severity::Failure);
    assert_eq!(control_plane::leader(Some(&Lease::default()), now).severity, Severity::Failure);
}

#[test]
fn replicas_and_versions_are_judged() {
    let judged = |wanted, ready| control_plane::replicas("operator", "Deployment x", wanted, ready).severity;
    assert_eq!(judged(Some(2), Some(2)), Severity::Ok);
    assert_eq!(judged(Some(2), Some(1)), Severity::Warning);
    assert_eq!(judged(Some(2), None), Severity::Failure);
    assert_eq!(judged(None, None), Severity::Failure);
    let version = |image: &str| control_plane::version(image).severity;
    let ours = concat!("registry:5000/sallyport:", env!("CARGO_PKG_VERSION"));
    assert_eq!((version(ours), version("r/sallyport:0.0.1")), (Severity::Ok, Severity::Warning));
    assert_eq!(version("registry:5000/sallyport@sha256:00"), Severity::Ok);
}

#[test]
fn a_webhook_that_refuses_answers_and_one_that_fails_does_not() {
    let error = |message: &str| {
        kube::Error::Api(kube::core::Status::failure(message, "InternalError").with_code(500).boxed())
    };
    assert_eq!(control_plane::answered(None).severity, Severity::Ok);
    let denied = error("admission webhook \"x\" denied the request: no");
    assert_eq!(control_plane::answered(Some(&denied)).severity, Severity::Ok);
    let failed = error("failed calling webhook \"x\": connection refused");
    assert_eq!(control_plane::answered(Some(&failed)).severity, Severity::Failure);
    let configuration = |bundle: Option<&str>| {
        read(json!({ "metadata": {}, "webhooks": [{ "name": "w", "admissionReviewVersions": ["v1"],
            "sideEffects": "None", "clientConfig": { "caBundle": bundle } }] }))
    };
    assert_eq!(control_plane::configured(Some(&configuration(Some("Y2E=")))), None);
    assert!(control_plane::configured(Some(&configuration(None))).is_some());
    assert!(control_plane::configured(None).is_some());
}

#[test]
fn servers_that_are_not_enforced_or_not_governed_are_named() {
    let told = |servers: &[MCPServer]| {
        gateways::enforcement(servers).into_iter().map(|finding| finding.severity).collect::<Vec<_>>()
    };
    assert_eq!(told(&[server("a", true, None, Some("True"))]), [Severity::Ok]);
    assert_eq!(told(&[server("a", true, None, Some("False"))]), [Severity::Failure]);
    assert_eq!(told(&[server("a", true, None, None)]), [Severity::Failure]);
    assert_eq!(told(&[server("a", false, None, None)]), [Severity::Warning]);
}

#[test]
fn a_pod_without_its_image_is_told_with_the_image() {
    let pod = |reason: &str| -> Pod {
        read(json!({ "metadata": { "namespace": "ns", "name": "p" }, "status": { "containerStatuses": [{
            "name": "c", "image": "registry/x:1", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": reason } } }] } }))
    };
    let found = gateways::pod(&pod("ImagePullBackOff"));
    assert!(found[0].message.contains("registry/x:1"), "{found:?}");
    assert!(gateways::pod(&pod("CrashLoopBackOff"))[0].remedy.as_ref().unwrap().contains("logs p -c c"));
    assert!(gateways::pod(&pod("ContainerCreating")).is_empty());
}

#[test]
fn an_account_that_lacks_a_right_fails_and_one_that_has_more_is_told() {
    let verdict = |lacking: &[&str], beyond: &[&str]| {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        permissions::verdict("a", 3, &own(lacking), &own(beyond)).severity
    };
    assert_eq!(verdict(&[], &[]), Severity::Ok);
    assert_eq!(verdict(&["get x"], &["list secrets"]), Severity::Failure);
    assert_eq!(verdict(&[], &["list secrets"]), Severity::Warning);
}

#[test]
fn every_right_of_the_installed_roles_is_asked_for() {
    let objects = compose(Overlay::Default).unwrap();
    let rights = permissions::rights(&objects, "sallyport-operator");
    let told: Vec<String> = rights.iter().map(ToString::to_string).collect();
    for wanted in [
        "watch mcpservers",
        "patch mcpagentsessions/status",
        "patch validatingwebhookconfigurations/sallyport",
        "get secrets/sallyport-ca in sallyport-system",
    ] {
        assert!(told.iter().any(|right| right == wanted), "{wanted}: {told:?}");
    }
    assert!(permissions::rights(&objects, "sallyport-audit").len() > 10);
}

/// The API server takes every object, applied twice, and the doctor sees what is there and what is not.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_installed_is_what_the_doctor_looks_for() {
    let Some(server) = ApiServer::start() else { return };
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let of = |findings: &[Finding], check: &str| -> Vec<Severity> {
        findings.iter().filter(|finding| finding.check == check).map(|finding| finding.severity).collect()
    };
    let before = examine(&client).await;
    assert_eq!(of(&before, "crds"), [Severity::Failure; 3], "{before:?}");
    assert_eq!(of(&before, "permissions"), [Severity::Failure; 2], "{before:?}");
    let objects = compose(Overlay::Default).unwrap();
    for _ in 0..2 {
        apply::all(&client, &objects).await.unwrap();
    }
    server.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"], "");
    let after = examine(&client).await;
    assert_eq!(of(&after, "api-server"), [Severity::Ok]);
    assert_eq!(of(&after, "crds"), [Severity::Ok; 3], "{after:?}");
    assert_eq!(of(&after, "permissions"), [Severity::Ok; 2], "{after:?}");
    assert_eq!(of(&after, "clocks"), [Severity::Ok], "{after:?}");
    // Nothing runs here.
    for check in ["operator", "leader", "audit", "webhook"] {
        assert_eq!(of(&after, check)[0], Severity::Failure, "{check}: {after:?}");
    }
    // Somebody binds it to more.
    let more = ["create", "clusterrolebinding", "too-much", "--clusterrole=cluster-admin"];
    let account = "--serviceaccount=sallyport-system:sallyport-operator";
    server.kubectl(&[&more[..], &[account]].concat(), "");
    let finding = permissions::check(&client).await.remove(0);
    assert!(finding.severity == Severity::Warning && finding.message.contains("secrets"), "{finding:?}");
}

//! How a server is reached.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sallyport_envoy::sidecar::LIFECYCLE_PORT;

use super::names;
use super::place::Place;

/// The Service before both tracks.
pub(super) fn service(metadata: ObjectMeta, server: &str, port: i32, target: i32) -> core::Service {
    let port = core::ServicePort {
        name: Some("http".into()),
        port,
        target_port: Some(IntOrString::Int(target)),
        protocol: Some("TCP".into()),
        ..core::ServicePort::default()
    };
    let spec = core::ServiceSpec {
        type_: Some("ClusterIP".into()),
        selector: Some(names::selector(server, None)),
        ports: Some(vec![port]),
        ..core::ServiceSpec::default()
    };
    core::Service { metadata, spec: Some(spec), status: None }
}

/// Who reaches pods.
pub(super) struct Reach<'a> {
    /// The port that anybody reaches.
    pub(super) port: i32,
    /// Namespaces that reach the gateway's figures as well.
    pub(super) metrics: &'a [String],
}

/// Who reaches the pods of both tracks: anybody, at one port; none: nobody, nowhere. The gateway's port for draining and figures
/// is the kubelet's, whom policies do not concern, and that of the namespaces which take the figures.
pub(super) fn policy(
    metadata: ObjectMeta,
    server: &str,
    reach: Option<&Reach<'_>>,
) -> networking::NetworkPolicy {
    let rule = |port, from| networking::NetworkPolicyIngressRule {
        from,
        ports: Some(vec![networking::NetworkPolicyPort {
            port: Some(IntOrString::Int(port)),
            protocol: Some("TCP".into()),
            end_port: None,
        }]),
    };
    let rules = reach.map(|reach| {
        let from: Vec<_> = reach.metrics.iter().map(|name| namespace(name)).collect();
        let metrics = (!from.is_empty()).then(|| rule(i32::from(LIFECYCLE_PORT), Some(from)));
        std::iter::once(rule(reach.port, None)).chain(metrics).collect()
    });
    let spec = networking::NetworkPolicySpec {
        pod_selector: Some(LabelSelector {
            match_labels: Some(names::selector(server, None)),
            match_expressions: None,
        }),
        policy_types: Some(vec!["Ingress".into()]),
        ingress: rules,
        egress: None,
    };
    networking::NetworkPolicy { metadata, spec: Some(spec) }
}

/// All pods of a namespace. Its label is set by the API server, and nobody else can.
fn namespace(name: &str) -> networking::NetworkPolicyPeer {
    let labels = [("kubernetes.io/metadata.name".to_string(), name.to_string())];
    networking::NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some(labels.into()),
            ..LabelSelector::default()
        }),
        ..networking::NetworkPolicyPeer::default()
    }
}

/// The way in from outside.
pub(super) fn ingress(metadata: ObjectMeta, server: &str, port: i32, place: &Place) -> networking::Ingress {
    let backend = networking::IngressBackend {
        service: Some(networking::IngressServiceBackend {
            name: server.into(),
            port: Some(networking::ServiceBackendPort { number: Some(port), name: None }),
        }),
        resource: None,
    };
    let path = |path: &String| networking::HTTPIngressPath {
        path: Some(path.clone()),
        path_type: "Prefix".into(),
        backend: backend.clone(),
    };
    let rule = networking::IngressRule {
        host: place.host.clone(),
        http: Some(networking::HTTPIngressRuleValue { paths: place.paths.iter().map(path).collect() }),
    };
    let spec = networking::IngressSpec {
        ingress_class_name: place.class.clone(),
        rules: Some(vec![rule]),
        ..networking::IngressSpec::default()
    };
    let annotations = (!place.annotations.is_empty()).then(|| place.annotations.clone());
    networking::Ingress { metadata: ObjectMeta { annotations, ..metadata }, spec: Some(spec), status: None }
}

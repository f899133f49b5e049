//! The objects of a server, of which everything can be rendered.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::policy::v1 as budget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use sallyport_api::v1alpha1::MCPServer;
use sallyport_resolve::Problem;
use serde_json::json;

use super::child::Child;
use super::names::{self, Track};
use super::prepare::{Prepared, Strategy, drain_key, error};
use super::settings::Settings;
use super::template::Template;
use super::{network, rollout};

/// What runs on which track.
#[derive(Clone, Copy, Debug)]
pub struct Tracks<'a> {
    /// Template of the stable track, and its revision's number.
    pub stable: (&'a Template, u64),
    /// The canary's, if there is one.
    pub canary: Option<(&'a Template, u64)>,
    /// The stable Deployment's replicas are ours to set.
    pub owns_stable_replicas: bool,
    /// The canary Deployment's replicas are ours to set.
    pub owns_canary_replicas: bool,
    /// The server's place is its own, and no other server's.
    pub has_place: bool,
}

/// Replicas of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// That the track shall have.
    pub share: i32,
    /// That were asked for; another number here is a new wish of the server's owner.
    pub total: i32,
}

impl Replicas {
    /// Of the stable track, and of the canary, if there is one: it never takes the last pod of the stable track.
    pub fn of(server: &MCPServer, has_canary: bool) -> (Self, Self) {
        let total = server.spec.replicas;
        let asked = server.spec.rollout.as_ref().and_then(|rollout| rollout.canary_replicas).unwrap_or(0);
        let canary = if has_canary { asked.min(total - 1).max(0) } else { 0 };
        (Self { share: total - canary, total }, Self { share: canary, total: asked })
    }

    /// Whether the Deployment's replicas are ours to set: not where somebody else (an autoscaler, `kubectl scale`) set them
    /// since, and the server asks for as many as before. `recorded` and `actual` are the Deployment's annotation and replicas.
    pub fn are_ours(self, recorded: Option<&str>, actual: Option<i32>) -> bool {
        let recorded = recorded.and_then(|text| text.split_once(" of "));
        let recorded = recorded
            .and_then(|(share, total)| Some((share.parse::<i32>().ok()?, total.parse::<i32>().ok()?)));
        recorded.is_none_or(|(share, total)| actual == Some(share) || total != self.total)
    }
}

/// All objects of a server but its revisions.
///
/// # Errors
/// The tracks cannot stand side by side.
pub fn objects(
    server: &MCPServer,
    settings: &Settings,
    prepared: &Prepared,
    tracks: &Tracks<'_>,
) -> Result<Vec<Child>, Problem> {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    if let Some((canary, _)) = tracks.canary
        && canary.ports() != tracks.stable.0.ports()
    {
        let message = "Canary cannot change ports or switch the gateway: Service, NetworkPolicy and proxies know one set of \
                       ports; make this change with RollingUpdate";
        return Err(error("spec.rollout.strategy", "CanaryChangesPorts", message));
    }
    let named = |name: String| metadata(server, name);
    let reach = network::Reach {
        port: prepared.served_port,
        // Without a gateway there are no figures.
        metrics: if prepared.is_direct { &[] } else { &settings.metrics_namespaces },
    };
    let mut children = vec![
        Child::ServiceAccount(account(named(names::service_account(name)), prepared.pull.secret(name))),
        Child::NetworkPolicy(network::policy(named(name.into()), name, Some(&reach))),
    ];
    if let Some(content) = prepared.pull.content() {
        children.push(Child::Secret(pull_secret(named(names::pull_secret(name)), content)));
    }
    if !prepared.is_direct {
        children.push(Child::ConfigMap(config(
            named(names::gateway_config(name)),
            settings,
            &drain_key(server),
        )));
    }
    let (stable, canary) = Replicas::of(server, tracks.canary.is_some());
    let deployment = |track: Track, (template, revision): (&Template, u64), replicas, owns| {
        let metadata = named(names::deployment(name, track));
        Child::Deployment(Box::new(deployment(
            metadata,
            name,
            track,
            (template, revision),
            replicas,
            owns,
            &prepared.strategy,
        )))
    };
    children.push(deployment(Track::Stable, tracks.stable, stable, tracks.owns_stable_replicas));
    children
        .extend(tracks.canary.map(|of| deployment(Track::Canary, of, canary, tracks.owns_canary_replicas)));
    if server.spec.replicas >= 2 {
        children.push(Child::PodDisruptionBudget(disruption_budget(named(name.into()), name)));
    }
    let port = server.spec.service_port;
    children.push(Child::Service(Box::new(network::service(
        named(name.into()),
        name,
        port,
        prepared.served_port,
    ))));
    if tracks.has_place {
        children.push(Child::Ingress(network::ingress(named(name.into()), name, port, &prepared.place)));
    }
    children.sort_by_key(Child::kind);
    Ok(children)
}

/// What remains of a server that must not be reached: nobody reaches its pods, wherever they come from.
pub fn withdrawn(server: &MCPServer) -> Child {
    let name = server.metadata.name.clone().unwrap_or_default();
    Child::NetworkPolicy(network::policy(metadata(server, name.clone()), &name, None))
}

/// A revision of a server's template.
///
/// # Errors
/// Never: a pod template is JSON.
pub fn revision(
    server: &MCPServer,
    revision: &rollout::Revision,
    template: &Template,
) -> serde_json::Result<apps::ControllerRevision> {
    let mut metadata = metadata(server, revision.name.clone());
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(names::REVISION.into(), revision.number.to_string());
    labels.insert(names::TEMPLATE_HASH.into(), revision.hash.clone());
    let promoted = revision.promoted.map(|order| (names::PROMOTED.to_string(), order.to_string()));
    metadata.annotations = promoted.map(|annotation| BTreeMap::from([annotation]));
    let data = RawExtension(json!({ "spec": { "template": template.to_json()? } }));
    let number = i64::try_from(revision.number).unwrap_or(i64::MAX);
    Ok(apps::ControllerRevision { metadata, data: Some(data), revision: number })
}

fn metadata(server: &MCPServer, name: String) -> ObjectMeta {
    let owner = server.metadata.name.clone().unwrap_or_default();
    ObjectMeta {
        name: Some(name),
        namespace: server.metadata.namespace.clone(),
        labels: Some(names::labels(&owner)),
        owner_references: Some(vec![OwnerReference {
            api_version: MCPServer::api_version(&()).into_owned(),
            kind: MCPServer::kind(&()).into_owned(),
            name: owner,
            uid: server.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

fn account(metadata: ObjectMeta, pull_secret: Option<String>) -> core::ServiceAccount {
    core::ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        image_pull_secrets: pull_secret.map(|name| vec![core::LocalObjectReference { name }]),
        secrets: None,
    }
}

fn pull_secret(metadata: ObjectMeta, content: k8s_openapi::ByteString) -> core::Secret {
    core::Secret {
        metadata,
        type_: Some("kubernetes.io/dockerconfigjson".into()),
        data: Some(BTreeMap::from([(".dockerconfigjson".to_string(), content)])),
        ..core::Secret::default()
    }
}

fn config(metadata: ObjectMeta, settings: &Settings, drain_key: &str) -> core::ConfigMap {
    let files = settings.gateway_files.of_server(drain_key);
    let data =
        files.entries().into_iter().map(|(name, content)| (name.to_string(), content.to_string())).collect();
    core::ConfigMap { metadata, data: Some(data), ..core::ConfigMap::default() }
}

fn deployment(
    mut metadata: ObjectMeta,
    server: &str,
    track: Track,
    (template, revision): (&Template, u64),
    replicas: Replicas,
    owns_replicas: bool,
    strategy: &Strategy,
) -> apps::Deployment {
    metadata.labels.get_or_insert_default().insert(names::TRACK.into(), track.as_str().into());
    metadata.annotations = Some(BTreeMap::from([
        (names::REVISION.to_string(), revision.to_string()),
        (names::REPLICAS.to_string(), format!("{} of {}", replicas.share, replicas.total)),
    ]));
    let strategy = match strategy {
        Strategy::Recreate => {
            apps::DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None }
        }
        Strategy::Rolling { max_unavailable, max_surge } => apps::DeploymentStrategy {
            type_: Some("RollingUpdate".into()),
            rolling_update: Some(apps::RollingUpdateDeployment {
                max_unavailable: Some(max_unavailable.clone()),
                max_surge: Some(max_surge.clone()),
            }),
        },
    };
    let spec = apps::DeploymentSpec {
        replicas: owns_replicas.then_some(replicas.share),
        selector: LabelSelector {
            match_labels: Some(names::selector(server, Some(track))),
            match_expressions: None,
        },
        strategy: Some(strategy),
        template: template.on(track),
        ..apps::DeploymentSpec::default()
    };
    apps::Deployment { metadata, spec: Some(spec), status: None }
}

fn disruption_budget(metadata: ObjectMeta, server: &str) -> budget::PodDisruptionBudget {
    let selector =
        LabelSelector { match_labels: Some(names::selector(server, None)), match_expressions: None };
    let spec = budget::PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(1)),
        min_available: None,
        selector: Some(selector),
        // Pods that do not work anyhow keep no node from being drained.
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
    };
    budget::PodDisruptionBudget { metadata, spec: Some(spec), status: None }
}

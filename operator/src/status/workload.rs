//! What is seen of the objects that a server is made of.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use sallyport_api::words::{condition, reason};

use super::draft::Draft;

/// What counts as a ready Ingress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum IngressReadiness {
    /// A controller gave it an address.
    #[default]
    Strict,
    /// It is there with its rules: for controllers that give none.
    Permissive,
}

/// A Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeploymentState {
    /// The controller has seen its newest form.
    pub(crate) is_observed: bool,
    pub(crate) desired: i32,
    /// Pods there are, of whatever template.
    pub(crate) replicas: i32,
    /// Pods of the current template.
    pub(crate) updated: i32,
    pub(crate) available: i32,
    /// Why its controller cannot go on: a reason of ours, and what it says.
    pub(crate) failure: Option<(&'static str, String)>,
}

impl From<&Deployment> for DeploymentState {
    fn from(deployment: &Deployment) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        let desired = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let conditions = status.conditions.unwrap_or_default();
        let said = |kind: &str, value: &str| {
            let is = |c: &&DeploymentCondition| c.type_ == kind && c.status == value;
            conditions.iter().find(is).map(|c| c.message.clone().unwrap_or_default())
        };
        let failed = said("ReplicaFailure", "True").map(|message| (reason::REPLICA_FAILURE, message));
        let late = said("Progressing", "False").map(|message| (reason::PROGRESS_DEADLINE_EXCEEDED, message));
        Self {
            is_observed: status.observed_generation == deployment.metadata.generation,
            desired,
            replicas: status.replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            failure: failed.or(late),
        }
    }
}

/// Everything a server is made of; none: it is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) deployment: Option<DeploymentState>,
    pub(crate) canary: Option<DeploymentState>,
    /// Whether it has an address.
    pub(crate) service: Option<bool>,
    pub(crate) ingress: Option<IngressState>,
    /// Why its objects cannot be applied.
    pub(crate) failure: Option<String>,
}

/// Which revisions of a server's template run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revisions {
    /// On the stable track.
    pub(crate) stable: Option<i64>,
    /// On the canary's, if there is one.
    pub(crate) canary: Option<i64>,
    /// What the spec asks for, and was rolled back.
    pub(crate) rejected: Option<i64>,
}

impl Workload {
    /// Pods that take calls.
    pub(crate) fn available(&self) -> usize {
        let of = |state: &Option<DeploymentState>| state.as_ref().map_or(0, |state| state.available);
        usize::try_from(of(&self.deployment).saturating_add(of(&self.canary))).unwrap_or(0)
    }
}

/// An Ingress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IngressState {
    pub(crate) has_address: bool,
    pub(crate) has_rules: bool,
}

impl From<&Ingress> for IngressState {
    fn from(ingress: &Ingress) -> Self {
        let addresses = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
        let rules = ingress.spec.as_ref().and_then(|spec| spec.rules.as_ref());
        Self {
            has_address: addresses.is_some_and(|addresses| !addresses.is_empty()),
            has_rules: rules.is_some_and(|rules| !rules.is_empty()),
        }
    }
}

/// Whether a Service has an address.
pub(crate) fn has_address(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    ip.is_some_and(|ip| !ip.is_empty())
}

/// The condition of a Deployment: `DeploymentReady` or `CanaryReady`.
pub(crate) fn deployment(kind: &'static str, state: Option<&DeploymentState>) -> Draft {
    let Some(state) = state else {
        return Draft::no(kind, reason::MISSING, "the Deployment is not there yet");
    };
    let DeploymentState { desired, updated, available, replicas, .. } = *state;
    if let Some((reason, message)) = &state.failure {
        return Draft::no(kind, reason, message.clone());
    }
    if !state.is_observed {
        return Draft::no(kind, reason::PROGRESSING, "the Deployment's newest form has not been seen yet");
    }
    if updated < desired || replicas > updated {
        let message =
            format!("{updated} of {desired} replicas run the current template, {available} are available");
        return Draft::no(kind, reason::PROGRESSING, message);
    }
    match (desired, available < desired) {
        (0, _) => Draft::yes(kind, reason::SCALED_TO_ZERO, "no replica is wanted"),
        (_, true) => {
            Draft::no(kind, reason::UNAVAILABLE, format!("{available} of {desired} replicas are available"))
        }
        (_, false) => {
            Draft::yes(kind, reason::AVAILABLE, format!("{available} of {desired} replicas are available"))
        }
    }
}

/// `ServiceReady`.
pub(crate) fn service(state: Option<bool>) -> Draft {
    let kind = condition::SERVICE_READY;
    match state {
        None => Draft::no(kind, reason::MISSING, "the Service is not there yet"),
        Some(false) => Draft::no(kind, reason::NO_ADDRESS, "the Service has no address yet"),
        Some(true) => Draft::yes(kind, reason::ADDRESS_ASSIGNED, "the Service has an address"),
    }
}

/// `IngressReady`.
pub(crate) fn ingress(state: Option<IngressState>, readiness: IngressReadiness) -> Draft {
    let kind = condition::INGRESS_READY;
    match (state, readiness) {
        (None, _) => Draft::no(kind, reason::MISSING, "the Ingress is not there yet"),
        (Some(IngressState { has_address: true, .. }), _) => {
            Draft::yes(kind, reason::ADDRESS_ASSIGNED, "the Ingress has an address")
        }
        (Some(IngressState { has_rules: true, .. }), IngressReadiness::Permissive) => {
            Draft::yes(kind, reason::RULES_PRESENT, "the Ingress has its rules; who serves them is not asked")
        }
        (Some(_), _) => {
            let message = "no ingress controller gave the Ingress an address; is there one for its class?";
            Draft::no(kind, reason::NO_ADDRESS, message)
        }
    }
}

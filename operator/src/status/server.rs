//! The status of a server.

use k8s_openapi::jiff::Timestamp;
use sallyport_api::v1alpha1::{MCPServer, MCPServerStatus};
use sallyport_api::words::{condition, reason, server_phase};
use sallyport_resolve::{Problem, Severity};

use super::draft::{Draft, conditions};
use super::reach::{Reach, listed};
use super::remembered::Remembered;
use super::workload::{self, DeploymentState, IngressReadiness, Revisions, Workload};

/// Label of a server's pods, with its name.
const SERVER_LABEL: &str = "mcpruntime.org/server";
/// What resolving says of a server without a gateway: in a cluster that is direct mode, and no fault.
const NOT_GOVERNED: &str = "NotGoverned";

/// What the status is decided from.
#[derive(Clone, Debug)]
pub(crate) struct ServerFacts<'a> {
    pub(crate) server: &'a MCPServer,
    pub(crate) problems: &'a [Problem],
    pub(crate) workload: &'a Workload,
    pub(crate) ingress_readiness: IngressReadiness,
    /// How far the policy as it is now has come.
    pub(crate) reach: &'a Reach,
    /// Revision of that policy.
    pub(crate) revision: &'a str,
    pub(crate) rollout: Revisions,
}

impl ServerFacts<'_> {
    fn is_direct(&self) -> bool {
        !self.server.spec.gateway.as_ref().is_some_and(|gateway| gateway.enabled)
    }

    /// A canary runs, or is to: where the newest template is promoted, the strategy alone asks for none.
    fn has_canary(&self) -> bool {
        self.rollout.canary.is_some()
    }

    fn error(&self) -> Option<&Problem> {
        self.problems
            .iter()
            .find(|problem| problem.severity == Severity::Error && problem.reason != NOT_GOVERNED)
    }

    fn pods(&self) -> i32 {
        let of = |state: &Option<DeploymentState>| state.as_ref().map_or(0, |state| state.replicas);
        of(&self.workload.deployment) + of(&self.workload.canary)
    }

    fn desired(&self) -> i32 {
        let of = |state: &Option<DeploymentState>| state.as_ref().map_or(0, |state| state.desired);
        of(&self.workload.deployment) + of(&self.workload.canary)
    }
}

/// The status.
pub(crate) fn server_status(
    facts: &ServerFacts<'_>,
    before: Option<&Remembered>,
    now: Timestamp,
) -> MCPServerStatus {
    let server = facts.server;
    let (accepted, resolved, enforced) = (accepted(facts), resolved(facts), enforced(facts));
    let parts = parts(facts, &accepted, &enforced);
    let is = |kind: &str| parts.iter().any(|part| part.kind == kind && part.is_true());
    let failure = facts.workload.failure.as_ref();
    let phase = match () {
        () if facts.error().is_some() || failure.is_some() => server_phase::ERROR,
        () if parts.iter().all(|part| part.is_true() || is_beside(part)) => server_phase::READY,
        () if parts.iter().any(Draft::is_true) => server_phase::PARTIALLY_READY,
        () => server_phase::PENDING,
    };
    let (why, message) = why(facts, phase, &parts);
    let ready = match phase {
        server_phase::READY => Draft::yes(condition::READY, reason::READY, message.clone()),
        _ => Draft::no(condition::READY, why, message.clone()),
    };
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let enforced_revision = match enforced.is_true() {
        true => facts.revision.to_string(),
        false => before.map(|before| before.revision.clone()).unwrap_or_default(),
    };
    MCPServerStatus {
        phase: phase.into(),
        message,
        observed_generation: server.metadata.generation,
        deployment_ready: is(condition::DEPLOYMENT_READY),
        service_ready: is(condition::SERVICE_READY),
        ingress_ready: is(condition::INGRESS_READY),
        gateway_ready: is(condition::GATEWAY_READY),
        policy_ready: is(condition::POLICY_READY),
        canary_ready: is(condition::CANARY_READY),
        replicas: facts.pods(),
        selector: format!("{SERVER_LABEL}={name}"),
        enforced: if facts.is_direct() { String::new() } else { facts.reach.fraction() },
        enforced_revision,
        stable_revision: facts.rollout.stable,
        canary_revision: facts.rollout.canary,
        rejected_revision: facts.rollout.rejected,
        reason: if phase == server_phase::READY && facts.is_direct() { reason::DIRECT_MODE } else { why }
            .into(),
        conditions: {
            let drafts = [accepted, resolved, enforced, ready].into_iter().chain(parts).collect();
            conditions(drafts, server.metadata.generation, before, now)
        },
    }
}

/// What a server needs to be ready, in the order in which it comes about.
fn parts(facts: &ServerFacts<'_>, accepted: &Draft, enforced: &Draft) -> Vec<Draft> {
    let seen = facts.workload;
    let mut parts = vec![
        workload::deployment(condition::DEPLOYMENT_READY, seen.deployment.as_ref()),
        workload::service(seen.service),
        workload::ingress(seen.ingress, facts.ingress_readiness),
        gateway(facts),
        policy(facts, accepted, enforced),
    ];
    if facts.has_canary() {
        parts.push(workload::deployment(condition::CANARY_READY, seen.canary.as_ref()));
    }
    parts
}

/// Not true, and not needed.
fn is_beside(part: &Draft) -> bool {
    part.reason == reason::DIRECT_MODE
}

fn why(facts: &ServerFacts<'_>, phase: &str, parts: &[Draft]) -> (&'static str, String) {
    if let Some(problem) = facts.error() {
        return (problem.reason, described(problem));
    }
    if let Some(failure) = &facts.workload.failure {
        return (reason::APPLY_FAILED, failure.clone());
    }
    let missing = parts.iter().find(|part| !part.is_true() && !is_beside(part));
    match missing.filter(|_| phase != server_phase::READY) {
        Some(part) => (part.reason, format!("{}: {}", part.kind, part.message)),
        None if facts.is_direct() => {
            ("", "All resources reconciled; calls are not governed (spec.gateway.enabled is false)".into())
        }
        None => ("", "All resources reconciled".into()),
    }
}

fn described(problem: &Problem) -> String {
    format!("{} {}", problem.path, problem.message)
}

fn accepted(facts: &ServerFacts<'_>) -> Draft {
    match facts.error() {
        Some(problem) => Draft::no(condition::ACCEPTED, problem.reason, described(problem)),
        None => Draft::yes(condition::ACCEPTED, reason::ACCEPTED, "valid"),
    }
}

fn resolved(facts: &ServerFacts<'_>) -> Draft {
    let warnings = facts.problems.iter().filter(|problem| problem.severity == Severity::Warning);
    let warnings: Vec<String> = warnings.map(described).collect();
    if warnings.is_empty() {
        return Draft::yes(condition::RESOLVED, reason::RESOLVED, "everything it names is there");
    }
    Draft::yes(condition::RESOLVED, reason::RESOLVED_WITH_WARNINGS, listed(warnings))
}

const DIRECT: &str = "spec.gateway.enabled is false: calls reach the server without being governed";

fn enforced(facts: &ServerFacts<'_>) -> Draft {
    let kind = condition::ENFORCED;
    if facts.is_direct() {
        return Draft::no(kind, reason::DIRECT_MODE, DIRECT);
    }
    if facts.error().is_some() {
        return Draft::no(kind, reason::NO_EFFECT, "the server is not accepted");
    }
    facts.reach.condition(kind)
}

fn gateway(facts: &ServerFacts<'_>) -> Draft {
    let (kind, connected) = (condition::GATEWAY_READY, facts.reach.connected());
    if facts.is_direct() {
        return Draft::no(kind, reason::DIRECT_MODE, DIRECT);
    }
    if facts.desired() == 0 && facts.workload.deployment.is_some() {
        return Draft::yes(kind, reason::SCALED_TO_ZERO, "no replica is wanted");
    }
    match facts.reach.unconnected {
        _ if connected == 0 => Draft::no(kind, reason::NO_PROXIES, "no gateway of the server is connected"),
        0 => Draft::yes(kind, reason::CONNECTED, format!("{connected} gateways are connected")),
        _ => {
            let message = format!("{connected} of {} gateways are connected", facts.reach.of);
            Draft::no(kind, reason::NOT_CONNECTED, message)
        }
    }
}

fn policy(facts: &ServerFacts<'_>, accepted: &Draft, enforced: &Draft) -> Draft {
    let kind = condition::POLICY_READY;
    if facts.is_direct() {
        return Draft::no(kind, reason::DIRECT_MODE, DIRECT);
    }
    if !accepted.is_true() {
        return Draft { kind, ..accepted.clone() };
    }
    if facts.desired() == 0 && facts.workload.deployment.is_some() {
        return Draft::yes(kind, reason::SCALED_TO_ZERO, "no replica is wanted");
    }
    Draft { kind, ..enforced.clone() }
}

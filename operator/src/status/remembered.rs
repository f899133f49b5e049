//! What is kept of a status that was written: enough to write the next one, small enough for 100,000 objects.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sallyport_api::v1alpha1::{AccessStatus, MCPServerStatus};
use sallyport_api::words::{access_phase, condition, reason, server_phase};

use super::draft::Verity;

/// A condition as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) kind: &'static str,
    pub(crate) status: Verity,
    /// Empty: a reason that is none of ours.
    pub(crate) reason: &'static str,
    /// Its last transition, in seconds since 1970.
    pub(crate) since: i64,
}

/// A status as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Of everything but times.
    digest: u64,
    /// Empty: a phase that is none of ours.
    pub(crate) phase: &'static str,
    /// What `enforced` tells: on how many proxies of how many.
    pub(crate) enforced: Option<(usize, usize)>,
    /// The policy that was last enforced everywhere; of servers only.
    pub(crate) revision: String,
    /// Revision of the template that the canary runs; of servers only.
    pub(crate) canary: Option<i64>,
    held: Box<[Held]>,
    generation: Option<i64>,
}

impl Remembered {
    /// Of a grant or session; none: nothing was written yet.
    pub(crate) fn of_access(status: &AccessStatus) -> Option<Self> {
        let written = !status.conditions.is_empty();
        written.then(|| Self {
            digest: digest(&status.conditions, |hasher| {
                (&status.phase, &status.message, &status.enforced, &status.reason).hash(hasher);
            }),
            phase: known(&access_phase::ALL, &status.phase),
            enforced: fraction(&status.enforced),
            revision: String::new(),
            canary: None,
            held: held(&status.conditions),
            generation: generation(&status.conditions),
        })
    }

    /// Of a server; none: nothing was written yet.
    pub(crate) fn of_server(status: &MCPServerStatus) -> Option<Self> {
        let written = !status.conditions.is_empty();
        written.then(|| Self {
            digest: digest(&status.conditions, |hasher| {
                (&status.phase, &status.message, &status.enforced, &status.reason).hash(hasher);
                (status.observed_generation, status.replicas, &status.selector).hash(hasher);
                (status.deployment_ready, status.service_ready, status.ingress_ready).hash(hasher);
                (status.gateway_ready, status.policy_ready, status.canary_ready).hash(hasher);
                status.enforced_revision.hash(hasher);
                (status.stable_revision, status.canary_revision, status.rejected_revision).hash(hasher);
            }),
            phase: known(&server_phase::ALL, &status.phase),
            enforced: fraction(&status.enforced),
            revision: status.enforced_revision.clone(),
            canary: status.canary_revision,
            held: held(&status.conditions),
            generation: generation(&status.conditions),
        })
    }

    /// Whether both tell the same; times do not count.
    pub(crate) fn tells_the_same_as(&self, other: &Self) -> bool {
        self.digest == other.digest
    }

    /// A condition.
    pub(crate) fn condition(&self, kind: &str) -> Option<&Held> {
        self.held.iter().find(|held| held.kind == kind)
    }

    /// Whether a condition has this status.
    pub(crate) fn is(&self, kind: &str, status: Verity) -> bool {
        self.condition(kind).is_some_and(|held| held.status == status)
    }

    /// Whether a condition has this reason.
    pub(crate) fn has_reason(&self, kind: &str, reason: &str) -> bool {
        self.condition(kind).is_some_and(|held| held.reason == reason)
    }

    /// Whether this generation of the object was enforced everywhere when the status was written.
    pub(crate) fn was_enforced(&self, generation: Option<i64>) -> bool {
        self.generation == generation && self.is(condition::ENFORCED, Verity::True)
    }

    /// A word that is another one whenever the status changed in between, times included.
    pub(crate) fn episode(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.digest.hash(&mut hasher);
        for held in &self.held {
            held.since.hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn digest(conditions: &[Condition], rest: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    rest(&mut hasher);
    for condition in conditions {
        (&condition.type_, &condition.status, &condition.reason, &condition.message).hash(&mut hasher);
        condition.observed_generation.hash(&mut hasher);
    }
    hasher.finish()
}

fn known(words: &[&'static str], word: &str) -> &'static str {
    words.iter().find(|known| **known == word).copied().unwrap_or_default()
}

fn held(conditions: &[Condition]) -> Box<[Held]> {
    let keep = |written: &Condition| Held {
        kind: known(&condition::ALL, &written.type_),
        status: Verity::parse(&written.status),
        reason: known(&reason::ALL, &written.reason),
        since: written.last_transition_time.0.as_second(),
    };
    conditions.iter().map(keep).collect()
}

fn generation(conditions: &[Condition]) -> Option<i64> {
    conditions.iter().find(|written| written.type_ == condition::ENFORCED)?.observed_generation
}

fn fraction(text: &str) -> Option<(usize, usize)> {
    let (enforced, of) = text.split_once('/')?;
    Some((enforced.parse().ok()?, of.parse().ok()?))
}

//! The status of a grant or session.

use k8s_openapi::jiff::Timestamp;
use sallyport_api::v1alpha1::{AccessStatus, MCPAccessGrant, MCPAgentSession};
use sallyport_api::words::{access_phase, condition, reason};
use sallyport_resolve::{Problem, Severity};

use super::draft::{Draft, Verity, conditions};
use super::reach::{Reach, listed};
use super::remembered::Remembered;

/// What the object itself says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may be used.
    Live,
    /// The grant is switched off.
    Disabled,
    /// The session is withdrawn.
    Revoked,
    /// The session's end has come.
    Expired,
}

impl Standing {
    /// Of a grant.
    pub(crate) fn of_grant(grant: &MCPAccessGrant) -> Self {
        if grant.spec.disabled { Self::Disabled } else { Self::Live }
    }

    /// Of a session at `now`. One that is withdrawn stays so past its end.
    pub(crate) fn of_session(session: &MCPAgentSession, now: Timestamp) -> Self {
        let is_over = session.spec.expires_at.as_ref().is_some_and(|end| end.0 <= now);
        match (session.spec.revoked, is_over) {
            (true, _) => Self::Revoked,
            (false, true) => Self::Expired,
            (false, false) => Self::Live,
        }
    }

    /// Somebody took access away: it must be seen to bite.
    pub(crate) fn is_withdrawn(self) -> bool {
        matches!(self, Self::Disabled | Self::Revoked)
    }
}

/// What the status is decided from.
#[derive(Clone, Debug)]
pub(crate) struct AccessFacts<'a> {
    pub(crate) generation: Option<i64>,
    pub(crate) standing: Standing,
    pub(crate) problems: &'a [Problem],
    /// The server has a gateway.
    pub(crate) is_governed: bool,
    /// How far the object as it is now has come; where it has no effect, how far its removal has.
    pub(crate) reach: Reach,
}

impl AccessFacts<'_> {
    fn error(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.severity == Severity::Error)
    }

    fn is_outdated(&self) -> bool {
        self.problems.iter().any(|problem| problem.reason == reason::POLICY_VERSION_MISMATCH)
    }
}

/// The status, and whether no acknowledgement can change it any more.
pub(crate) fn access_status(
    facts: &AccessFacts<'_>,
    before: Option<&Remembered>,
    now: Timestamp,
) -> (AccessStatus, bool) {
    let drafts = [accepted(facts), resolved(facts), enforced(facts)];
    let is_settled = match facts.error() {
        Some(_) => facts.reach.pending.is_empty(),
        None => !facts.is_governed || facts.reach.is_complete(),
    };
    let [_, _, enforced] = &drafts;
    let phase = phase(facts, enforced.is_true());
    let status = AccessStatus {
        phase: phase.into(),
        message: message(facts, phase, enforced),
        enforced: match (facts.error(), facts.is_governed) {
            (None, true) => facts.reach.fraction(),
            (Some(_), _) | (None, false) => String::new(),
        },
        reason: why(facts, enforced).into(),
        conditions: conditions(drafts.into(), facts.generation, before, now),
    };
    (status, is_settled)
}

fn described(problem: &Problem) -> String {
    format!("{} {}", problem.path, problem.message)
}

fn accepted(facts: &AccessFacts<'_>) -> Draft {
    match facts.error() {
        // Its owner may yet accept it.
        Some(problem) if problem.reason == reason::SERVER_NOT_FOUND => {
            Draft::unknown(condition::ACCEPTED, problem.reason, described(problem))
        }
        Some(problem) => Draft::no(condition::ACCEPTED, problem.reason, described(problem)),
        None => Draft::yes(condition::ACCEPTED, reason::ACCEPTED, "valid, and taken by the server"),
    }
}

fn resolved(facts: &AccessFacts<'_>) -> Draft {
    if let Some(problem) = facts.error() {
        return match problem.reason {
            reason::SERVER_NOT_FOUND => Draft::no(condition::RESOLVED, problem.reason, described(problem)),
            // What a foreign server has is not told.
            _ => Draft::unknown(condition::RESOLVED, reason::NO_EFFECT, "not looked at: it is not accepted"),
        };
    }
    let outdated = |problem: &&Problem| problem.reason == reason::POLICY_VERSION_MISMATCH;
    if let Some(problem) = facts.problems.iter().find(outdated) {
        return Draft::no(condition::RESOLVED, problem.reason, described(problem));
    }
    if facts.problems.is_empty() {
        return Draft::yes(condition::RESOLVED, reason::RESOLVED, "everything it names is there");
    }
    let message = listed(facts.problems.iter().map(described).collect());
    Draft::yes(condition::RESOLVED, reason::RESOLVED_WITH_WARNINGS, message)
}

fn enforced(facts: &AccessFacts<'_>) -> Draft {
    let (kind, reach) = (condition::ENFORCED, &facts.reach);
    if facts.error().is_some() {
        let message = if reach.pending.is_empty() {
            "has no effect on any proxy".into()
        } else {
            let names = reach.pending.iter().map(|laggard| laggard.proxy.clone()).collect();
            format!("being withdrawn; still held by {}", listed(names))
        };
        return Draft::no(kind, reason::NO_EFFECT, message);
    }
    if !facts.is_governed {
        let message = "the server runs without a gateway, so its calls are not governed";
        return Draft::no(kind, reason::DIRECT_MODE, message);
    }
    reach.condition(kind)
}

fn phase(facts: &AccessFacts<'_>, is_enforced: bool) -> &'static str {
    if facts.error().is_some() {
        return access_phase::REJECTED;
    }
    match facts.standing {
        Standing::Revoked => access_phase::REVOKED,
        Standing::Expired => access_phase::EXPIRED,
        Standing::Disabled => access_phase::DISABLED,
        Standing::Live if facts.is_outdated() => access_phase::OUTDATED,
        Standing::Live if is_enforced => access_phase::ACTIVE,
        Standing::Live => access_phase::PENDING,
    }
}

fn message(facts: &AccessFacts<'_>, phase: &str, enforced: &Draft) -> String {
    if let Some(problem) = facts.error() {
        return described(problem);
    }
    match phase {
        access_phase::ACTIVE | access_phase::PENDING => enforced.message.clone(),
        access_phase::OUTDATED => format!("made for another policy version; {}", enforced.message),
        access_phase::EXPIRED => "its end has come".into(),
        access_phase::REVOKED => format!("withdrawn; {}", enforced.message),
        _ => format!("switched off; {}", enforced.message),
    }
}

fn why(facts: &AccessFacts<'_>, enforced: &Draft) -> &'static str {
    match (facts.error(), facts.standing) {
        (Some(problem), _) => problem.reason,
        // Nothing depends on it any more.
        (None, Standing::Expired) => reason::EXPIRED,
        (None, _) if enforced.status != Verity::True => enforced.reason,
        (None, Standing::Revoked) => reason::REVOKED,
        (None, Standing::Disabled) => reason::DISABLED,
        (None, Standing::Live) if facts.is_outdated() => reason::POLICY_VERSION_MISMATCH,
        (None, Standing::Live) => "",
    }
}

//! Changes that deserve an event: what a status says now and did not say before.
//!
//! The status that was written is the memory: after a restart nothing is told again.

use sallyport_api::v1alpha1::{AccessStatus, MCPServerStatus};
use sallyport_api::words::{access_phase, condition, event, reason};

use super::draft::Verity;
use super::remembered::Remembered;

/// Something happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    /// One of [`event`].
    pub(crate) reason: &'static str,
    /// Somebody should look.
    pub(crate) is_warning: bool,
    /// What, in words.
    pub(crate) note: String,
}

impl Transition {
    fn normal(reason: &'static str, note: impl Into<String>) -> Self {
        Self { reason, is_warning: false, note: note.into() }
    }

    fn warning(reason: &'static str, note: impl Into<String>) -> Self {
        Self { reason, is_warning: true, note: note.into() }
    }
}

/// Transitions of a grant or session. `is_first_generation`: the object is as it was created, so that what it says is no
/// change.
pub(crate) fn of_access(
    before: Option<&Remembered>,
    next: &AccessStatus,
    is_first_generation: bool,
) -> Vec<Transition> {
    let mut told = Vec::new();
    let Some(now) = Remembered::of_access(next) else { return told };
    let earlier = before.map(|before| before.phase);
    let is_new_phase = earlier.map_or(!is_first_generation, |earlier| earlier != now.phase);
    match (earlier, now.phase) {
        (_, access_phase::REVOKED) if is_new_phase => {
            told.push(Transition::normal(event::REVOKED, "the session is withdrawn"));
        }
        (_, access_phase::DISABLED) if is_new_phase => {
            told.push(Transition::normal(event::DISABLED, "the grant is switched off"));
        }
        (_, access_phase::REJECTED | access_phase::REVOKED | access_phase::DISABLED) => {}
        (Some(access_phase::REVOKED), _) => {
            told.push(Transition::normal(event::UNREVOKED, "the session's withdrawal is lifted"));
        }
        (Some(access_phase::DISABLED), _) => {
            told.push(Transition::normal(event::ENABLED, "the grant is switched on"));
        }
        _ => {}
    }
    let is_withdrawn = matches!(now.phase, access_phase::REVOKED | access_phase::DISABLED);
    let was_underway = before.is_some_and(|before| !before.is(condition::ENFORCED, Verity::True));
    if is_withdrawn && now.is(condition::ENFORCED, Verity::True) && (is_new_phase || was_underway) {
        told.push(Transition::normal(event::ENFORCED_EVERYWHERE, next.message.clone()));
    }
    told.extend(common(before, &now, &next.message));
    told
}

/// Transitions of a server.
pub(crate) fn of_server(before: Option<&Remembered>, next: &MCPServerStatus) -> Vec<Transition> {
    let mut told = Vec::new();
    let Some(now) = Remembered::of_server(next) else { return told };
    let known = before.map(|before| before.revision.as_str()).unwrap_or_default();
    if !now.revision.is_empty() && now.revision != known {
        let note = format!("policy {} is enforced on {} proxies", now.revision, next.enforced);
        told.push(Transition::normal(event::ENFORCED_EVERYWHERE, note));
    }
    let is_direct = |status: &Remembered| status.has_reason(condition::GATEWAY_READY, reason::DIRECT_MODE);
    if is_direct(&now) && !before.is_some_and(is_direct) {
        let note = "spec.gateway.enabled is false: calls reach the server without being governed";
        told.push(Transition::warning(event::DIRECT_MODE, note));
    }
    told.extend(rollout(before, next));
    told.extend(common(before, &now, &next.message));
    told
}

/// What became of the canary that there was.
fn rollout(before: Option<&Remembered>, next: &MCPServerStatus) -> Option<Transition> {
    let canary = before?.canary.filter(|canary| next.canary_revision != Some(*canary))?;
    let is = |revision: Option<i64>| revision == Some(canary);
    if is(next.stable_revision) {
        let note = format!("revision {canary}, which the canary ran, is the stable one now");
        return Some(Transition::normal(event::ROLLOUT_PROMOTED, note));
    }
    let note = format!("revision {canary}, which the canary ran, is given up");
    is(next.rejected_revision).then(|| Transition::warning(event::ROLLOUT_ROLLED_BACK, note))
}

fn common(before: Option<&Remembered>, now: &Remembered, message: &str) -> Vec<Transition> {
    let mut told = Vec::new();
    let is_new = |is: &dyn Fn(&Remembered) -> bool| is(now) && !before.is_some_and(is);
    if is_new(&|status| status.is(condition::ACCEPTED, Verity::False)) {
        told.push(Transition::warning(event::NOT_ACCEPTED, message));
    }
    if is_new(&|status| status.has_reason(condition::ENFORCED, reason::PROXY_REJECTED)) {
        told.push(Transition::warning(event::PROXY_REJECTED, message));
    }
    told
}

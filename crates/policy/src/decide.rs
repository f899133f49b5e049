//! The verdict. `docs/policy.md` tells the same in prose.

use alloc::string::ToString;

use crate::explain::{Outcome, Step, Trace};
use crate::store::{GrantEntry, Server, SessionEntry, Store};
use crate::{AuthMode, EnforceOn, Mode, Reason, SideEffect, Tool, Trust};

/// Who calls, as far as it is known; empty: not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The person.
    pub human_id: &'a str,
    /// The agent.
    pub agent_id: &'a str,
    /// The team.
    pub team_id: &'a str,
    /// The presented session: `name` (in the server's namespace) or `namespace/name`. Empty: none.
    pub session_id: &'a str,
}

impl Identity<'_> {
    /// Whether nobody is named.
    pub fn is_anonymous(&self) -> bool {
        self.human_id.is_empty() && self.agent_id.is_empty() && self.team_id.is_empty()
    }
}

/// What is asked of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Methods that concern the connection: `initialize`, `ping`, `server/discover`, `logging/setLevel`, answers to
    /// the server's own requests, the stream and the end of a session.
    Control,
    /// Notifications of the caller's own; never refused for want of identity.
    Notification,
    /// Lists of tools, prompts and resources.
    List,
    /// `tools/call`.
    Tool {
        /// Its name.
        name: &'a str,
        /// It is to run as a task.
        as_task: bool,
    },
    /// `prompts/get`, or completion of a prompt's argument.
    Prompt {
        /// Its name.
        name: &'a str,
    },
    /// Reading, subscribing to or completing a resource.
    Resource {
        /// Its URI.
        uri: &'a str,
        /// Whether the URI is in its normal form.
        is_normal: bool,
    },
    /// A `tasks/…` method.
    Task,
    /// A method that is not known.
    Unknown,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Who.
    pub identity: Identity<'a>,
    /// What.
    pub target: Target<'a>,
    /// When, in seconds since 1970.
    pub now: i64,
}

/// What was decided, and on what evidence.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'a> {
    /// Whether the call may pass.
    pub allowed: bool,
    /// Why. [`Reason::Allowed`] exactly when a grant, or the absence of any need for one, allows; an allowance by
    /// `defaultDecision` carries the reason why no grant did.
    pub reason: Reason,
    /// `mode: observe` let pass what would be denied for this reason.
    pub would_deny: Option<Reason>,
    /// Trust the call requires.
    pub required_trust: Option<Trust>,
    /// Trust ceiling of the grant that decided.
    pub admin_trust: Option<Trust>,
    /// Trust of the session.
    pub consented_trust: Option<Trust>,
    /// The smaller of the two.
    pub effective_trust: Option<Trust>,
    /// What the call does.
    pub side_effect: Option<SideEffect>,
    /// Risk of the tool, for the record.
    pub risk: Option<Trust>,
    /// The grant that decided.
    pub grant: Option<&'a GrantEntry>,
    /// The session that was presented and found.
    pub session: Option<&'a SessionEntry>,
}

impl Verdict<'_> {
    /// A verdict that needed no evidence.
    pub const fn of(reason: Reason) -> Self {
        Self {
            allowed: matches!(reason, Reason::Allowed),
            reason,
            would_deny: None,
            required_trust: None,
            admin_trust: None,
            consented_trust: None,
            effective_trust: None,
            side_effect: None,
            risk: None,
            grant: None,
            session: None,
        }
    }
}

/// Decides one call to `server`.
///
/// Guarantees: total and deterministic; the order in which grants and sessions arrived does not matter; one more
/// enabled grant without deny rules never turns an allowance into a denial; a presented session that is dead, unknown
/// or somebody else's always denies.
pub fn decide<'a>(store: &'a Store, server: &'a Server, call: &Call<'_>) -> Verdict<'a> {
    decide_explained(store, server, call, &mut ())
}

/// As [`decide`], telling `trace` each step.
pub fn decide_explained<'a>(
    store: &'a Store,
    server: &'a Server,
    call: &Call<'_>,
    trace: &mut impl Trace,
) -> Verdict<'a> {
    let mut verdict = Verdict::of(Reason::Allowed);
    let call = match server.policy().auth.mode {
        AuthMode::Header | AuthMode::Oauth => *call,
        // Whatever the caller says of itself is not read.
        AuthMode::None => Call { identity: Identity::default(), ..*call },
    };
    if let Err(reason) = evaluate(store, server, &call, &mut verdict, trace) {
        verdict.reason = reason;
        verdict.allowed = false;
    }
    if !verdict.allowed && server.policy().mode == Mode::Observe {
        trace.step(|| Step::Observed(verdict.reason));
        verdict.would_deny = Some(verdict.reason);
        verdict.reason = Reason::Allowed;
        verdict.allowed = true;
    }
    verdict
}

/// What a grant must carry for a call.
#[derive(Clone, Copy)]
enum Need<'s, 'c> {
    /// To match.
    Match,
    /// To allow reading.
    Read,
    /// To allow the tool of this name, declared so.
    Tool(&'c str, Option<&'s Tool>),
}

fn evaluate<'a>(
    store: &'a Store,
    server: &'a Server,
    call: &Call<'_>,
    verdict: &mut Verdict<'a>,
    trace: &mut impl Trace,
) -> Result<(), Reason> {
    let policy = server.policy();
    if policy.auth.mode == AuthMode::Oauth {
        return Err(Reason::OauthProviderUnavailable);
    }
    if call.target == Target::Unknown {
        return Err(Reason::MethodNotAllowed);
    }
    let governed = is_governed(call.target, policy.enforce_on);
    trace.step(|| Step::Governed(governed));
    if governed {
        check_identity(server, call, trace)?;
    }
    check_session(store, server, call, governed, verdict, trace)?;
    if !governed {
        return Ok(());
    }
    let need = check_inventory(server, call.target, verdict, trace)?;
    check_grants(store, server, call, need, verdict, trace)
}

/// Whether the verdict on `call` depends on grants or sessions, so that it cannot be given before they are known.
pub fn needs_state(server: &Server, call: &Call<'_>) -> bool {
    is_governed(call.target, server.policy().enforce_on) || !call.identity.session_id.is_empty()
}

fn is_governed(target: Target<'_>, enforce_on: EnforceOn) -> bool {
    match target {
        Target::Tool { .. }
        | Target::Prompt { .. }
        | Target::Resource { .. }
        | Target::Task
        | Target::Unknown => true,
        Target::Control | Target::List => enforce_on == EnforceOn::All,
        Target::Notification => false,
    }
}

fn check_identity(server: &Server, call: &Call<'_>, trace: &mut impl Trace) -> Result<(), Reason> {
    let missing = call.identity.is_anonymous() && server.policy().auth.mode != AuthMode::None;
    step(trace, missing.then_some(Reason::MissingIdentity), Step::Identity)
}

/// Notes the session that was presented, and whether it is live; none is fine where none is needed.
fn check_session<'a>(
    store: &'a Store,
    server: &'a Server,
    call: &Call<'_>,
    governed: bool,
    verdict: &mut Verdict<'a>,
    trace: &mut impl Trace,
) -> Result<(), Reason> {
    let id = call.identity.session_id;
    let rules = &server.policy().session;
    let (session, failure) = if id.is_empty() {
        (None, (governed && rules.required).then_some(Reason::MissingSession))
    } else {
        let (namespace, name) = id.split_once('/').unwrap_or((&server.policy().id.namespace, id));
        match store.session(namespace, name).filter(|s| s.belongs_to(server.key(), &call.identity)) {
            Some(session) => (Some(session), session_fault(session, server, call.now)),
            None => (None, Some(Reason::SessionNotFound)),
        }
    };
    let told = Some(id).filter(|id| !id.is_empty());
    verdict.session = session;
    verdict.consented_trust = session.map(SessionEntry::consented_trust);
    step(trace, failure, |outcome| Step::Session { id: told.map(ToString::to_string), outcome })
}

fn session_fault(session: &SessionEntry, server: &Server, now: i64) -> Option<Reason> {
    let policy = server.policy();
    let rules = &policy.session;
    if session.is_revoked() {
        Some(Reason::SessionRevoked)
    } else if !version_counts(session.policy_version(), &policy.policy_version) {
        Some(Reason::PolicyVersionMismatch)
    } else if session.is_expired(now) {
        Some(Reason::SessionExpired)
    } else if rules.max_lifetime_seconds > 0 && session.is_older_than(rules.max_lifetime_seconds, now) {
        Some(Reason::SessionLifetimeExceeded)
    } else if rules.idle_timeout_seconds > 0 && session.is_idle_for(rules.idle_timeout_seconds, now) {
        Some(Reason::SessionIdle)
    } else {
        None
    }
}

fn version_counts(named: &str, current: &str) -> bool {
    named.is_empty() || named == current
}

/// What the server's inventory says of the target; what is not declared is denied whatever the grants say, but a tool
/// that is not declared is reported only after the grants had their say.
fn check_inventory<'s, 'c>(
    server: &'s Server,
    target: Target<'c>,
    verdict: &mut Verdict<'s>,
    trace: &mut impl Trace,
) -> Result<Need<'s, 'c>, Reason> {
    let (need, failure) = match target {
        Target::Control | Target::List | Target::Notification | Target::Unknown => return Ok(Need::Match),
        Target::Tool { name, as_task } => {
            let tool = server.tool(name);
            verdict.side_effect = tool.and_then(|t| t.side_effect);
            verdict.required_trust = tool.map(|t| t.required_trust);
            verdict.risk = tool.and_then(|t| t.risk);
            (Need::Tool(name, tool), (as_task && !server.has_task(name)).then_some(Reason::TaskNotDeclared))
        }
        Target::Prompt { name } => {
            (Need::Read, (!server.has_prompt(name)).then_some(Reason::PromptNotDeclared))
        }
        Target::Resource { is_normal: false, .. } => (Need::Read, Some(Reason::ResourceUriNotNormal)),
        Target::Resource { uri, is_normal: true } => {
            (Need::Read, (!server.has_resource(uri)).then_some(Reason::ResourceNotDeclared))
        }
        Target::Task => (Need::Read, (!server.has_tasks()).then_some(Reason::TaskNotDeclared)),
    };
    if matches!(need, Need::Read) {
        verdict.side_effect = Some(SideEffect::Read);
        verdict.required_trust = Some(Trust::Low);
    }
    let (required_trust, side_effect) = (verdict.required_trust.unwrap_or_default(), verdict.side_effect);
    step(trace, failure, |outcome| Step::Inventory { required_trust, side_effect, outcome })?;
    Ok(need)
}

/// How close a grant came; a later one is the better explanation of a denial.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Disabled,
    OtherVersion,
    NotGranted,
    SideEffect,
    Trust,
    Sufficient,
}

impl Rank {
    const fn reason(self) -> Reason {
        match self {
            Self::Disabled => Reason::GrantDisabled,
            Self::OtherVersion => Reason::PolicyVersionMismatch,
            Self::NotGranted => Reason::ToolNotGranted,
            Self::SideEffect => Reason::SideEffectNotAllowed,
            Self::Trust => Reason::TrustTooLow,
            Self::Sufficient => Reason::Allowed,
        }
    }
}

/// One grant, decided on its own.
#[derive(Clone, Copy)]
struct Finding<'a> {
    entry: &'a GrantEntry,
    rank: Rank,
    required: Trust,
    effective: Trust,
}

fn check_grants<'a>(
    store: &'a Store,
    server: &'a Server,
    call: &Call<'_>,
    need: Need<'_, '_>,
    verdict: &mut Verdict<'a>,
    trace: &mut impl Trace,
) -> Result<(), Reason> {
    let mut best: Option<Finding<'a>> = None;
    let mut denied: Option<&'a GrantEntry> = None;
    let mut disabled = false;
    for entry in store.matching_grants(server.key(), &call.identity) {
        let finding = judge_grant(entry, server, need, verdict.consented_trust);
        let denies = is_denied(entry, need);
        disabled |= finding.rank == Rank::Disabled;
        trace.step(|| Step::Grant {
            id: entry.grant().id.to_string(),
            required_trust: finding.required,
            effective_trust: finding.effective,
            outcome: outcome(match (denies, finding.rank) {
                (true, _) => Some(Reason::ToolDenied),
                (false, Rank::Sufficient) => None,
                (false, rank) => Some(rank.reason()),
            }),
        });
        if denies && denied.is_none_or(|known| entry.grant().id < known.grant().id) {
            denied = Some(entry);
        }
        // Ties go to the smaller name, so that the order of arrival shows nowhere.
        if best.is_none_or(|b| {
            finding.rank > b.rank || (finding.rank == b.rank && entry.grant().id < b.entry.grant().id)
        }) {
            best = Some(finding);
        }
    }
    if denied.is_some() {
        verdict.grant = denied;
        return Err(Reason::ToolDenied);
    }
    if let Some(finding) = best {
        verdict.grant = Some(finding.entry);
        verdict.required_trust = Some(finding.required);
        verdict.admin_trust = Some(finding.entry.grant().max_trust);
        verdict.effective_trust = Some(finding.effective);
    }
    let own_trust = match need {
        Need::Tool(_, tool) => tool.map(|tool| tool.required_trust).unwrap_or_default(),
        Need::Match | Need::Read => Trust::Low,
    };
    let reason = best.map_or(Reason::NoMatchingGrant, |finding| finding.rank.reason());
    let has_unknown_effect = matches!(need, Need::Tool(..)) && verdict.side_effect.is_none();
    match (reason, has_unknown_effect) {
        (Reason::Allowed, false) => Ok(()),
        // Nobody knows what the tool does, so neither a grant nor the default can allow it.
        (Reason::Allowed | Reason::SideEffectNotAllowed | Reason::TrustTooLow, true) => {
            Err(Reason::ToolSideEffectUnknown)
        }
        (reason, unknown) => {
            let default = Fallback { reason, unknown, disabled, own_trust };
            by_default(server, &default, verdict, trace)
        }
    }
}

/// What `defaultDecision` must not lift, and why it is asked.
struct Fallback {
    /// Why no grant sufficed.
    reason: Reason,
    /// Nobody knows what the tool does.
    unknown: bool,
    /// A grant of the subject is switched off.
    disabled: bool,
    /// Trust the tool itself requires; what a grant's rule adds would let one more grant take access away.
    own_trust: Trust,
}

/// No grant suffices: `defaultDecision`. It never lifts a switched-off grant, an unknown side effect or the ceiling
/// of the user's consent.
fn by_default(
    server: &Server,
    default: &Fallback,
    verdict: &mut Verdict<'_>,
    trace: &mut impl Trace,
) -> Result<(), Reason> {
    let allow = server.policy().default_allow;
    trace.step(|| Step::Default { allow });
    if !allow {
        return Err(default.reason);
    }
    if default.disabled {
        return Err(Reason::GrantDisabled);
    }
    if default.unknown {
        return Err(Reason::ToolSideEffectUnknown);
    }
    if verdict.consented_trust.is_some_and(|consented| consented < default.own_trust) {
        return Err(Reason::TrustTooLow);
    }
    verdict.reason = default.reason;
    Ok(())
}

/// Whether the grant forbids the tool in so many words. A rule made for another version of the policy still forbids:
/// only what it would allow is withdrawn.
fn is_denied(entry: &GrantEntry, need: Need<'_, '_>) -> bool {
    match need {
        Need::Tool(name, _) => !entry.grant().disabled && entry.rule(name).is_some_and(|rule| rule.deny),
        Need::Match | Need::Read => false,
    }
}

fn judge_grant<'a>(
    entry: &'a GrantEntry,
    server: &Server,
    need: Need<'_, '_>,
    consented: Option<Trust>,
) -> Finding<'a> {
    let grant = entry.grant();
    let effective = consented.map_or(grant.max_trust, |consented| consented.min(grant.max_trust));
    let mut required = Trust::Low;
    let mut granted = true;
    let effect = match need {
        Need::Match => None,
        Need::Read => Some(SideEffect::Read),
        Need::Tool(name, tool) => {
            required = tool.map_or(Trust::Low, |tool| tool.required_trust);
            match entry.rule(name) {
                Some(rule) => {
                    required = required.max(rule.required_trust);
                    granted = !rule.deny;
                }
                None => granted = grant.tool_rules.is_empty(),
            }
            tool.and_then(|tool| tool.side_effect)
        }
    };
    let rank = if grant.disabled {
        Rank::Disabled
    } else if !version_counts(&grant.policy_version, &server.policy().policy_version) {
        Rank::OtherVersion
    } else if !granted {
        Rank::NotGranted
    } else if effect.is_some_and(|effect| !grant.allowed_side_effects.contains(effect)) {
        Rank::SideEffect
    } else if effective < required {
        Rank::Trust
    } else {
        Rank::Sufficient
    };
    Finding { entry, rank, required, effective }
}

fn outcome(failure: Option<Reason>) -> Outcome {
    failure.map_or(Outcome::Pass, Outcome::Fail)
}

fn step(
    trace: &mut impl Trace,
    failure: Option<Reason>,
    build: impl FnOnce(Outcome) -> Step,
) -> Result<(), Reason> {
    trace.step(|| build(outcome(failure)));
    failure.map_or(Ok(()), Err)
}

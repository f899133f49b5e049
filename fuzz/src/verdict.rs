//! Any policy, any call.

use arbitrary::{Result, Unstructured};
use sallyport_policy::{
    AuthMode, Call, EnforceOn, Grant, Identity, Mode, ObjectId, Reason, ServerPolicy, Session, SessionRules,
    SideEffect, SideEffects, Store, Subject, Target, Tool, ToolRule, Trust, decide_explained,
};

/// Makes a policy and a call of `bytes` and decides it. Answers with the reason.
///
/// # Panics
/// The verdict contradicts itself, or one of the rules that have no exception.
pub fn verdict(bytes: &[u8]) -> Option<Reason> {
    decide(&mut Unstructured::new(bytes)).ok().flatten()
}

fn decide(u: &mut Unstructured<'_>) -> Result<Option<Reason>> {
    let policy = server(u)?;
    let now = u.int_in_range(0..=i64::from(u32::MAX))?;
    let mut store = Store::new();
    for _ in 0..u.int_in_range(0..=4)? {
        store.upsert_grant(grant(u)?, 0);
    }
    let mut revoked = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let session = session(u, now)?;
        revoked.retain(|id| *id != session.id);
        if session.revoked {
            revoked.push(session.id.clone());
        }
        if store.upsert_session(&session, 0, now).is_err() {
            return Ok(None);
        }
    }
    if u.ratio(1, 8)? {
        store.remove_grant(&id(u)?.to_string());
        let gone = id(u)?;
        store.remove_session(&gone.to_string());
        revoked.retain(|id| *id != gone);
    }
    store.set_servers(vec![policy.clone()]);
    let identity =
        Identity { human_id: word(u)?, agent_id: word(u)?, team_id: word(u)?, session_id: word(u)? };
    let call = Call { identity, target: target(u)?, now };
    let Some(server) = store.server(&policy.id) else {
        return Ok(None);
    };
    let mut steps = Vec::new();
    let verdict = decide_explained(&store, server, &call, &mut steps);
    assert!(verdict.allowed || verdict.reason != Reason::Allowed, "a denial has a reason");
    assert!(verdict.would_deny.is_none() || (verdict.allowed && policy.mode == Mode::Observe));
    assert!(verdict.allowed || policy.mode == Mode::AllowList, "observing lets pass");
    let denied = !verdict.allowed || verdict.would_deny.is_some();
    // An empty id presents none, and one with a slash names its own namespace.
    let is_plain = !identity.session_id.is_empty() && !identity.session_id.contains('/');
    let presented = Some(ObjectId::new("ns", identity.session_id)).filter(|_| is_plain);
    let is_revoked = presented.is_some_and(|id| revoked.contains(&id));
    assert!(denied || policy.auth.mode == AuthMode::None || !is_revoked, "a revoked session denies");
    assert!(denied || call.target != Target::Unknown, "what is not known is denied");
    let again = sallyport_policy::decide(&store, server, &call);
    assert_eq!(
        (again.allowed, again.reason, again.would_deny),
        (verdict.allowed, verdict.reason, verdict.would_deny)
    );
    Ok(Some(verdict.would_deny.unwrap_or(verdict.reason)))
}

/// Mostly one of few words, so that things meet; sometimes any text.
fn word<'a>(u: &mut Unstructured<'a>) -> Result<&'a str> {
    const WORDS: [&str; 5] = ["", "a", "b", "s", "r://1"];
    if u.ratio(1, 16)? { u.arbitrary() } else { u.choose(&WORDS).copied() }
}

fn id(u: &mut Unstructured<'_>) -> Result<ObjectId> {
    Ok(ObjectId::new("ns", word(u)?))
}

/// The one server, mostly.
fn server_id(u: &mut Unstructured<'_>) -> Result<ObjectId> {
    if u.ratio(1, 16)? { id(u) } else { Ok(ObjectId::new("ns", "server")) }
}

fn trust(u: &mut Unstructured<'_>) -> Result<Trust> {
    u.choose(&[Trust::Low, Trust::Medium, Trust::High]).copied()
}

fn effect(u: &mut Unstructured<'_>) -> Result<SideEffect> {
    u.choose(&[SideEffect::Read, SideEffect::Write, SideEffect::Destructive]).copied()
}

fn effects(u: &mut Unstructured<'_>) -> Result<SideEffects> {
    (0..u.int_in_range(0..=3)?).map(|_| effect(u)).collect()
}

fn subject(u: &mut Unstructured<'_>) -> Result<Subject> {
    Ok(Subject { human_id: word(u)?.into(), agent_id: word(u)?.into(), team_id: word(u)?.into() })
}

fn words(u: &mut Unstructured<'_>) -> Result<Vec<String>> {
    (0..u.int_in_range(0..=2)?).map(|_| word(u).map(Into::into)).collect()
}

fn server(u: &mut Unstructured<'_>) -> Result<ServerPolicy> {
    let tools = (0..u.int_in_range(0..=3)?).map(|_| {
        let side_effect = if u.ratio(7, 8)? { Some(effect(u)?) } else { None };
        Ok(Tool { name: word(u)?.into(), required_trust: trust(u)?, side_effect, risk: None })
    });
    let tools = tools.collect::<Result<_>>()?;
    let mut policy = ServerPolicy {
        id: ObjectId::new("ns", "server"),
        default_allow: u.arbitrary()?,
        policy_version: word(u)?.into(),
        session: SessionRules {
            required: u.arbitrary()?,
            max_lifetime_seconds: u.int_in_range(0..=3)?,
            idle_timeout_seconds: u.int_in_range(0..=3)?,
            ..SessionRules::default()
        },
        tools,
        prompts: words(u)?,
        resources: words(u)?,
        tasks: words(u)?,
        ..ServerPolicy::default()
    };
    if u.ratio(1, 4)? {
        policy.resources.push("r://{x}".into());
    }
    if u.ratio(1, 8)? {
        policy.mode = Mode::Observe;
    }
    if u.ratio(1, 4)? {
        policy.enforce_on = EnforceOn::All;
    }
    if u.ratio(1, 8)? {
        policy.auth.mode = *u.choose(&[AuthMode::None, AuthMode::Oauth])?;
    }
    Ok(policy)
}

fn grant(u: &mut Unstructured<'_>) -> Result<Grant> {
    let tool_rules = (0..u.int_in_range(0..=3)?)
        .map(|_| Ok(ToolRule { name: word(u)?.into(), deny: u.ratio(1, 4)?, required_trust: trust(u)? }));
    let tool_rules = tool_rules.collect::<Result<_>>()?;
    Ok(Grant {
        id: id(u)?,
        server: server_id(u)?,
        subject: subject(u)?,
        max_trust: trust(u)?,
        allowed_side_effects: effects(u)?,
        policy_version: word(u)?.into(),
        disabled: u.ratio(1, 4)?,
        tool_rules,
    })
}

fn session(u: &mut Unstructured<'_>, now: i64) -> Result<Session> {
    let near = |u: &mut Unstructured<'_>| -> Result<Option<i64>> {
        let offset = u.int_in_range(-4..=4)?;
        Ok(if u.ratio(1, 4)? { u.arbitrary()? } else { Some(now.saturating_add(offset)) })
    };
    Ok(Session {
        id: id(u)?,
        server: server_id(u)?,
        subject: subject(u)?,
        consented_trust: trust(u)?,
        revoked: u.ratio(1, 4)?,
        expires_at: near(u)?,
        issued_at: near(u)?,
        policy_version: word(u)?.into(),
    })
}

fn target<'a>(u: &mut Unstructured<'a>) -> Result<Target<'a>> {
    Ok(match u.int_in_range(0..=10)? {
        0 => Target::Control,
        1 => Target::Notification,
        2 => Target::List,
        3 => Target::Prompt { name: word(u)? },
        4 => Target::Resource { uri: word(u)?, is_normal: u.arbitrary()? },
        5 => Target::Task,
        6 => Target::Unknown,
        _ => Target::Tool { name: word(u)?, as_task: u.ratio(1, 8)? },
    })
}

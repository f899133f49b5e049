//! Why a request is allowed or denied: the judge that the proxy runs, on the state of this moment, step by step.
//!
//! What a proxy alone knows is left out: whether it has all of its state, and whether its audit events find room. When
//! it last saw a session is taken from the question; where that does not say, the session counts as just used.

mod question;
mod steps;

use jiff::Timestamp;
use sallyport_api::Kind;
use sallyport_filter_core::answer;
use sallyport_filter_core::judge::{Input, Judgement, Ruling, judge_explained};
use sallyport_filter_core::pairs::{Pairs, serialize};
use sallyport_mcp_wire::{Fault, Scratch, Text};
use sallyport_policy::{ObjectId, Reason, SideEffect, Step, Store, Trust, Verdict};
use sallyport_resolve::{Problem, Settings, exposure, resolve_server};
use serde_json::{Map, Value, json};

pub(crate) use question::Question;

use crate::error::{ApiError, Code};
use crate::resources::{Access, ResourceError, View};
use crate::v1::problem;

/// The state that a proxy of this server would have, and what is wrong with it.
struct State {
    store: Store,
    problems: Vec<Value>,
}

/// Explains. `now` counts where the question names no time.
pub(crate) fn explain(
    view: &View,
    settings: &Settings,
    question: &Question,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let id = ObjectId::new(&*question.namespace, &*question.server);
    let at = question.at.unwrap_or(now);
    let server =
        view.server(&id).ok_or_else(|| ResourceError::NotFound { kind: Kind::Server, id: id.clone() })?;
    let (policy, mut problems) = resolve_server(server, settings);
    let path = match exposure(server) {
        Ok(exposure) => exposure.path,
        Err(problem) => {
            problems.push(problem);
            format!("/{}/mcp", id.name)
        }
    };
    let (route, auth) = (policy.route.clone(), policy.auth.clone());
    let mut state = state(view, &id, question.last_used.unwrap_or(at).as_second())?;
    let idle_timeout = policy.session.idle_timeout_seconds;
    // What the question does not say is each proxy's to judge; the answer says so.
    let unjudged_idle = Some(idle_timeout).filter(|seconds| *seconds > 0 && question.last_used.is_none());
    state.problems.extend(problems.iter().map(|found| told(Kind::Server, &id, found)));
    state.store.set_servers(vec![policy]);
    let body = question.body()?;
    let pairs = question.headers(&auth, &path)?;
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let map = serialize(&pairs);
    let input = Input {
        headers: Pairs::new(&map),
        body: body.as_bytes(),
        route: &route,
        now: at.as_second(),
        synced: true,
    };
    let mut steps: Vec<Step> = Vec::new();
    let mut scratch = Scratch::new(0);
    let judgement = judge_explained(&state.store, &mut scratch, &input, &mut steps);
    let mut answer = ruling(&judgement);
    answer.extend(asked(&judgement));
    answer.insert("namespace".into(), id.namespace.as_str().into());
    answer.insert("server".into(), id.name.as_str().into());
    answer.insert("at".into(), at.to_string().into());
    answer.insert("steps".into(), steps::tell(&judgement, &steps, unjudged_idle));
    answer.insert("problems".into(), state.problems.into());
    Ok(Value::Object(answer))
}

/// Grants and sessions that name the server, last used at `last_used` in seconds since 1970. Sessions of other servers deny like unknown ones, so they can be missing.
fn state(view: &View, server: &ObjectId, last_used: i64) -> Result<State, ApiError> {
    let mut state = State { store: Store::new(), problems: Vec::new() };
    for kind in [Kind::Grant, Kind::Session] {
        for (id, stored) in view.list(kind) {
            let (access, problems) = view.resolve(id, stored);
            let Some(access) = access.filter(|access| access.server() == server) else {
                continue;
            };
            state.problems.extend(problems.iter().map(|found| told(kind, id, found)));
            match access {
                Access::Grant(grant) => state.store.upsert_grant(grant, 0),
                Access::Session(session) => state
                    .store
                    .upsert_session(&session, 0, last_used)
                    .map_err(|error| ApiError::new(Code::Conflict, format!("session `{id}`: {error}")))?,
            }
        }
    }
    Ok(state)
}

fn told(kind: Kind, id: &ObjectId, found: &Problem) -> Value {
    let mut told = problem(found);
    if let Some(fields) = told.as_object_mut() {
        fields.insert("object".into(), format!("{} {id}", kind.as_str()).into());
    }
    told
}

fn ruling(judgement: &Judgement<'_>) -> Map<String, Value> {
    // The event's id is the proxy's to give.
    let answer = answer::to(judgement, &[0; 16]);
    let http_status = answer.as_ref().map_or(200, |answer| answer.status);
    let (code, remedy) = match &judgement.ruling {
        Ruling::Verdict(verdict) if verdict.allowed => (None, Reason::Allowed.remedy()),
        Ruling::Verdict(verdict) => (Some(verdict.reason.json_rpc_code()), verdict.reason.remedy()),
        Ruling::Fault(fault) => (Some(fault.json_rpc_code()), Fault::message(*fault)),
    };
    let mut told = object(json!({
        "decision": if judgement.allowed() { "allow" } else { "deny" },
        "reason": judgement.reason(),
        "http_status": http_status,
        // A dropped notification has no answer to put a code into.
        "json_rpc_code": code.filter(|_| answer.as_ref().is_some_and(|answer| !answer.body.is_empty())),
        "remedy": remedy,
    }));
    match &judgement.ruling {
        Ruling::Verdict(verdict) => told.extend(evidence(verdict)),
        Ruling::Fault(_) => {}
    }
    told
}

fn evidence(verdict: &Verdict<'_>) -> Map<String, Value> {
    let trust = |trust: Option<Trust>| trust.map(Trust::as_str);
    let grant = verdict.grant.map(|entry| entry.grant().id.to_string());
    let session = verdict.session.map(|session| format!("{}/{}", session.namespace(), session.name()));
    object(json!({
        "would_deny": verdict.would_deny.map(Reason::as_str),
        "matched_grant": grant,
        "matched_session": session,
        "required_trust": trust(verdict.required_trust),
        "admin_trust": trust(verdict.admin_trust),
        "consented_trust": trust(verdict.consented_trust),
        "effective_trust": trust(verdict.effective_trust),
        "required_side_effect": verdict.side_effect.map(SideEffect::as_str),
        "risk_level": trust(verdict.risk),
    }))
}

fn asked(judgement: &Judgement<'_>) -> Map<String, Value> {
    let message = judgement.message.as_ref();
    object(json!({
        "rpc_method": message.map(|message| message.method_name.as_str()),
        "tool_name": message.and_then(|message| message.name.as_ref()).map(Text::as_str),
        "era": judgement.agreement.map(|agreement| agreement.era.as_str()),
        "protocol_version": judgement.agreement.and_then(|agreement| agreement.version),
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

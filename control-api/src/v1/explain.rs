//! `POST runtime/policy/explain`: the verdict on a request, step by step, from the code that the filter runs.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use sallyport_api::{Kind, Object};
use sallyport_filter_core::judge::{Input, Ruling, judge_explained};
use sallyport_filter_core::pairs::{Pairs, serialize};
use sallyport_mcp_wire::Scratch;
use sallyport_policy::{ObjectId, Outcome, Step, Store, Trust};
use sallyport_resolve::{Settings, resolve_grant, resolve_server, resolve_session, server_of};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::directory::Objects;
use crate::error::ApiError;
use crate::state::AppState;

/// Who calls.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Identity {
    #[serde(rename = "humanID")]
    human_id: String,
    #[serde(rename = "agentID")]
    agent_id: String,
    #[serde(rename = "teamID")]
    team_id: String,
    #[serde(rename = "sessionID")]
    session_id: String,
}

/// The question.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    namespace: String,
    server: String,
    #[serde(default)]
    identity: Identity,
    /// The JSON-RPC message; a string is taken as the raw body.
    request: Value,
    /// Further headers, as pairs.
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// When; by default now.
    at: Option<jiff::Timestamp>,
}

/// Answers.
pub(crate) async fn explain(
    State(state): State<AppState>,
    body: Result<Json<Question>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(question) = body.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let id = ObjectId::new(question.namespace.as_str(), question.server.as_str());
    let objects = state.directory.load()?;
    let now = question.at.unwrap_or_else(jiff::Timestamp::now).as_second();
    let store = store_for(&id, &objects, now)?;
    let body = match &question.request {
        Value::String(raw) => raw.clone(),
        message => message.to_string(),
    };
    let server =
        store.server(&id).ok_or_else(|| ApiError::not_found(format!("there is no MCPServer {id}")))?;
    let auth = server.policy().auth.clone();
    let mut pairs = vec![(":method", "POST"), (":path", "/"), (":authority", "explain")];
    let given = |name: &str| question.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    for (name, value) in
        [("content-type", "application/json"), ("accept", "application/json, text/event-stream")]
    {
        if !given(name) {
            pairs.push((name, value));
        }
    }
    let who = &question.identity;
    let identity = [
        (&auth.human_header, &who.human_id),
        (&auth.agent_header, &who.agent_id),
        (&auth.team_header, &who.team_id),
        (&auth.session_header, &who.session_id),
    ];
    pairs.extend(
        identity
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    let more: Vec<(String, &str)> =
        question.headers.iter().map(|(name, value)| (name.to_lowercase(), value.as_str())).collect();
    pairs.extend(more.iter().map(|(name, value)| (name.as_str(), *value)));
    let headers = serialize(&pairs);
    let route = id.to_string();
    let input =
        Input { headers: Pairs::new(&headers), body: body.as_bytes(), route: &route, now, synced: true };
    let mut steps: Vec<Step> = Vec::new();
    let judgement = judge_explained(&store, &mut Scratch::new(0), &input, &mut steps);
    let mut answer = match &judgement.ruling {
        Ruling::Verdict(verdict) => {
            let family = verdict.reason.family();
            let trust = |trust: Option<Trust>| trust.map(Trust::as_str);
            json!({
                "http_status": family.http_status(), "json_rpc_code": family.json_rpc_code(), "remedy": verdict.reason.remedy(),
                "would_deny": verdict.would_deny.map(|reason| reason.as_str()),
                "matched_grant": verdict.grant.map(|grant| grant.grant().id.to_string()),
                "matched_session": verdict.session.map(|session| format!("{}/{}", session.namespace(), session.name())),
                "required_trust": trust(verdict.required_trust), "admin_trust": trust(verdict.admin_trust),
                "consented_trust": trust(verdict.consented_trust), "effective_trust": trust(verdict.effective_trust),
                "required_side_effect": verdict.side_effect.map(|effect| effect.as_str()),
            })
        }
        Ruling::Fault(fault) => {
            json!({ "http_status": fault.http_status(), "json_rpc_code": fault.json_rpc_code(), "remedy": fault.message() })
        }
    };
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("decision".into(), if judgement.allowed() { "allow" } else { "deny" }.into());
        answer.insert("reason".into(), judgement.reason().into());
        answer.insert("steps".into(), steps.iter().map(step).collect());
    }
    Ok(Json(answer))
}

/// A store with the server, and the grants and sessions that name it.
fn store_for(id: &ObjectId, objects: &Objects, now: i64) -> Result<Store, ApiError> {
    let server =
        objects.server(id).ok_or_else(|| ApiError::not_found(format!("there is no MCPServer {id}")))?;
    let mut store = Store::new();
    store.set_servers(vec![resolve_server(server, &Settings::default()).0]);
    for (of, object) in objects.of(Kind::Grant).chain(objects.of(Kind::Session)) {
        match object {
            Object::Grant(grant) if server_of(&grant.spec.server_ref, &of.namespace) == *id => {
                if let Some(grant) = resolve_grant(grant, Some(server)).value {
                    store.upsert_grant(grant, 0);
                }
            }
            Object::Session(session) if server_of(&session.spec.server_ref, &of.namespace) == *id => {
                if let Some(session) =
                    resolve_session(session, Some(server), objects.modified(Kind::Session, of)).value
                {
                    // Idle time is each proxy's own knowledge; here every session counts as just used.
                    store
                        .upsert_session(&session, 0, now)
                        .map_err(|error| ApiError::invalid(error.to_string()))?;
                }
            }
            Object::Grant(_) | Object::Session(_) | Object::Server(_) => {}
        }
    }
    Ok(store)
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail(reason) => reason.as_str(),
    }
}

fn step(step: &Step) -> Value {
    match step {
        Step::Governed(governed) => {
            json!({ "step": "governed", "outcome": if *governed { "needs a grant" } else { "needs none" } })
        }
        Step::Identity(result) => json!({ "step": "identity", "outcome": outcome(result) }),
        Step::Session { id, outcome: result } => {
            json!({ "step": "session", "id": id, "outcome": outcome(result) })
        }
        Step::Inventory { required_trust, side_effect, outcome: result } => json!({
            "step": "inventory", "required_trust": required_trust.as_str(),
            "side_effect": side_effect.map(|effect| effect.as_str()), "outcome": outcome(result),
        }),
        Step::Grant { id, required_trust, effective_trust, outcome: result } => json!({
            "step": "grant", "id": id, "required_trust": required_trust.as_str(),
            "effective_trust": effective_trust.as_str(), "outcome": outcome(result),
        }),
        Step::Default { allow } => {
            json!({ "step": "default", "outcome": if *allow { "allow" } else { "deny" } })
        }
        Step::Observed(reason) => {
            json!({ "step": "observe", "outcome": "allow", "would_deny": reason.as_str() })
        }
    }
}

//! The policy of one server as proxies get it.

use axum::Json;
use axum::extract::State;
use axum::routing;
use sallyport_api::Kind;
use sallyport_policy::{AuditOverload, AuthMode, Grant, ObjectId, ServerPolicy, Session};
use sallyport_resolve::resolve_server;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::resources::{Access, ResourceError, View};
use crate::v1::access::problem;
use crate::v1::{Route, Verb, policy};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/runtime/policy",
    tag: "policy",
    summary: "The policy of a server as proxies get it, with the grants and sessions that name it.",
    query: &[("namespace", "The server's namespace; required."), ("server", "The server's name; required.")],
    body: None,
    answers: &[(200, "Policy")],
    errors: &[Code::InvalidQuery, Code::NotFound],
    is_open: false,
    handler: || routing::get(get),
};

async fn get(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    let params = params.only(&["namespace", "server"])?;
    let id = ObjectId::new(params.require("namespace")?, params.require("server")?);
    let view = app.resources.view().await?;
    let missing = || ResourceError::NotFound { kind: Kind::Server, id: id.clone() };
    let server = view.server(&id).ok_or_else(missing)?;
    let (resolved, problems) = resolve_server(server, &app.settings);
    let mut rendered = server_part(&resolved);
    if let Some(fields) = rendered.as_object_mut() {
        fields.insert("grants".into(), access(&view, Kind::Grant, &id));
        fields.insert("sessions".into(), access(&view, Kind::Session, &id));
        fields.insert("problems".into(), problems.iter().map(problem).collect());
        fields.insert("source".into(), app.resources.source().into());
    }
    Ok(Json(rendered))
}

fn server_part(policy: &ServerPolicy) -> Value {
    let mode = match policy.auth.mode {
        AuthMode::None => "none",
        AuthMode::Header => "header",
        AuthMode::Oauth => "oauth",
    };
    let auth = &policy.auth;
    let tools: Vec<Value> = policy
        .tools
        .iter()
        .map(|tool| {
            json!({
                "name": tool.name, "required_trust": tool.required_trust.as_str(),
                "side_effect": tool.side_effect.map(|effect| effect.as_str()),
                "risk_level": tool.risk.map(|risk| risk.as_str()),
            })
        })
        .collect();
    json!({
        "schema_version": "v1",
        "server": {
            "name": policy.id.name, "namespace": policy.id.namespace, "team_id": policy.team_id,
            "cluster": policy.cluster,
        },
        "auth": {
            "mode": mode, "human_id_header": auth.human_header, "agent_id_header": auth.agent_header,
            "team_id_header": auth.team_header, "session_id_header": auth.session_header,
            "token_header": auth.token_header,
        },
        "policy": policy::rules(policy),
        "session": {
            "required": policy.session.required, "max_lifetime_seconds": policy.session.max_lifetime_seconds,
            "idle_timeout_seconds": policy.session.idle_timeout_seconds,
            "upstream_token_header": policy.session.upstream_token_header,
        },
        "tools": tools, "prompts": policy.prompts, "resources": policy.resources, "tasks": policy.tasks,
        "max_request_bytes": policy.max_request_bytes,
        "audit": {
            "arguments": policy.audit_arguments.as_str(), "redact": policy.audit_redact,
            "max_argument_bytes": policy.audit_max_argument_bytes,
            "on_overload": match policy.audit_overload { AuditOverload::Deny => "deny", AuditOverload::Drop => "drop" },
        },
    })
}

fn access(view: &View, kind: Kind, server: &ObjectId) -> Value {
    let resolved = view.list(kind).filter_map(|(id, stored)| view.resolve(id, stored).0);
    resolved
        .filter(|access| access.server() == server)
        .map(|access| {
            let version = access.version();
            match access {
                Access::Grant(grant) => shown_grant(&grant, &version),
                Access::Session(session) => shown_session(&session, &version),
            }
        })
        .collect()
}

fn shown_grant(grant: &Grant, version: &str) -> Value {
    let rules: Vec<Value> = grant
        .tool_rules
        .iter()
        .map(|rule| {
            json!({
                "name": rule.name, "decision": if rule.deny { "deny" } else { "allow" },
                "required_trust": rule.required_trust.as_str(),
            })
        })
        .collect();
    let effects: Vec<&str> = grant.allowed_side_effects.iter().map(|effect| effect.as_str()).collect();
    json!({
        "name": grant.id.name, "namespace": grant.id.namespace, "human_id": grant.subject.human_id,
        "agent_id": grant.subject.agent_id, "team_id": grant.subject.team_id, "max_trust": grant.max_trust.as_str(),
        "allowed_side_effects": effects, "policy_version": grant.policy_version, "disabled": grant.disabled,
        "tool_rules": rules, "version": version,
    })
}

fn shown_session(session: &Session, version: &str) -> Value {
    let time = |seconds: i64| jiff::Timestamp::from_second(seconds).ok().map(|time| time.to_string());
    json!({
        "name": session.id.name, "namespace": session.id.namespace, "human_id": session.subject.human_id,
        "agent_id": session.subject.agent_id, "team_id": session.subject.team_id,
        "consented_trust": session.consented_trust.as_str(), "revoked": session.revoked,
        "expires_at": session.expires_at.and_then(time), "issued_at": session.issued_at.and_then(time),
        "policy_version": session.policy_version, "version": version,
    })
}

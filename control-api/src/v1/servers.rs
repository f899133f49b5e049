//! Servers, their policy, the parts that run.

use axum::Json;
use axum::extract::{Path, Query, State};
use sallyport_api::v1alpha1::MCPServer;
use sallyport_api::{Kind, Object};
use sallyport_policy::ObjectId;
use sallyport_resolve::{Settings, exposure, resolve_server};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::state::AppState;

fn view(id: &ObjectId, server: &MCPServer) -> Value {
    let mut view = serde_json::to_value(&server.spec).unwrap_or(Value::Null);
    if let Some(view) = view.as_object_mut() {
        view.insert("name".into(), id.name.as_str().into());
        view.insert("namespace".into(), id.namespace.as_str().into());
        let path = exposure(server).map(|exposure| exposure.path).unwrap_or_default();
        view.insert("path".into(), path.into());
    }
    view
}

/// `GET runtime/servers`.
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let objects = state.directory.load()?;
    let servers: Vec<Value> = objects
        .of(Kind::Server)
        .filter_map(|(id, object)| match object {
            Object::Server(server) => Some(view(id, server)),
            Object::Grant(_) | Object::Session(_) => None,
        })
        .collect();
    Ok(Json(json!({ "servers": servers })))
}

/// `GET runtime/servers/{namespace}/{name}`.
pub(crate) async fn get(
    State(state): State<AppState>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let id = ObjectId::new(namespace, name);
    let objects = state.directory.load()?;
    let server =
        objects.server(&id).ok_or_else(|| ApiError::not_found(format!("there is no MCPServer {id}")))?;
    Ok(Json(json!({ "server": view(&id, server) })))
}

/// Which server.
#[derive(Debug, Deserialize)]
pub(crate) struct Which {
    namespace: Option<String>,
    server: Option<String>,
}

/// `GET runtime/policy?namespace=&server=`.
pub(crate) async fn policy(
    State(state): State<AppState>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, ApiError> {
    let (Some(namespace), Some(server)) = (which.namespace, which.server) else {
        return Err(ApiError::query("name the server: ?namespace=…&server=…"));
    };
    let id = ObjectId::new(namespace, server);
    let objects = state.directory.load()?;
    let server =
        objects.server(&id).ok_or_else(|| ApiError::not_found(format!("there is no MCPServer {id}")))?;
    let (policy, problems) = resolve_server(server, &Settings { cluster: String::new() });
    let tools: Vec<Value> = policy
        .tools
        .iter()
        .map(|t| json!({ "name": t.name, "required_trust": t.required_trust.as_str(), "side_effect": t.side_effect.map(|e| e.as_str()) }))
        .collect();
    let named = |reference: &sallyport_api::v1alpha1::ServerReference, of: &ObjectId| {
        sallyport_resolve::server_of(reference, &of.namespace) == id
    };
    let access = |kind: Kind| -> Vec<Value> {
        objects
            .of(kind)
            .filter_map(|(of, object)| match object {
                Object::Grant(grant) if named(&grant.spec.server_ref, of) => super::access::view(object),
                Object::Session(session) if named(&session.spec.server_ref, of) => {
                    super::access::view(object)
                }
                Object::Grant(_) | Object::Session(_) | Object::Server(_) => None,
            })
            .collect()
    };
    let problems: Vec<Value> = problems
        .iter()
        .map(|p| json!({ "path": p.path, "reason": p.reason, "message": p.message }))
        .collect();
    Ok(Json(json!({
        "server": { "name": id.name, "namespace": id.namespace, "team_id": policy.team_id },
        "policy": { "default_decision": if policy.default_allow { "allow" } else { "deny" }, "policy_version": policy.policy_version },
        "tools": tools, "grants": access(Kind::Grant), "sessions": access(Kind::Session), "problems": problems,
    })))
}

/// `GET runtime/components`.
pub(crate) async fn components(State(state): State<AppState>) -> Json<Value> {
    Json(state.operator.components().await)
}

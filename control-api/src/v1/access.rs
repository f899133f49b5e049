//! Grants and sessions: lists, single ones, creation and update with the flat bodies of the original.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use jiff::Timestamp;
use sallyport_api::manifest::load_json;
use sallyport_api::{API_VERSION, Kind, Object};
use sallyport_policy::ObjectId;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::state::AppState;

/// A grant or session as the API shows it: its spec, flat, with name and namespace.
pub(crate) fn view(object: &Object) -> Option<Value> {
    let (namespace, name) = object.id();
    let mut spec = object.to_json().ok()?.get_mut("spec").map(Value::take)?;
    let flat = spec.as_object_mut()?;
    flat.insert("name".into(), name.into());
    flat.insert("namespace".into(), namespace.into());
    Some(spec)
}

fn list(state: &AppState, kind: Kind, name: &str) -> Result<Json<Value>, ApiError> {
    let objects = state.directory.load()?;
    let items: Vec<Value> = objects.of(kind).filter_map(|(_, object)| view(object)).collect();
    Ok(Json(json!({ name: items })))
}

fn get(state: &AppState, kind: Kind, name: &str, id: &ObjectId) -> Result<Json<Value>, ApiError> {
    let objects = state.directory.load()?;
    let item = objects.find(kind, id).and_then(view);
    let item = item.ok_or_else(|| ApiError::not_found(format!("there is no {} {id}", kind.as_str())))?;
    Ok(Json(json!({ name: item })))
}

async fn post(
    state: &AppState,
    kind: Kind,
    name: &str,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    let Json(body) = body.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let Value::Object(mut flat) = body else {
        return Err(ApiError::invalid("the body must be a JSON object"));
    };
    let mut take = |field: &str| flat.remove(field).and_then(|value| value.as_str().map(ToString::to_string));
    let object_name = take("name").ok_or_else(|| ApiError::invalid("name: is missing"))?;
    let namespace = take("namespace").unwrap_or_else(|| "default".into());
    let id = ObjectId::new(namespace, object_name);
    let target = id.clone();
    let objects = state
        .directory
        .write(kind, &id, move |known, objects| {
            let object = build(kind, &target, flat, known)?;
            let wanted = match &object {
                Object::Grant(grant) => &grant.spec.server_ref,
                Object::Session(session) => &session.spec.server_ref,
                Object::Server(_) => return Err(ApiError::invalid("servers are not written here")),
            };
            let wanted = sallyport_resolve::server_of(wanted, &target.namespace);
            if objects.server(&wanted).is_none() {
                return Err(ApiError::invalid(format!("unknown serverRef: there is no MCPServer {wanted}")));
            }
            Ok(object)
        })
        .await?;
    let item = objects.find(kind, &id).and_then(view);
    Ok(Json(json!({ name: item })))
}

/// The object of a flat body. One that exists keeps its time of creation.
fn build(
    kind: Kind,
    id: &ObjectId,
    spec: Map<String, Value>,
    known: Option<&Object>,
) -> Result<Object, ApiError> {
    let created = known.and_then(|known| known.metadata().creation_timestamp.clone());
    let created = created.map_or_else(|| Timestamp::now().to_string(), |time| time.0.to_string());
    let manifest = json!({
        "apiVersion": API_VERSION, "kind": kind.as_str(),
        "metadata": { "name": id.name, "namespace": id.namespace, "creationTimestamp": created },
        "spec": spec,
    });
    load_json(manifest).map_err(|problems| {
        let texts: Vec<String> = problems
            .iter()
            .map(|p| format!("{}: {}", p.path.strip_prefix("spec.").unwrap_or(&p.path), p.message))
            .collect();
        ApiError::invalid(texts.join("; "))
    })
}

/// `GET runtime/grants`.
pub(crate) async fn list_grants(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    list(&state, Kind::Grant, "grants")
}

/// `GET runtime/sessions`.
pub(crate) async fn list_sessions(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    list(&state, Kind::Session, "sessions")
}

/// `GET runtime/grants/{namespace}/{name}`.
pub(crate) async fn get_grant(
    State(state): State<AppState>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    get(&state, Kind::Grant, "grant", &ObjectId::new(namespace, name))
}

/// `GET runtime/sessions/{namespace}/{name}`.
pub(crate) async fn get_session(
    State(state): State<AppState>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    get(&state, Kind::Session, "session", &ObjectId::new(namespace, name))
}

/// `POST runtime/grants`.
pub(crate) async fn post_grant(
    State(state): State<AppState>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    post(&state, Kind::Grant, "grant", body).await
}

/// `POST runtime/sessions`.
pub(crate) async fn post_session(
    State(state): State<AppState>,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Json<Value>, ApiError> {
    post(&state, Kind::Session, "session", body).await
}

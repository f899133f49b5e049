//! What grants and sessions have in common.

use std::time::{Duration, Instant};

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use sallyport_api::manifest::{is_dns_name, load_update};
use sallyport_api::{API_VERSION, Kind, Object};
use sallyport_policy::ObjectId;
use sallyport_resolve::{Problem, Severity, server_of};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::enforcement::Wanted;
use crate::error::{ApiError, Code, flat_path};
use crate::input::Params;
use crate::resources::{Change, Stored, View, Written, kill_switch};

/// The query parameter of every route that changes something.
pub(super) const WAIT: &[(&str, &str)] = &[(
    "wait",
    "How long to wait until every connected proxy has confirmed the change: like 5s (the default), 250ms or 0, at most 60s.",
)];
/// Query parameters of lists.
pub(super) const LIST: &[(&str, &str)] = &[
    ("namespace", "Only objects of this namespace."),
    ("server", "Only objects for the server of this name."),
];

/// The field of an answer that holds one object.
const fn singular(kind: Kind) -> &'static str {
    match kind {
        Kind::Grant => "grant",
        Kind::Session => "session",
        Kind::Server => "server",
    }
}

/// A problem, for a client.
pub(crate) fn problem(problem: &Problem) -> Value {
    let severity = match problem.severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    json!({ "severity": severity, "path": problem.path, "reason": problem.reason, "message": problem.message })
}

/// The spec with name, namespace and time of creation beside its fields.
pub(super) fn flat(id: &ObjectId, stored: &Stored) -> Map<String, Value> {
    let object = stored.object.to_json().unwrap_or(Value::Null);
    let mut flat = object.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
    flat.insert("name".into(), id.name.as_str().into());
    flat.insert("namespace".into(), id.namespace.as_str().into());
    flat.insert("origin".into(), stored.origin.as_str().into());
    if let Some(created) = object.pointer("/metadata/creationTimestamp").filter(|created| created.is_string())
    {
        flat.insert("creationTimestamp".into(), created.clone());
    }
    flat
}

fn shown(view: &View, id: &ObjectId, stored: &Stored) -> Value {
    let mut flat = flat(id, stored);
    let (access, problems) = view.resolve(id, stored);
    flat.insert("version".into(), access.map(|access| access.version()).into());
    flat.insert("problems".into(), problems.iter().map(problem).collect());
    Value::Object(flat)
}

/// All of a kind.
pub(super) async fn list(
    app: &App,
    kind: Kind,
    field: &str,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let params = params.only(&["namespace", "server"])?;
    let view = app.resources.view().await?;
    let wanted = |id: &ObjectId, stored: &Stored| {
        let server = match &stored.object {
            Object::Grant(grant) => server_of(&grant.spec.server_ref, &id.namespace).name,
            Object::Session(session) => server_of(&session.spec.server_ref, &id.namespace).name,
            Object::Server(_) => id.name.clone(),
        };
        params.get("namespace").is_none_or(|namespace| namespace == id.namespace)
            && params.get("server").is_none_or(|name| name == server)
    };
    let items: Vec<Value> = view
        .list(kind)
        .filter(|(id, stored)| wanted(id, stored))
        .map(|(id, stored)| shown(&view, id, stored))
        .collect();
    Ok(Json(json!({ field: items })))
}

/// One.
pub(super) async fn get(app: &App, kind: Kind, id: &ObjectId) -> Result<Json<Value>, ApiError> {
    let view = app.resources.view().await?;
    Ok(Json(json!({ singular(kind): shown(&view, id, view.get(kind, id)?) })))
}

/// Makes or changes one from a flat body.
pub(super) async fn apply(
    app: &App,
    kind: Kind,
    params: Params,
    mut body: Map<String, Value>,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let wait = params.only(&["wait"])?.wait()?;
    let namespace = name_field(&mut body, "namespace", Some("default"))?;
    let id = ObjectId::new(namespace, name_field(&mut body, "name", None)?);
    let view = app.resources.view().await?;
    keep_reference(&view, kind, &id, &mut body);
    check(&view, kind, &id, &body)?;
    let written = app.resources.put((kind, id.clone()), body, Timestamp::now()).await?;
    answer(app, kind, &id, written, wait, began).await
}

fn name_field(body: &mut Map<String, Value>, field: &str, default: Option<&str>) -> Result<String, ApiError> {
    let wrong = |message: String| ApiError::new(Code::InvalidBody, format!("`{field}` {message}"));
    let name = match (body.remove(field), default) {
        (Some(Value::String(name)), _) => name,
        (None, Some(default)) => default.into(),
        (None, None) => return Err(wrong("is missing and has no default".into())),
        (Some(_), _) => return Err(wrong("must be a string".into())),
    };
    if is_dns_name(&name) {
        return Ok(name);
    }
    Err(wrong(format!(
        "is `{name}`; must be lower-case letters, digits, `-` and `.`, at most 253 characters"
    )))
}

/// The same server may be named with its namespace or without; an object that is there keeps its way.
fn keep_reference(view: &View, kind: Kind, id: &ObjectId, spec: &mut Map<String, Value>) {
    let old = match view.get(kind, id).map(|stored| &stored.object) {
        Ok(Object::Grant(grant)) => &grant.spec.server_ref,
        Ok(Object::Session(session)) => &session.spec.server_ref,
        Ok(Object::Server(_)) | Err(_) => return,
    };
    let given = spec.get("serverRef").cloned().and_then(|given| serde_json::from_value(given).ok());
    let is_same =
        given.is_some_and(|given| server_of(&given, &id.namespace) == server_of(old, &id.namespace));
    if let (true, Ok(old)) = (is_same, serde_json::to_value(old)) {
        spec.insert("serverRef".into(), old);
    }
}

/// Whether the object would be valid, and have an effect.
fn check(view: &View, kind: Kind, id: &ObjectId, spec: &Map<String, Value>) -> Result<(), ApiError> {
    let manifest = json!({
        "apiVersion": API_VERSION, "kind": kind.as_str(),
        "metadata": { "name": id.name, "namespace": id.namespace }, "spec": spec,
    });
    let old = view.get(kind, id).ok().map(|stored| &stored.object);
    let object = load_update(manifest, old).map_err(|problems| ApiError::fields(&problems))?;
    let reference = match &object {
        Object::Grant(grant) => &grant.spec.server_ref,
        Object::Session(session) => &session.spec.server_ref,
        Object::Server(_) => return Ok(()),
    };
    let server = server_of(reference, &id.namespace);
    if view.server(&server).is_none() {
        let message = format!(
            "unknown serverRef: MCPServer `{server}` does not exist; make it first, or correct the name"
        );
        return Err(ApiError::new(Code::UnknownServer, message));
    }
    let stored = Stored { object, issued_at: None, origin: String::new() };
    match view.resolve(id, &stored).1.iter().find(|problem| problem.severity == Severity::Error) {
        Some(problem) => {
            let message = format!("`{}` {}", flat_path(&problem.path), problem.message);
            Err(ApiError::new(Code::UnknownServer, message))
        }
        None => Ok(()),
    }
}

/// Throws a kill switch, or releases it.
pub(super) async fn switch(
    app: &App,
    kind: Kind,
    id: &ObjectId,
    params: Params,
    fields: Map<String, Value>,
) -> Result<Response, ApiError> {
    let began = Instant::now();
    let wait = params.only(&["wait"])?.wait()?;
    let written = app.resources.patch((kind, id.clone()), fields, Timestamp::now()).await?;
    answer(app, kind, id, written, wait, began).await
}

/// The one field of a kill switch.
pub(super) fn switched(kind: Kind, state: SwitchState) -> Map<String, Value> {
    let state = match state {
        SwitchState::Off => true,
        SwitchState::On => false,
    };
    kill_switch(kind).into_iter().map(|field| (field.to_string(), Value::Bool(state))).collect()
}

/// Whether access is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SwitchState {
    /// The object counts.
    On,
    /// It is disabled or revoked.
    Off,
}

/// A body that names the kill switch and nothing else.
pub(super) fn switch_body(kind: Kind, body: Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    let field = kill_switch(kind).unwrap_or_default();
    if body.len() == 1 && body.get(field).is_some_and(Value::is_boolean) {
        return Ok(body);
    }
    let given: Vec<String> = body.keys().map(|name| format!("`{name}`")).collect();
    let given = if given.is_empty() { "nothing".into() } else { given.join(", ") };
    let message = format!(
        "a patch is {{\"{field}\": true}} or {{\"{field}\": false}}; the body has {given}; change other fields with POST"
    );
    Err(ApiError::new(Code::InvalidBody, message))
}

async fn answer(
    app: &App,
    kind: Kind,
    id: &ObjectId,
    written: Written,
    wait: Duration,
    began: Instant,
) -> Result<Response, ApiError> {
    let stored = written.view.get(kind, id)?;
    let version = written.view.resolve(id, stored).0.map(|access| access.version());
    let wanted = Wanted { kind, id, version, wait, began };
    let enforced = app.operator.enforcement(wanted).await;
    let change = match written.change {
        Change::Created => "created",
        Change::Updated => "updated",
        Change::None => "unchanged",
    };
    tracing::info!(
        object = %format_args!("{} {id}", kind.as_str()), change, enforced = enforced.enforced, of = enforced.of,
        millis = enforced.millis, "changed by API"
    );
    let status = match (enforced.complete, written.change) {
        (false, _) => StatusCode::ACCEPTED,
        (true, Change::Created) => StatusCode::CREATED,
        (true, Change::Updated | Change::None) => StatusCode::OK,
    };
    let body = json!({
        "success": true, singular(kind): shown(&written.view, id, stored),
        "change": change, "complete": enforced.complete, "enforced": enforced,
    });
    Ok((status, Json(body)).into_response())
}

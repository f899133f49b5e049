//! Switches: disable and enable grants, revoke and unrevoke sessions. The answer tells on how many proxies the change
//! is enforced; `?wait=` (seconds, 5 by default) says how long it may take.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use sallyport_api::{Kind, Object};
use sallyport_policy::ObjectId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::state::AppState;
use crate::v1::access::view;

/// Longest wait, in seconds.
const LONGEST: u64 = 60;

/// How long to wait.
#[derive(Debug, Deserialize)]
pub(crate) struct Wait {
    wait: Option<u64>,
}

type Answer = Result<(StatusCode, Json<Value>), ApiError>;

async fn set(state: &AppState, kind: Kind, id: ObjectId, off: bool, wait: &Wait) -> Answer {
    let began = Instant::now();
    let target = id.clone();
    let objects = state
        .directory
        .write(kind, &id, move |known, objects| {
            let Some(known) = known else {
                return Err(ApiError::not_found(format!("there is no {} {target}", kind.as_str())));
            };
            // A session whose manifest does not say when it began counts from its file's time; a change of the file
            // must not make it younger.
            let issued =
                objects.modified(kind, &target).and_then(|seconds| Timestamp::from_second(seconds).ok());
            let issued = issued.map(k8s_time);
            match known.clone() {
                Object::Grant(mut grant) => {
                    grant.spec.disabled = off;
                    Ok(Object::Grant(grant))
                }
                Object::Session(mut session) => {
                    session.spec.revoked = off;
                    session.metadata.creation_timestamp =
                        session.metadata.creation_timestamp.take().or(issued);
                    Ok(Object::Session(session))
                }
                Object::Server(_) => Err(ApiError::invalid("servers have no such switch")),
            }
        })
        .await?;
    let item = objects.find(kind, &id).and_then(view);
    let wait = Duration::from_secs(wait.wait.unwrap_or(5).min(LONGEST));
    let mut enforced = state.operator.enforced(kind, &id, &objects, wait).await;
    if let Some(enforced) = enforced.as_object_mut() {
        // From before the write, not from when the control plane was asked.
        enforced.insert("millis".into(), (began.elapsed().as_secs_f64() * 1e3).into());
    }
    let complete = enforced.get("complete").and_then(Value::as_bool).unwrap_or(false);
    let name = if kind == Kind::Grant { "grant" } else { "session" };
    let status = if complete { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(json!({ "success": true, name: item, "enforced": enforced }))))
}

fn k8s_time(time: Timestamp) -> sallyport_api::Time {
    sallyport_api::Time(time)
}

type Named = Path<(String, String)>;

/// `POST runtime/grants/{namespace}/{name}/disable`.
pub(crate) async fn disable(
    State(state): State<AppState>,
    Path((ns, name)): Named,
    Query(wait): Query<Wait>,
) -> Answer {
    set(&state, Kind::Grant, ObjectId::new(ns, name), true, &wait).await
}

/// `POST runtime/grants/{namespace}/{name}/enable`.
pub(crate) async fn enable(
    State(state): State<AppState>,
    Path((ns, name)): Named,
    Query(wait): Query<Wait>,
) -> Answer {
    set(&state, Kind::Grant, ObjectId::new(ns, name), false, &wait).await
}

/// `POST runtime/sessions/{namespace}/{name}/revoke`.
pub(crate) async fn revoke(
    State(state): State<AppState>,
    Path((ns, name)): Named,
    Query(wait): Query<Wait>,
) -> Answer {
    set(&state, Kind::Session, ObjectId::new(ns, name), true, &wait).await
}

/// `POST runtime/sessions/{namespace}/{name}/unrevoke`.
pub(crate) async fn unrevoke(
    State(state): State<AppState>,
    Path((ns, name)): Named,
    Query(wait): Query<Wait>,
) -> Answer {
    set(&state, Kind::Session, ObjectId::new(ns, name), false, &wait).await
}

/// `PATCH runtime/grants/{namespace}/{name}` with `{"disabled": …}`.
pub(crate) async fn patch_grant(
    State(state): State<AppState>,
    Path((ns, name)): Named,
    Query(wait): Query<Wait>,
    body: Result<Json<Value>, JsonRejection>,
) -> Answer {
    let off = switch(body, "disabled")?;
    set(&state, Kind::Grant, ObjectId::new(ns, name), off, &wait).await
}

/// `PATCH runtime/sessions/{namespace}/{name}` with `{"revoked": …}`.
pub(crate) async fn patch_session(
    State(state): State<AppState>,
    Path((ns, name)): Named,
    Query(wait): Query<Wait>,
    body: Result<Json<Value>, JsonRejection>,
) -> Answer {
    let off = switch(body, "revoked")?;
    set(&state, Kind::Session, ObjectId::new(ns, name), off, &wait).await
}

fn switch(body: Result<Json<Value>, JsonRejection>, field: &str) -> Result<bool, ApiError> {
    let Json(body) = body.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    match body.as_object().filter(|object| object.len() == 1).and_then(|object| object.get(field)?.as_bool())
    {
        Some(off) => Ok(off),
        None => Err(ApiError::invalid(format!(
            "the body must be {{\"{field}\": true}} or {{\"{field}\": false}}"
        ))),
    }
}

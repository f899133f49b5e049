//! What needs no key: health, and the OpenAPI document.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};

use super::{Route, Verb};
use crate::app::App;
use crate::error::{ApiError, Code};

pub(super) const LIVE: Route = Route {
    verb: Verb::Get,
    path: "//healthz",
    tag: "health",
    summary: "Whether the process runs.",
    query: &[],
    body: None,
    answers: &[(200, "Ok")],
    errors: &[],
    is_open: true,
    handler: || get(|| async { Json(json!({ "ok": true })) }),
};

pub(super) const READY: Route = Route {
    path: "//readyz",
    summary: "Whether servers, grants and sessions can be read.",
    handler: || get(ready),
    ..LIVE
};

pub(super) const DOCUMENT: Route = Route {
    path: "/openapi.json",
    tag: "document",
    summary: "This document.",
    answers: &[(200, "Document")],
    handler: || get(document),
    ..LIVE
};

pub(super) const DOCUMENT_YAML: Route = Route {
    path: "/openapi.yaml",
    summary: "This document, as YAML.",
    handler: || get(document_yaml),
    ..DOCUMENT
};

async fn ready(State(app): State<App>) -> Result<Json<Value>, ApiError> {
    app.resources.view().await?;
    Ok(Json(json!({ "ok": true })))
}

async fn document(State(app): State<App>) -> Json<Value> {
    Json(app.openapi.clone())
}

async fn document_yaml(State(app): State<App>) -> Result<impl IntoResponse, ApiError> {
    let text = serde_saphyr::to_string(&app.openapi).map_err(|error| {
        ApiError::new(Code::Internal, format!("the document cannot be written as YAML: {error}"))
    })?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], text))
}

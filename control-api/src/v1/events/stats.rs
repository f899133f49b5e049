//! Totals of events.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/stats",
    tag: "events",
    summary: "Totals of audit events.",
    query: &[],
    body: None,
    answers: &[(200, "Stats")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(handle),
};

async fn handle(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let stats = app.events.stats().await?;
    Ok(Json(json!({
        "events_total": stats.events_total, "allowed": stats.allowed, "denied": stats.denied,
        "missing": stats.missing, "pruned": stats.pruned,
    })))
}

//! Sources of events.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde_json::Value;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb, events};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/sources",
    tag: "events",
    summary: "Sources of audit events, with how many each has.",
    query: &[],
    body: None,
    answers: &[(200, "Sources")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(handle),
};

async fn handle(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    Ok(events::counts("source", app.events.sources().await?))
}

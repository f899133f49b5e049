//! Lists events.

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
    path: "/events",
    tag: "events",
    summary: "Audit events, newest first.",
    query: events::QUERY,
    body: None,
    answers: &[(200, "EventPage")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(handle),
};

async fn handle(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    events::page(&app, params).await
}

//! Lists sessions.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use sallyport_api::Kind;
use serde_json::Value;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb, access};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/runtime/sessions",
    tag: "sessions",
    summary: "Lists sessions.",
    query: access::LIST,
    body: None,
    answers: &[(200, "SessionList")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(list),
};

async fn list(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    access::list(&app, Kind::Session, "sessions", params).await
}

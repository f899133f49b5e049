//! Gets one grant.

use axum::Json;
use axum::extract::State;
use axum::routing;
use sallyport_api::Kind;
use serde_json::Value;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::{Named, Params};
use crate::v1::{Route, Verb, access};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/runtime/grants/{namespace}/{name}",
    tag: "grants",
    summary: "Gets one grant.",
    query: &[],
    body: None,
    answers: &[(200, "GrantItem")],
    errors: &[Code::InvalidPath, Code::InvalidQuery, Code::NotFound],
    is_open: false,
    handler: || routing::get(get),
};

async fn get(State(app): State<App>, Named(id): Named, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    access::get(&app, Kind::Grant, &id).await
}

//! Switches a grant off; calls it allowed are denied.

use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use sallyport_api::Kind;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::{Named, Params};
use crate::v1::access::{self, SwitchState};
use crate::v1::{Route, Verb};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Post,
    path: "/runtime/grants/{namespace}/{name}/disable",
    tag: "grants",
    summary: "Switches a grant off; calls it allowed are denied.",
    query: access::WAIT,
    body: None,
    answers: &[(200, "GrantChange"), (202, "GrantChange")],
    errors: &[
        Code::InvalidPath,
        Code::InvalidQuery,
        Code::NotFound,
        Code::Forbidden,
        Code::Conflict,
        Code::Internal,
    ],
    is_open: false,
    handler: || post(disable),
};

async fn disable(State(app): State<App>, Named(id): Named, params: Params) -> Result<Response, ApiError> {
    let fields = access::switched(Kind::Grant, SwitchState::Off);
    access::switch(&app, Kind::Grant, &id, params, fields).await
}

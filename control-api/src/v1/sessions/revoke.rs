//! Withdraws a session; calls with it are denied, and its open streams are cut.

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
    path: "/runtime/sessions/{namespace}/{name}/revoke",
    tag: "sessions",
    summary: "Withdraws a session; calls with it are denied, and its open streams are cut.",
    query: access::WAIT,
    body: None,
    answers: &[(200, "SessionChange"), (202, "SessionChange")],
    errors: &[
        Code::InvalidPath,
        Code::InvalidQuery,
        Code::NotFound,
        Code::Forbidden,
        Code::Conflict,
        Code::Internal,
    ],
    is_open: false,
    handler: || post(revoke),
};

async fn revoke(State(app): State<App>, Named(id): Named, params: Params) -> Result<Response, ApiError> {
    let fields = access::switched(Kind::Session, SwitchState::Off);
    access::switch(&app, Kind::Session, &id, params, fields).await
}

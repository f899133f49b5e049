//! Makes or changes a session.

use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use sallyport_api::Kind;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::{JsonObject, Params};
use crate::v1::{Route, Verb, access};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Post,
    path: "/runtime/sessions",
    tag: "sessions",
    summary: "Makes a session, or gives an existing one this spec; `revoked` stays as it is unless the body names it.",
    query: access::WAIT,
    body: Some("SessionApply"),
    answers: &[(200, "SessionChange"), (201, "SessionChange"), (202, "SessionChange")],
    errors: &[
        Code::InvalidBody,
        Code::InvalidQuery,
        Code::UnknownServer,
        Code::Forbidden,
        Code::Conflict,
        Code::TooLarge,
        Code::MediaType,
        Code::Internal,
    ],
    is_open: false,
    handler: || post(apply),
};

async fn apply(
    State(app): State<App>,
    params: Params,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    access::apply(&app, Kind::Session, params, body).await
}

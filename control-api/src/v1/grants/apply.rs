//! Makes or changes a grant.

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
    path: "/runtime/grants",
    tag: "grants",
    summary: "Makes a grant, or gives an existing one this spec; `disabled` stays as it is unless the body names it.",
    query: access::WAIT,
    body: Some("GrantApply"),
    answers: &[(200, "GrantChange"), (201, "GrantChange"), (202, "GrantChange")],
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
    access::apply(&app, Kind::Grant, params, body).await
}

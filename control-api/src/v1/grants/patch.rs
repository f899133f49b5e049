//! Sets the kill switch of a grant from a body.

use axum::extract::State;
use axum::response::Response;
use axum::routing;
use sallyport_api::Kind;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::{JsonObject, Named, Params};
use crate::v1::{Route, Verb, access};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Patch,
    path: "/runtime/grants/{namespace}/{name}",
    tag: "grants",
    summary: "Sets `disabled`.",
    query: access::WAIT,
    body: Some("GrantPatch"),
    answers: &[(200, "GrantChange"), (202, "GrantChange")],
    errors: &[
        Code::InvalidBody,
        Code::InvalidPath,
        Code::InvalidQuery,
        Code::NotFound,
        Code::Forbidden,
        Code::Conflict,
        Code::TooLarge,
        Code::MediaType,
        Code::Internal,
    ],
    is_open: false,
    handler: || routing::patch(patch),
};

async fn patch(
    State(app): State<App>,
    Named(id): Named,
    params: Params,
    JsonObject(body): JsonObject,
) -> Result<Response, ApiError> {
    let fields = access::switch_body(Kind::Grant, body)?;
    access::switch(&app, Kind::Grant, &id, params, fields).await
}

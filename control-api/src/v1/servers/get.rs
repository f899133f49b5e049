//! Gets one server.

use axum::Json;
use axum::extract::State;
use axum::routing;
use sallyport_api::Kind;
use serde_json::{Value, json};

use super::shown;
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::{Named, Params};
use crate::resources::ResourceError;
use crate::v1::{Route, Verb};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/runtime/servers/{namespace}/{name}",
    tag: "servers",
    summary: "Gets one server.",
    query: &[],
    body: None,
    answers: &[(200, "ServerItem")],
    errors: &[Code::InvalidPath, Code::InvalidQuery, Code::NotFound],
    is_open: false,
    handler: || routing::get(get),
};

async fn get(State(app): State<App>, Named(id): Named, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let view = app.resources.view().await?;
    let stored = view.get(Kind::Server, &id)?;
    let missing = || ResourceError::NotFound { kind: Kind::Server, id: id.clone() };
    let server = view.server(&id).ok_or_else(missing)?;
    Ok(Json(json!({ "server": shown(&app, &id, stored, server) })))
}

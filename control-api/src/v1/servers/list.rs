//! Lists servers.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use sallyport_api::{Kind, Object};
use serde_json::{Value, json};

use super::shown;
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/runtime/servers",
    tag: "servers",
    summary: "Lists servers.",
    query: &[("namespace", "Only servers of this namespace.")],
    body: None,
    answers: &[(200, "ServerList")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(list),
};

async fn list(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    let params = params.only(&["namespace"])?;
    let view = app.resources.view().await?;
    let servers: Vec<Value> = view
        .list(Kind::Server)
        .filter(|(id, _)| params.get("namespace").is_none_or(|namespace| namespace == id.namespace))
        .filter_map(|(id, stored)| match &stored.object {
            Object::Server(server) => Some(shown(&app, id, stored, server)),
            Object::Grant(_) | Object::Session(_) => None,
        })
        .collect();
    Ok(Json(json!({ "servers": servers })))
}

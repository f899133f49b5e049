//! The overview.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use jiff::Timestamp;
use sallyport_api::{Kind, Object};
use sallyport_policy::ObjectId;
use sallyport_resolve::exposure;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::resources::{Access, Stored, View};
use crate::v1::{Route, Verb};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/dashboard/summary",
    tag: "dashboard",
    summary: "How much there is, and the newest event.",
    query: &[],
    body: None,
    answers: &[(200, "Summary")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(handle),
};

async fn handle(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let view = app.resources.view().await?;
    let newest = app.events.summary().await?;
    let count =
        |kind| view.list(kind).filter(|(id, stored)| is_active(&view, id, stored, Timestamp::now())).count();
    Ok(Json(json!({
        "total_events": newest.total_events, "active_servers": count(Kind::Server),
        "active_grants": count(Kind::Grant), "active_sessions": count(Kind::Session),
        "latest_source": newest.latest_source, "last_event_type": newest.last_event_type,
        "last_event_time": newest.last_event_time,
    })))
}

/// Whether a server is exposed, a grant switched on, a session neither revoked nor expired; and each has an effect.
fn is_active(view: &View, id: &ObjectId, stored: &Stored, now: Timestamp) -> bool {
    if let Object::Server(server) = &stored.object {
        return exposure(server).is_ok();
    }
    match view.resolve(id, stored).0 {
        Some(Access::Grant(grant)) => !grant.disabled,
        Some(Access::Session(session)) => {
            !session.revoked && session.expires_at.is_none_or(|end| now.as_second() < end)
        }
        None => false,
    }
}

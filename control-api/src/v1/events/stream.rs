//! Events as they are stored.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb, events};

/// Where to go on, as a browser's `EventSource` tells it.
const LAST_EVENT_ID: &str = "last-event-id";

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/events/stream",
    tag: "events",
    summary: "Audit events that match every given field, as they are stored: server-sent events, whose ids the header `last-event-id` takes to go on.",
    query: events::FIELDS,
    body: None,
    answers: &[(200, "EventStream")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(handle),
};

async fn handle(
    State(app): State<App>,
    headers: HeaderMap,
    params: Params,
) -> Result<impl IntoResponse, ApiError> {
    let filter = events::filter(&params.described(events::FIELDS)?)?;
    let position = match headers.get(LAST_EVENT_ID) {
        Some(id) => {
            let wrong =
                |_| ApiError::new(Code::InvalidQuery, "`last-event-id` is none of ours; leave it out");
            Some(id.to_str().map_err(wrong)?.to_string())
        }
        None => None,
    };
    app.live.subscribe(app.clone(), filter, position).await
}

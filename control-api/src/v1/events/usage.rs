//! Usage by the hour.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use sallyport_event_store::UsageQuery;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb};

/// Parameters of the route.
const QUERY: &[(&str, &str)] = &[
    ("since", "From the hour on that this time is in, RFC 3339; by default a day ago."),
    ("until", "Only hours that begin before this time, RFC 3339."),
    ("server", "Only of the server of this name."),
    ("namespace", "Only of servers of this namespace."),
    ("team_id", "Only of servers of this team."),
    ("limit", "How many rows: 1 to 1000, by default 100; the earliest come first."),
];
const DAY: SignedDuration = SignedDuration::from_hours(24);

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/usage",
    tag: "events",
    summary: "What was used, by hour, namespace, server, team and tool.",
    query: QUERY,
    body: None,
    answers: &[(200, "Usage")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(handle),
};

async fn handle(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    let params = params.described(QUERY)?;
    let day_ago = Timestamp::now().saturating_sub(DAY).unwrap_or(Timestamp::UNIX_EPOCH);
    let text = |name: &str| params.get(name).map(ToString::to_string);
    let wanted = UsageQuery {
        since: time(&params, "since")?.unwrap_or_else(|| nanos(day_ago)),
        until: time(&params, "until")?,
        namespace: text("namespace"),
        server: text("server"),
        team_id: text("team_id"),
        limit: params.limit()?,
    };
    Ok(Json(json!({ "usage": app.events.usage(wanted).await? })))
}

fn time(params: &Params, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = params.get(name) else {
        return Ok(None);
    };
    let time: Timestamp = text.parse().map_err(|_| {
        let message = format!("`{name}` is `{text}`; it must be a time like 2030-12-31T23:00:00Z");
        ApiError::new(Code::InvalidQuery, message)
    })?;
    Ok(Some(nanos(time)))
}

fn nanos(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}

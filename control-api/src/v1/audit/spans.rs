//! Which chains hold events that are selected.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use sallyport_event_store::Selection;
use serde_json::{Value, json};

use super::{chain, number};
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb};

const QUERY: &[(&str, &str)] = &[
    ("since_nanos", "Only events from this time on, nanoseconds since 1970."),
    ("until_nanos", "Only events before this time, nanoseconds since 1970."),
    ("namespace", "Only events of servers of this namespace."),
    ("server", "Only events of the server of this name."),
];

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/audit/spans",
    tag: "audit",
    summary: "Which part of which chains holds the events that are selected.",
    query: QUERY,
    body: None,
    answers: &[(200, "Spans")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(handle),
};

async fn handle(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    let params = params.described(QUERY)?;
    let text = |name| params.get(name).map(ToString::to_string);
    let selection = Selection {
        since: number(&params, "since_nanos")?,
        until: number(&params, "until_nanos")?,
        namespace: text("namespace"),
        server: text("server"),
    };
    let spans = app.events.spans(selection).await?;
    let spans = spans.iter().map(|span| {
        let mut fields = chain(&span.chain);
        for (name, value) in [("first", span.first), ("last", span.last), ("events", span.events)] {
            fields.insert(name.into(), value.into());
        }
        Value::Object(fields)
    });
    Ok(Json(json!({ "spans": spans.collect::<Vec<_>>() })))
}

//! Lists checkpoints.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use super::{base64, number};
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb};

const QUERY: &[(&str, &str)] = &[
    ("limit", "How many: 1 to 1000, by default 100."),
    ("after", "Only those after this sequence; by default from the oldest on."),
];

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/audit/checkpoints",
    tag: "audit",
    summary: "Signed checkpoints, oldest first; docs/audit.md tells how to check them.",
    query: QUERY,
    body: None,
    answers: &[(200, "Checkpoints")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(handle),
};

async fn handle(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    let params = params.only(&["limit", "after"])?;
    let limit = params.limit()?;
    let checkpoints = app.events.checkpoints(number(&params, "after")?.unwrap_or(0), limit).await?;
    let checkpoints = checkpoints.iter().map(|checkpoint| {
        json!({ "sequence": checkpoint.sequence, "time_unix_nanos": checkpoint.nanos.to_string(),
                "signed": base64(&checkpoint.bytes) })
    });
    Ok(Json(json!({ "checkpoints": checkpoints.collect::<Vec<_>>() })))
}

//! Audit events.

pub(super) mod filter;
pub(super) mod list;
pub(super) mod sources;
pub(super) mod stats;
pub(super) mod stream;
pub(super) mod types;
pub(super) mod usage;

use axum::Json;
use sallyport_event_store::Filter;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;

/// Fields that an event can be chosen by.
const FIELDS: &[(&str, &str)] = &[
    ("source", "Only of this source, as `payments-gateway`."),
    ("event_type", "Only of this type, as `mcp.request`."),
    ("server", "Only of the server of this name."),
    ("namespace", "Only of servers of this namespace."),
    ("team_id", "Only of servers of this team."),
    ("cluster", "Only of this cluster."),
    ("human_id", "Only of this person."),
    ("agent_id", "Only of this agent."),
    ("session_id", "Only with this session."),
    ("decision", "Only `allow` or `deny`."),
    ("reason", "Only for this reason."),
    ("tool_name", "Only of this tool."),
    ("rpc_method", "Only of this method."),
    ("trace_id", "Only of this trace."),
];

/// Parameters of [`page`].
const QUERY: &[(&str, &str)] = &{
    let mut all = [("", ""); FIELDS.len() + 2];
    all[0] = ("limit", "How many: 1 to 1000, by default 100.");
    all[1] = ("cursor", "Where to go on: `next` of an earlier answer.");
    let mut at = 0;
    while at < FIELDS.len() {
        all[at + 2] = FIELDS[at];
        at += 1;
    }
    all
};

/// Events that match, newest first.
async fn page(app: &App, params: Params) -> Result<Json<Value>, ApiError> {
    let params = params.described(QUERY)?;
    let limit = params.limit()?;
    let cursor = params.get("cursor").map(ToString::to_string);
    let page = app.events.events(filter(&params)?, limit, cursor).await?;
    let meta = json!({ "limit": limit, "next_cursor": page.next, "has_more": page.next.is_some() });
    Ok(Json(json!({ "events": page.events, "meta": meta, "next": page.next })))
}

fn filter(params: &Params) -> Result<Filter, ApiError> {
    let wanted: Map<String, Value> =
        FIELDS.iter().filter_map(|(name, _)| Some(((*name).to_string(), params.get(name)?.into()))).collect();
    serde_json::from_value(Value::Object(wanted))
        .map_err(|error| ApiError::new(Code::InvalidQuery, error.to_string()))
}

/// Counts by name.
fn counts(field: &str, counts: Vec<(String, u64)>) -> Json<Value> {
    Json(counts.into_iter().map(|(name, count)| json!({ field: name, "count": count })).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_filter_filters() {
        for (name, _) in FIELDS {
            let filter: Filter = serde_json::from_value(json!({ *name: "x" })).unwrap();
            assert_ne!(filter, Filter::default(), "{name}");
        }
    }
}

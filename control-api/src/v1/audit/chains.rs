//! Events as they were chained.

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use sallyport_event_store::{ChainName, Depth, Position};
use serde_json::{Value, json};

use super::{base64, chain, number};
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb};

const QUERY: &[(&str, &str)] = &[
    ("limit", "How many: 1 to 1000, by default 100."),
    ("proxy", "Only events after this place: its chain's proxy. By default from the first on."),
    ("worker", "Of that place: the chain's worker."),
    ("epoch", "Of that place: the chain's epoch."),
    ("seq", "Of that place: the sequence."),
    ("columns", "`true`: also what the store tells of an event otherwise than its bytes."),
];

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/audit/chains",
    tag: "audit",
    summary: "Events with the bytes that were hashed, chain by chain (by proxy, worker, epoch), each by sequence.",
    query: QUERY,
    body: None,
    answers: &[(200, "ChainedEvents")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(handle),
};

async fn handle(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    let params = params.described(QUERY)?;
    let depth = match params.get("columns") {
        Some("true") => Depth::Columns,
        Some("false") | None => Depth::Chain,
        Some(other) => {
            let message = format!("`columns` is `{other}`; must be true or false");
            return Err(ApiError::new(Code::InvalidQuery, message));
        }
    };
    let events = app.events.scan(after(&params)?, params.limit()?, depth).await?;
    let events = events.iter().map(|event| {
        let mut fields = chain(&event.chain);
        fields.insert("seq".into(), event.seq.into());
        fields.insert("hash".into(), base64(&event.hash));
        fields.insert("bytes".into(), base64(&event.bytes));
        if let Some(differs) = event.differs {
            fields.insert("differs".into(), differs.into());
        }
        Value::Object(fields)
    });
    Ok(Json(json!({ "events": events.collect::<Vec<_>>() })))
}

/// The place that is named, whole or not at all.
fn after(params: &Params) -> Result<Option<Position>, ApiError> {
    let Some(proxy) = params.get("proxy") else {
        let is_part = ["worker", "epoch", "seq"].iter().any(|name| params.get(name).is_some());
        let message = "`proxy` is missing; a place is proxy, worker, epoch and seq";
        return if is_part { Err(ApiError::new(Code::InvalidQuery, message)) } else { Ok(None) };
    };
    let missing = |name| ApiError::new(Code::InvalidQuery, format!("`{name}` is missing"));
    let chain = ChainName {
        proxy: proxy.into(),
        worker: number(params, "worker")?.ok_or_else(|| missing("worker"))?,
        epoch: number(params, "epoch")?.ok_or_else(|| missing("epoch"))?,
    };
    Ok(Some(Position { chain, seq: number(params, "seq")?.ok_or_else(|| missing("seq"))? }))
}

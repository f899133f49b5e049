//! How far the record is, by server.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use sallyport_api::Kind;
use sallyport_event_store::{EventStore, Filter, Finding, Selection, Span};
use serde_json::{Value, json};

use super::chain;
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb};

/// Newest findings of each type that are looked at.
const FINDINGS: u32 = 200;

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/audit/integrity",
    tag: "audit",
    summary: "By server: chains, newest event, gaps; and the last checkpoint, and what is on its way at each stage.",
    query: &[("namespace", "Only servers of this namespace."), ("server", "Only the server of this name.")],
    body: None,
    answers: &[(200, "Integrity")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(handle),
};

async fn handle(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    let params = params.only(&["namespace", "server"])?;
    let wanted = |name: &str, value: &str| params.get(name).is_none_or(|wanted| wanted == value);
    let findings = findings(app.events.as_ref()).await?;
    let view = app.resources.view().await?;
    let ids = view.list(Kind::Server).map(|(id, _)| id.clone());
    let ids: Vec<_> =
        ids.filter(|id| wanted("namespace", &id.namespace) && wanted("server", &id.name)).collect();
    let mut servers = Vec::new();
    for id in ids {
        servers.push(server(app.events.as_ref(), &id.namespace, &id.name, &findings).await?);
    }
    let checkpoint = app.events.last_checkpoint().await?.map(
        |last| json!({ "sequence": last.sequence, "time": sallyport_event_store::timestamp(last.nanos) }),
    );
    // As the ingest tells it; null: it does not answer.
    let ingest = app.ingest.get("/v1/chains", Duration::ZERO).await.ok();
    Ok(Json(json!({ "servers": servers, "last_checkpoint": checkpoint, "ingest": ingest })))
}

async fn server(
    events: &dyn EventStore,
    namespace: &str,
    name: &str,
    findings: &[Value],
) -> Result<Value, ApiError> {
    let (namespace, name) = (Some(namespace.to_string()), Some(name.to_string()));
    let selection = Selection { namespace: namespace.clone(), server: name.clone(), ..Selection::default() };
    let spans = events.spans(selection).await?;
    let filter = Filter { namespace: namespace.clone(), server: name.clone(), ..Filter::default() };
    let newest = events.events(filter, 1, None).await?.events;
    let last_event = newest.first().and_then(|event| event.get("timestamp")).cloned();
    let gaps: Vec<&Value> =
        findings.iter().filter(|finding| spans.iter().any(|span| is_of(finding, span))).collect();
    let missing: u64 = gaps.iter().filter_map(|gap| gap.pointer("/payload/missing")?.as_u64()).sum();
    let chains = spans.iter().map(|span| {
        let mut fields = chain(&span.chain);
        fields.insert("events".into(), span.events.into());
        fields.insert("last_seq".into(), span.last.into());
        Value::Object(fields)
    });
    let chains: Vec<_> = chains.collect();
    Ok(json!({ "namespace": namespace, "server": name, "last_event": last_event, "chains": chains,
               "missing": missing, "gaps": gaps }))
}

/// What was found wrong with chains, newest first by type.
async fn findings(events: &dyn EventStore) -> Result<Vec<Value>, ApiError> {
    let mut all = Vec::new();
    for event_type in Finding::TYPES {
        let filter = Filter { event_type: Some(event_type.into()), ..Filter::default() };
        all.extend(events.events(filter, FINDINGS, None).await?.events);
    }
    Ok(all)
}

fn is_of(finding: &Value, span: &Span) -> bool {
    let field = |name: &str| finding.pointer("/payload/chain").and_then(|chain| chain.get(name));
    let (name, epoch) = (&span.chain, span.chain.epoch.to_string());
    field("proxy").and_then(Value::as_str) == Some(&name.proxy)
        && field("worker").and_then(Value::as_u64) == Some(u64::from(name.worker))
        && field("epoch").and_then(Value::as_str) == Some(&epoch)
}

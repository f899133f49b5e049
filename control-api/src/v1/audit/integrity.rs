//! How far the record is, by server.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
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
/// Chains without an event for so long lack nothing that is on its way. What began later has not been removed for age.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

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
    // As the ingest tells it, and then what the store lacks of it; null: it does not answer.
    let mut ingest = app.ingest.get("/v1/chains", Duration::ZERO).await.ok();
    if let Some(told) = &mut ingest {
        let since = u64::try_from((Timestamp::now() - RECENT).as_nanosecond()).unwrap_or(0);
        let recent = Selection { since: Some(since), ..Selection::default() };
        let spans = app.events.spans(recent).await?;
        let lacks = lacking(told, "seq", &spans, since);
        let is_kafka = told.pointer("/stages/delivery/to").is_some_and(|to| to == "kafka");
        let in_kafka = is_kafka.then(|| lacking(told, "delivered", &spans, since));
        if let Some(stages) = told.get_mut("stages").and_then(Value::as_object_mut) {
            stages.extend(in_kafka.map(|events| ("kafka".into(), json!({ "events": events }))));
            stages.insert("store".into(), json!({ "events": lacks }));
        }
    }
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

/// How many events up to each chain's `reached`, a sequence that the ingest tells, the store does not have yet: of those that it
/// acknowledged they are in the spool, under way, or in Kafka; of those that it delivered to Kafka they are there. `spans` are
/// those since `since`, nanoseconds since 1970. A chain that has none, and began before, has nothing on its way, or did not speak
/// for long.
fn lacking(ingest: &Value, reached: &str, spans: &[Span], since: u64) -> u64 {
    let place = |span: &Span| (span.chain.proxy.clone(), u64::from(span.chain.worker), span.chain.epoch);
    let stored: BTreeMap<_, _> = spans.iter().map(|span| (place(span), span.last)).collect();
    let lacks = |chain: &Value| -> Option<u64> {
        let epoch: u64 = chain.get("epoch")?.as_str()?.parse().ok()?;
        let (worker, seq) = (chain.get("worker")?.as_u64()?, chain.get(reached)?.as_u64()?);
        match stored.get(&(chain.get("proxy")?.as_str()?.to_string(), worker, epoch)) {
            Some(last) => Some(seq.saturating_sub(*last)),
            None => (epoch >= since).then_some(seq),
        }
    };
    let chains = ingest.get("chains").and_then(Value::as_array);
    chains.into_iter().flatten().filter_map(lacks).sum()
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

#[cfg(test)]
mod tests {
    use sallyport_event_store::ChainName;

    use super::*;

    #[test]
    fn what_was_acknowledged_and_is_not_stored_yet_is_counted() {
        let (old, since, new) = (1_000, 2_000, 3_000);
        let chain = |proxy: &str, epoch: u64, seq: u64| {
            let delivered = seq.saturating_sub(1);
            json!({ "proxy": proxy, "worker": 1, "epoch": epoch.to_string(), "seq": seq, "delivered": delivered })
        };
        let told = json!({ "chains": [
            chain("behind", old, 10), chain("level", old, 7), chain("ahead", new, 7), chain("unseen", new, 4), chain("gone", old, 90),
        ] });
        let span = |proxy: &str, epoch, last| Span {
            chain: ChainName { proxy: proxy.into(), worker: 1, epoch },
            first: 1,
            last,
            events: last,
        };
        let spans = [span("behind", old, 7), span("level", old, 7), span("ahead", new, 9)];
        assert_eq!(lacking(&told, "seq", &spans, since), 3 + 4);
        assert_eq!(lacking(&told, "delivered", &spans, since), 2 + 3, "of these, what is in Kafka");
        assert_eq!(lacking(&json!({}), "seq", &spans, since), 0);
    }
}

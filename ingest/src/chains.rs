//! `GET /v1/chains` of the admin server: where chains stand, and what is on its way.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use sallyport_audit_proof::End;
use sallyport_event_store::{Embedded, EventSink};
use sallyport_ingest_spool::Spool;
use serde_json::{Value, json};

use crate::accept::Acceptor;
use crate::clock::shown;
use crate::metrics::Metrics;

/// What it is told from.
#[derive(Clone, Debug)]
pub(crate) struct Chains {
    pub(crate) acceptor: Acceptor,
    pub(crate) spool: Spool,
    pub(crate) metrics: Metrics,
    /// Remembers how far each chain is delivered, wherever that is to.
    pub(crate) store: Embedded,
    /// To Kafka, and not to the store.
    pub(crate) is_kafka: bool,
}

impl Chains {
    pub(crate) fn router(self) -> Router {
        Router::new().route("/v1/chains", get(handle)).with_state(self)
    }
}

async fn handle(State(chains): State<Chains>) -> Json<Value> {
    let Chains { acceptor, spool, metrics, store, is_kafka } = chains;
    // What cannot be read now is told as not delivered.
    let heads = store.heads().await.unwrap_or_default();
    let delivered: BTreeMap<_, _> = heads.into_iter().map(|head| (head.name, head.seq)).collect();
    let (mut waiting, mut in_spool) = (0_u64, 0_u64);
    let mut told = Vec::new();
    for (name, standing) in acceptor.ledger().all().await {
        let seq = standing.head.map_or(0, |head| head.seq);
        // Given out and not arrived: in the filter's ring, while the chain lives.
        let in_ring = if standing.end() == End::Open { standing.announced.saturating_sub(seq) } else { 0 };
        waiting = waiting.saturating_add(in_ring);
        let delivered = delivered.get(&name).copied().unwrap_or(0).min(seq);
        in_spool = in_spool.saturating_add(seq - delivered);
        told.push(json!({
            "proxy": name.proxy, "worker": name.worker, "epoch": name.epoch.to_string(), "seq": seq,
            "delivered": delivered, "events": standing.count, "in_ring": in_ring, "heard_unix_nanos": shown(standing.last_heard()).to_string(),
            "end": match standing.end() { End::Open => "open", End::Complete => "complete", End::CutOff => "cut_off" },
        }));
    }
    Json(json!({
        "chains": told,
        "stages": {
            "ring": { "events": waiting },
            "spool": { "bytes": spool.bytes(), "batches": spool.undelivered(), "events": in_spool },
            "delivery": { "lag_seconds": metrics.lag_seconds(), "to": if is_kafka { "kafka" } else { "store" } },
        },
    }))
}

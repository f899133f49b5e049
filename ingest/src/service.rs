//! The gRPC service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use sallyport_audit_proto::chain::Head;
use sallyport_audit_proto::v1::audit_ingest_server::AuditIngest;
use sallyport_audit_proto::v1::{EmitRequest, EmitResponse};
use sallyport_event_store::{ChainName, EventSink};
use sallyport_runtime::admin::Readiness;
use sallyport_runtime::identity::{AuthError, Authenticate, Identity};
use sallyport_runtime::telemetry::continue_trace;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::check::{Refused, check};
use crate::metrics::Metrics;

/// Most events of one batch.
const MAX_EVENTS: usize = 8192;

/// Takes batches.
pub(crate) struct Ingest<S> {
    pub(crate) sink: S,
    pub(crate) proxies: Arc<dyn Authenticate>,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    /// Where each chain stands. A chain's batches are stored one after the other.
    pub(crate) heads: Mutex<BTreeMap<ChainName, Arc<Mutex<Option<Head>>>>>,
}

impl<S: EventSink> Ingest<S> {
    /// The caller is the proxy that it says it is.
    async fn authenticate(&self, request: &Request<EmitRequest>) -> Result<Identity, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        let claimed = &request.get_ref().proxy;
        match self.proxies.authenticate(token.trim()).await {
            Ok(caller) if caller.proxy == *claimed => Ok(caller),
            Ok(caller) => {
                tracing::warn!(proxy = caller.proxy, %claimed, "batch refused: it names another proxy");
                Err(Status::permission_denied("the token belongs to another proxy than the batch names"))
            }
            Err(AuthError::Unknown) => Err(Status::unauthenticated("a proxy's bearer token is needed")),
            Err(AuthError::Unavailable(reason)) => {
                tracing::warn!(%claimed, reason, "batch put off: its token cannot be checked");
                Err(Status::unavailable("the token cannot be checked now; send the batch again"))
            }
        }
    }

    fn refused(&self, caller: &Identity, error: &Refused) -> Status {
        self.metrics.refused.inc();
        tracing::warn!(proxy = caller.proxy, %error, "batch refused");
        match error {
            Refused::NotAnEvent { .. } => Status::invalid_argument(error.to_string()),
            Refused::AnotherServer { .. } => Status::permission_denied(error.to_string()),
        }
    }

    async fn store(&self, request: EmitRequest, caller: &Identity) -> Result<EmitResponse, Status> {
        let name = ChainName { proxy: request.proxy.clone(), worker: request.worker, epoch: request.epoch };
        let entry = Arc::clone(self.heads.lock().await.entry(name).or_default());
        let mut head = entry.lock().await;
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let checked = check(request, caller, *head, nanos).map_err(|error| self.refused(caller, &error))?;
        let stored = u64::try_from(checked.events.len()).unwrap_or(u64::MAX);
        for finding in &checked.findings {
            let (proxy, worker) = (&finding.chain.proxy, finding.chain.worker);
            tracing::warn!(
                proxy,
                worker,
                from = finding.from,
                to = finding.to,
                kind = finding.event_type,
                "chain does not hold"
            );
            if finding.event_type == "audit.broken" {
                self.metrics.broken.inc();
            } else {
                self.metrics.missing.inc_by(finding.to - finding.from + 1);
            }
        }
        if !checked.events.is_empty() {
            self.sink.append(checked.events, checked.findings).await.map_err(|error| {
                tracing::error!(%error, "batch not stored");
                self.metrics.failed.inc();
                self.readiness.set(false);
                Status::unavailable("events cannot be stored now; send the batch again")
            })?;
            self.readiness.set(true);
        }
        *head = Some(checked.head);
        self.metrics.stored.inc_by(stored);
        self.metrics.duplicates.inc_by(u64::from(checked.duplicates));
        Ok(EmitResponse { durable_seq: checked.head.seq, duplicates: checked.duplicates })
    }
}

#[tonic::async_trait]
impl<S: EventSink + 'static> AuditIngest for Ingest<S> {
    async fn emit(&self, request: Request<EmitRequest>) -> Result<Response<EmitResponse>, Status> {
        let refused = |status: Status| {
            self.metrics.refused.inc();
            status
        };
        let caller = self.authenticate(&request).await.map_err(refused)?;
        if request.get_ref().events.len() > MAX_EVENTS {
            return Err(refused(Status::invalid_argument(format!(
                "a batch has at most {MAX_EVENTS} events"
            ))));
        }
        let batch = request.get_ref();
        let span = tracing::debug_span!(
            "ingest.emit",
            proxy = batch.proxy,
            worker = batch.worker,
            events = batch.events.len(),
            otel.kind = "server",
        );
        let (metadata, _, batch) = request.into_parts();
        continue_trace(&span, &metadata.into_headers());
        self.store(batch, &caller).instrument(span).await.map(Response::new)
    }
}

#[cfg(test)]
mod tests;

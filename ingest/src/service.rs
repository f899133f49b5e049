//! The gRPC service.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use sallyport_audit_proto::v1::audit_ingest_server::AuditIngest;
use sallyport_audit_proto::v1::{EmitRequest, EmitResponse, EmitStreamResponse};
use sallyport_event_store::ChainName;
use sallyport_runtime::identity::{AuthError, Authenticate, Identity};
use sallyport_runtime::telemetry::continue_trace;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};
use tracing::Instrument;

use crate::accept::{Acceptor, Batch, Events, Refusal};
use crate::check::{Defect, Word};
use crate::metrics::Metrics;
use crate::stream::Session;

/// Most events of one batch.
const MAX_EVENTS: usize = 8192;
/// Answers of a stream that its client has not read.
const ANSWERS: usize = 64;

/// Takes batches of proxies.
#[derive(Clone, Debug)]
pub(crate) struct Ingest {
    pub(crate) acceptor: Acceptor,
    pub(crate) proxies: Arc<dyn Authenticate>,
    pub(crate) metrics: Metrics,
}

impl Ingest {
    /// Whose call it is.
    async fn identify(&self, metadata: &MetadataMap) -> Result<Identity, Status> {
        let token = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        match self.proxies.authenticate(token.trim()).await {
            Ok(caller) => Ok(caller),
            Err(AuthError::Unknown) => {
                Err(self.refused(Status::unauthenticated("a proxy's bearer token is needed")))
            }
            Err(AuthError::Unavailable(error)) => {
                tracing::warn!(%error, "batch put off: its token cannot be checked");
                Err(self.refused(try_again(
                    Code::Unavailable,
                    "the token cannot be checked now",
                    Duration::from_secs(1),
                )))
            }
        }
    }

    /// A request as a batch of its caller, who is the proxy that it says it is.
    pub(crate) fn batch(&self, caller: &Identity, request: EmitRequest) -> Result<Batch, Status> {
        if request.proxy != caller.proxy {
            tracing::warn!(caller.proxy, claimed = request.proxy, "batch refused: it names another proxy");
            let message = "the token belongs to another proxy than the batch names";
            return Err(self.refused(Status::permission_denied(message)));
        }
        if request.events.len() > MAX_EVENTS {
            let message = format!("a batch has at most {MAX_EVENTS} events");
            return Err(self.refused(Status::invalid_argument(message)));
        }
        let chain = ChainName { proxy: request.proxy, worker: request.worker, epoch: request.epoch };
        let word = Word { last_seq: request.last_seq, dropped: request.dropped_total };
        Ok(Batch { caller: caller.clone(), chain, events: Events::Chained(request.events), word })
    }

    /// What a caller is told.
    pub(crate) fn status(&self, caller: &Identity, refusal: &Refusal) -> Status {
        match (refusal, refusal.retry_after()) {
            (Refusal::Defect(defect), _) => self.refused(match **defect {
                Defect::NotAnEvent { .. } => Status::invalid_argument(defect.to_string()),
                Defect::AnotherServer { .. } => {
                    tracing::warn!(caller.proxy, %defect, "batch refused");
                    Status::permission_denied(defect.to_string())
                }
            }),
            (Refusal::Busy, after) => {
                try_again(Code::ResourceExhausted, &refusal.to_string(), after.unwrap_or_default())
            }
            (Refusal::Unwritable, after) => {
                try_again(Code::Unavailable, &refusal.to_string(), after.unwrap_or_default())
            }
        }
    }

    fn refused(&self, status: Status) -> Status {
        self.metrics.refused.inc();
        status
    }
}

/// A status that says when to try again.
pub(crate) fn try_again(code: Code, message: &str, after: Duration) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(after)))
}

#[tonic::async_trait]
impl AuditIngest for Ingest {
    type EmitStreamStream = BoxStream<'static, Result<EmitStreamResponse, Status>>;

    async fn emit(&self, request: Request<EmitRequest>) -> Result<Response<EmitResponse>, Status> {
        let caller = self.identify(request.metadata()).await?;
        let (metadata, _, request) = request.into_parts();
        let span = tracing::debug_span!(
            "ingest.emit",
            proxy = request.proxy,
            worker = request.worker,
            events = request.events.len(),
            otel.kind = "server",
        );
        continue_trace(&span, &metadata.into_headers());
        let batch = self.batch(&caller, request)?;
        let accepted = self.acceptor.accept(batch).instrument(span).await;
        let accepted = accepted.map_err(|refusal| self.status(&caller, &refusal))?;
        let (durable_seq, duplicates) = (accepted.durable_seq, accepted.duplicates);
        Ok(Response::new(EmitResponse { durable_seq, duplicates }))
    }

    async fn emit_stream(
        &self,
        request: Request<Streaming<EmitRequest>>,
    ) -> Result<Response<Self::EmitStreamStream>, Status> {
        let caller = self.identify(request.metadata()).await?;
        let (answers, answered) = tokio::sync::mpsc::channel(ANSWERS);
        let session = Session::new(self.clone(), caller, answers);
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(answered))))
    }
}

#[cfg(test)]
mod tests;

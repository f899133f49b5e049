//! Events of other programs over HTTP: `POST /events`, with a key that is bound to a source.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use sallyport_event_store::ChainName;
use sallyport_runtime::identity::{AuthError, Authenticate, Identity};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::accept::{Acceptor, Batch, Events, Refusal};
use crate::check::Word;
use crate::clock::now;
use crate::envelope::{EnvelopeError, read};
use crate::metrics::Metrics;

/// Largest body, in bytes.
const MAX_BODY: usize = 8 << 20;
/// Bodies that are read or at work at once: they are in memory whole.
const AT_ONCE: usize = 16;
/// A body that takes longer to come is not waited for.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Takes events of other programs.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    pub(crate) acceptor: Acceptor,
    /// Whose a key is; the name is the source's.
    pub(crate) keys: Arc<dyn Authenticate>,
    pub(crate) metrics: Metrics,
    /// When this process began, nanoseconds since 1970: its chains are its own.
    pub(crate) epoch: u64,
    /// Room for bodies.
    pub(crate) room: Room,
}

/// Room for so many bodies at once.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Sources {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/events", post(take))
            .route("/api/v1/events", post(take))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self)
    }
}

/// Why events are not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the header x-api-key is missing")]
    NoKey,
    #[error("the key is not known")]
    UnknownKey,
    #[error("the key cannot be checked now")]
    Unchecked,
    #[error("{0}")]
    Body(BytesRejection),
    #[error("the body did not come within {} seconds", BODY_TIME.as_secs())]
    Slow,
    #[error("as many requests are at work as there is room for; send it again")]
    Crowded,
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    #[error(transparent)]
    Refusal(#[from] Refusal),
}

impl Refused {
    fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoKey => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::UnknownKey => (StatusCode::UNAUTHORIZED, "invalid_token"),
            Self::Envelope(EnvelopeError::Source { .. }) => (StatusCode::FORBIDDEN, "wrong_source"),
            Self::Envelope(EnvelopeError::Missing { .. }) => (StatusCode::BAD_REQUEST, "missing_fields"),
            Self::Envelope(EnvelopeError::Json { .. } | EnvelopeError::Empty) => {
                (StatusCode::BAD_REQUEST, "invalid_json")
            }
            Self::Envelope(EnvelopeError::Large { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Body(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too_large")
            }
            Self::Body(_) | Self::Refusal(Refusal::Defect(_)) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::Slow => (StatusCode::REQUEST_TIMEOUT, "timeout"),
            Self::Crowded | Self::Refusal(Refusal::Busy) => (StatusCode::TOO_MANY_REQUESTS, "busy"),
            Self::Unchecked | Self::Refusal(Refusal::Unwritable) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = self.code();
        let body = axum::Json(json!({ "error": code, "message": self.to_string() }));
        let again = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        if again {
            (status, [(header::RETRY_AFTER, "1")], body).into_response()
        } else {
            (status, body).into_response()
        }
    }
}

async fn take(State(sources): State<Sources>, request: Request) -> Response {
    match sources.take(request).await {
        Ok(count) => {
            (StatusCode::ACCEPTED, axum::Json(json!({ "ok": true, "accepted": count }))).into_response()
        }
        Err(refused) => {
            if !matches!(refused, Refused::Refusal(_) | Refused::Crowded) {
                sources.metrics.refused.inc();
            }
            refused.into_response()
        }
    }
}

impl Sources {
    /// Takes the events of a request, all or none, and tells how many they are.
    async fn take(&self, request: Request) -> Result<usize, Refused> {
        let headers = request.headers().clone();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let key = text("x-api-key").ok_or(Refused::NoKey)?;
        let source = self.keys.authenticate(key.trim()).await.map_err(|error| match error {
            AuthError::Unknown => Refused::UnknownKey,
            AuthError::Unavailable(_) => Refused::Unchecked,
        })?;
        // Nothing is read from whoever has no key.
        let Ok(_room) = self.room.0.try_acquire() else {
            self.metrics.pushed_back.inc();
            return Err(Refused::Crowded);
        };
        let body = Bytes::from_request(request, &());
        let body = tokio::time::timeout(BODY_TIME, body).await.map_err(|_| Refused::Slow)?;
        let trace_id = text("traceparent").and_then(|value| value.split('-').nth(1)).unwrap_or_default();
        let events = read(&body.map_err(Refused::Body)?, &source.proxy, trace_id, now())?;
        let count = events.len();
        let chain = ChainName { proxy: format!("source:{}", source.proxy), worker: 0, epoch: self.epoch };
        let caller = Identity { proxy: chain.proxy.clone(), server: None };
        self.acceptor
            .accept(Batch { caller, chain, events: Events::Loose(events), word: Word::default() })
            .await?;
        Ok(count)
    }
}

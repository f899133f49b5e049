//! Health and metrics of a process, over HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// Whether a process does its work, and if not, why.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<RwLock<State>>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// For this reason.
    NotReady(String),
    /// With a remark.
    Ready(String),
}

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(State::NotReady("starting".into()))))
    }
}

impl Readiness {
    /// Sets it.
    pub fn set(&self, ready: bool) {
        self.put(if ready { State::Ready(String::new()) } else { State::NotReady(String::new()) });
    }

    /// Ready, but somebody should know this, which anyone may read.
    pub fn remark(&self, remark: impl Into<String>) {
        self.put(State::Ready(remark.into()));
    }

    /// Not ready, for this reason, which anyone may read.
    pub fn refuse(&self, reason: impl Into<String>) {
        self.put(State::NotReady(reason.into()));
    }

    /// Asks it.
    pub fn is_ready(&self) -> bool {
        matches!(self.state(), State::Ready(_))
    }

    fn state(&self) -> State {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, state: State) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// What `/readyz` answers.
    fn answer(&self) -> (StatusCode, String) {
        let (status, word, more, text) = match self.state() {
            State::Ready(remark) => (StatusCode::OK, "ready", ", but ", remark),
            State::NotReady(reason) => (StatusCode::SERVICE_UNAVAILABLE, "not ready", ": ", reason),
        };
        (status, if text.is_empty() { word.into() } else { format!("{word}{more}{text}") })
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics` beside `more` until `shutdown`.
///
/// # Errors
/// The address is taken.
pub async fn serve(
    address: SocketAddr,
    registry: Registry,
    readiness: Readiness,
    more: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let registry = Arc::new(registry);
    let ready = move || async move { readiness.answer() };
    let metrics = move || async move {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => (StatusCode::OK, text),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        }
    };
    let router = more
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics));
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_ready_says_why() {
        let readiness = Readiness::default();
        assert_eq!(readiness.answer().1, "not ready: starting");
        readiness.set(true);
        assert_eq!(readiness.answer().0, StatusCode::OK);
        readiness.remark("the disk is nearly full");
        assert!(readiness.is_ready());
        assert_eq!(readiness.answer(), (StatusCode::OK, "ready, but the disk is nearly full".into()));
        readiness.refuse("disk full");
        assert!(!readiness.is_ready());
        assert_eq!(readiness.answer(), (StatusCode::SERVICE_UNAVAILABLE, "not ready: disk full".into()));
    }
}

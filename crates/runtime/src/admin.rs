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
pub struct Readiness(Arc<RwLock<Option<String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Some("starting".into()))))
    }
}

impl Readiness {
    /// Sets it.
    pub fn set(&self, ready: bool) {
        self.put(if ready { None } else { Some(String::new()) });
    }

    /// Not ready, for this reason, which anyone may read.
    pub fn refuse(&self, reason: impl Into<String>) {
        self.put(Some(reason.into()));
    }

    /// Asks it.
    pub fn is_ready(&self) -> bool {
        self.reason().is_none()
    }

    /// Why not; none: it is ready.
    fn reason(&self) -> Option<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, reason: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// What `/readyz` answers.
    fn answer(&self) -> (StatusCode, String) {
        match self.reason() {
            None => (StatusCode::OK, "ready".into()),
            Some(reason) if reason.is_empty() => (StatusCode::SERVICE_UNAVAILABLE, "not ready".into()),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}")),
        }
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
        readiness.refuse("disk full");
        assert!(!readiness.is_ready());
        assert_eq!(readiness.answer(), (StatusCode::SERVICE_UNAVAILABLE, "not ready: disk full".into()));
    }
}

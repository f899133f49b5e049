//! Metrics of the ingest.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) stored: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) missing: Counter,
    pub(crate) broken: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "sallyport_ingest_events_stored",
            "Events stored and acknowledged",
            metrics.stored.clone(),
        );
        registry.register(
            "sallyport_ingest_events_duplicate",
            "Events that were known already",
            metrics.duplicates.clone(),
        );
        registry.register(
            "sallyport_ingest_events_missing",
            "Events found missing from their chain",
            metrics.missing.clone(),
        );
        registry.register(
            "sallyport_ingest_chains_broken",
            "Events whose chain does not hold",
            metrics.broken.clone(),
        );
        registry.register(
            "sallyport_ingest_batches_refused",
            "Batches of callers or forms not accepted",
            metrics.refused.clone(),
        );
        registry.register(
            "sallyport_ingest_batches_failed",
            "Batches that could not be stored",
            metrics.failed.clone(),
        );
        metrics
    }
}

//! Metrics of the ingest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sallyport_ingest_spool::Spool;

use crate::accept::now;

/// Counters and gauges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) stored: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) missing: Counter,
    pub(crate) broken: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
    pub(crate) pushed_back: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) delivered: Counter,
    pub(crate) delivery_failures: Counter,
    pub(crate) records_damaged: Counter,
    spool_bytes: Gauge,
    spool_records: Gauge,
    lag: Gauge<f64, AtomicU64>,
    /// When the oldest event arrived that is being delivered, nanoseconds since 1970; 0: none is.
    waiting_since: Arc<AtomicU64>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let counters = [
            ("sallyport_ingest_events_stored", "Events made durable and acknowledged", &metrics.stored),
            ("sallyport_ingest_events_duplicate", "Events that were known already", &metrics.duplicates),
            ("sallyport_ingest_events_missing", "Events found missing from their chain", &metrics.missing),
            ("sallyport_ingest_chains_broken", "Events whose chain does not hold", &metrics.broken),
            (
                "sallyport_ingest_batches_refused",
                "Batches of callers or forms not accepted",
                &metrics.refused,
            ),
            ("sallyport_ingest_batches_failed", "Batches that could not be made durable", &metrics.failed),
            (
                "sallyport_ingest_batches_pushed_back",
                "Batches for which there was no room",
                &metrics.pushed_back,
            ),
            (
                "sallyport_ingest_connections_refused",
                "Connections beyond the limit",
                &metrics.connections_refused,
            ),
            ("sallyport_ingest_events_delivered", "Events brought to the store", &metrics.delivered),
            (
                "sallyport_ingest_delivery_failures",
                "Attempts to bring events to the store that failed",
                &metrics.delivery_failures,
            ),
            (
                "sallyport_ingest_records_damaged",
                "Records of the spool that cannot be read",
                &metrics.records_damaged,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "sallyport_ingest_spool_bytes",
            "Bytes of the spool on disk",
            metrics.spool_bytes.clone(),
        );
        registry.register(
            "sallyport_ingest_spool_records",
            "Batches not delivered yet",
            metrics.spool_records.clone(),
        );
        registry.register(
            "sallyport_ingest_delivery_lag_seconds",
            "Age of the oldest event that is being delivered",
            metrics.lag.clone(),
        );
        metrics
    }

    /// When the oldest event arrived that is being delivered, nanoseconds since 1970; none: none is.
    pub(crate) fn set_waiting_since(&self, nanos: Option<u64>) {
        self.waiting_since.store(nanos.unwrap_or(0), Ordering::Relaxed);
    }

    /// Reads the gauges.
    pub(crate) fn observe(&self, spool: &Spool) {
        self.spool_bytes.set(i64::try_from(spool.bytes()).unwrap_or(i64::MAX));
        self.spool_records.set(i64::try_from(spool.undelivered()).unwrap_or(i64::MAX));
        let since = self.waiting_since.load(Ordering::Relaxed);
        let waiting = if since == 0 { 0 } else { now().saturating_sub(since) };
        self.lag.set(std::time::Duration::from_nanos(waiting).as_secs_f64());
    }
}

//! Metrics of the ingest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sallyport_event_stream::Observed;
use sallyport_ingest_spool::{Health, Spool};

use crate::clock::now;

/// Counters and gauges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) stored: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) missing: Counter,
    pub(crate) broken: Counter,
    pub(crate) forked: Counter,
    pub(crate) cut_off: Counter,
    pub(crate) checkpoints: Counter,
    pub(crate) checkpoint_failures: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
    pub(crate) pushed_back: Counter,
    pub(crate) connections_refused: Counter,
    pub(crate) delivered: Counter,
    pub(crate) delivery_failures: Counter,
    pub(crate) records_damaged: Counter,
    /// Records that the brokers refuse, and the dead topic has.
    pub(crate) dead: Counter,
    kafka: KafkaGauges,
    ready: Gauge,
    spool_bytes: Gauge,
    spool_limit_bytes: Gauge,
    spool_records: Gauge,
    checkpoint_sequence: Gauge,
    checkpoint_time: Gauge<f64, AtomicU64>,
    lag: Gauge<f64, AtomicU64>,
    /// When the oldest event arrived that is being delivered, nanoseconds since 1970; 0: none is.
    waiting_since: Arc<AtomicU64>,
}

/// What the Kafka client tells about itself.
#[derive(Clone, Debug, Default)]
struct KafkaGauges {
    records: Gauge,
    bytes: Gauge,
    brokers_up: Gauge,
    retries: Gauge,
    round_trip: Gauge<f64, AtomicU64>,
}

impl KafkaGauges {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "sallyport_ingest_kafka_queue_records",
            "Records that the brokers have not acknowledged yet",
            self.records.clone(),
        );
        registry.register(
            "sallyport_ingest_kafka_queue_bytes",
            "Bytes of records that the brokers have not acknowledged yet",
            self.bytes.clone(),
        );
        registry.register(
            "sallyport_ingest_kafka_brokers_up",
            "Brokers with a connection",
            self.brokers_up.clone(),
        );
        registry.register(
            "sallyport_ingest_kafka_retries",
            "Requests to brokers that were tried again since the start",
            self.retries.clone(),
        );
        registry.register(
            "sallyport_ingest_kafka_round_trip_seconds",
            "99th percentile of the slowest broker's answers",
            self.round_trip.clone(),
        );
    }
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
                "sallyport_ingest_chains_forked",
                "Batches with another event for a place that is taken",
                &metrics.forked,
            ),
            ("sallyport_ingest_chains_cut_off", "Chains that ended without a word", &metrics.cut_off),
            ("sallyport_ingest_checkpoints", "Checkpoints made", &metrics.checkpoints),
            (
                "sallyport_ingest_checkpoint_failures",
                "Checkpoints that could not be made",
                &metrics.checkpoint_failures,
            ),
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
            (
                "sallyport_ingest_kafka_records_dead",
                "Records that the brokers refuse, brought to the dead topic",
                &metrics.dead,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        metrics.register_gauges(registry);
        metrics.kafka.register(registry);
        metrics
    }

    fn register_gauges(&self, registry: &mut Registry) {
        registry.register(
            "sallyport_ingest_ready",
            "1: the spool can be written, so batches are taken; 0: they are not",
            self.ready.clone(),
        );
        registry.register(
            "sallyport_ingest_spool_limit_bytes",
            "Most bytes of the spool on disk",
            self.spool_limit_bytes.clone(),
        );
        registry.register(
            "sallyport_ingest_spool_bytes",
            "Bytes of the spool on disk",
            self.spool_bytes.clone(),
        );
        registry.register(
            "sallyport_ingest_spool_records",
            "Batches not delivered yet",
            self.spool_records.clone(),
        );
        self.register_checkpoints(registry);
        registry.register(
            "sallyport_ingest_delivery_lag_seconds",
            "Age of the oldest event that is being delivered",
            self.lag.clone(),
        );
    }

    /// When the oldest event arrived that is being delivered, nanoseconds since 1970; none: none is.
    pub(crate) fn set_waiting_since(&self, nanos: Option<u64>) {
        self.waiting_since.store(nanos.unwrap_or(0), Ordering::Relaxed);
    }

    /// Reads what the Kafka client tells about itself.
    pub(crate) fn observe_kafka(&self, observed: &Observed) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.kafka.records.set(gauge(observed.records));
        self.kafka.bytes.set(gauge(observed.bytes));
        self.kafka.brokers_up.set(gauge(observed.brokers_up));
        self.kafka.retries.set(gauge(observed.retries));
        self.kafka.round_trip.set(observed.round_trip_seconds);
    }

    fn register_checkpoints(&self, registry: &mut Registry) {
        registry.register(
            "sallyport_ingest_checkpoint_sequence",
            "Number of the last checkpoint made since the start",
            self.checkpoint_sequence.clone(),
        );
        registry.register(
            "sallyport_ingest_checkpoint_timestamp_seconds",
            "When the last checkpoint was made, seconds since 1970; 0: none since the start",
            self.checkpoint_time.clone(),
        );
    }

    /// A checkpoint was made at `nanos` since 1970.
    pub(crate) fn set_checkpoint(&self, sequence: u64, nanos: u64) {
        self.checkpoint_sequence.set(i64::try_from(sequence).unwrap_or(i64::MAX));
        self.checkpoint_time.set(std::time::Duration::from_nanos(nanos).as_secs_f64());
    }

    /// Age of the oldest event that is being delivered.
    pub(crate) fn lag_seconds(&self) -> f64 {
        let since = self.waiting_since.load(Ordering::Relaxed);
        let waiting = if since == 0 { 0 } else { now().saturating_sub(since) };
        std::time::Duration::from_nanos(waiting).as_secs_f64()
    }

    /// Reads the gauges.
    pub(crate) fn observe(&self, spool: &Spool) {
        let ready = !matches!(&*spool.health().borrow(), Health::Failing(_));
        self.ready.set(i64::from(ready));
        self.spool_limit_bytes.set(i64::try_from(spool.max_bytes()).unwrap_or(i64::MAX));
        self.spool_bytes.set(i64::try_from(spool.bytes()).unwrap_or(i64::MAX));
        self.spool_records.set(i64::try_from(spool.undelivered()).unwrap_or(i64::MAX));
        self.lag.set(self.lag_seconds());
    }
}

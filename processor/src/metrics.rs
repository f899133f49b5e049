//! Metrics of the processor.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Counters and gauges.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) read: Counter,
    pub(crate) stored: Counter,
    pub(crate) duplicates: Counter,
    pub(crate) dead: Counter,
    pub(crate) failures: Counter,
    pub(crate) rebalances: Counter,
    pub(crate) remade: Counter,
    pub(crate) waiting: Gauge,
    pub(crate) age: Gauge<f64, AtomicU64>,
    pub(crate) batch_seconds: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        // From 5 ms to 20 s.
        let buckets = prometheus_client::metrics::histogram::exponential_buckets(0.005, 2.0, 13);
        let metrics = Self {
            read: Counter::default(),
            stored: Counter::default(),
            duplicates: Counter::default(),
            dead: Counter::default(),
            failures: Counter::default(),
            rebalances: Counter::default(),
            remade: Counter::default(),
            waiting: Gauge::default(),
            age: Gauge::default(),
            batch_seconds: Histogram::new(buckets),
        };
        let counters = [
            ("sallyport_processor_records_read", "Records read from Kafka", &metrics.read),
            ("sallyport_processor_events_stored", "Events and findings stored", &metrics.stored),
            (
                "sallyport_processor_events_duplicate",
                "Events and findings known already",
                &metrics.duplicates,
            ),
            ("sallyport_processor_records_dead", "Records that hold no event", &metrics.dead),
            ("sallyport_processor_store_failures", "Attempts to store that failed", &metrics.failures),
            ("sallyport_processor_rebalances", "Changes of assigned partitions", &metrics.rebalances),
            ("sallyport_processor_topics_remade", "Topics that were deleted and made again", &metrics.remade),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "sallyport_processor_lag_records",
            "Records of the assigned partitions that are not read yet",
            metrics.waiting.clone(),
        );
        registry.register(
            "sallyport_processor_delivery_lag_seconds",
            "Age of the oldest event of the batch that was stored last, or is being stored",
            metrics.age.clone(),
        );
        registry.register(
            "sallyport_processor_batch_seconds",
            "Time to store a batch",
            metrics.batch_seconds.clone(),
        );
        metrics
    }
}

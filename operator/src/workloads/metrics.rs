//! Figures of the work on servers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A kind of rendered object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ObjectLabel {
    pub(super) kind: String,
}

/// Figures of the work on servers.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadMetrics {
    pub(super) applied: Family<ObjectLabel, Counter>,
    pub(super) deleted: Family<ObjectLabel, Counter>,
    pub(super) failures: Counter,
    pub(super) rounds: Histogram,
    pub(super) servers: Gauge,
}

impl WorkloadMetrics {
    /// Registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            applied: Family::default(),
            deleted: Family::default(),
            failures: Counter::default(),
            rounds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            servers: Gauge::default(),
        };
        let help = "Rendered objects applied";
        registry.register("sallyport_operator_workload_applied", help, metrics.applied.clone());
        let help = "Rendered objects deleted because they are not wanted any more";
        registry.register("sallyport_operator_workload_deleted", help, metrics.deleted.clone());
        let help = "Rounds over a server that ended with an error";
        registry.register("sallyport_operator_workload_failures", help, metrics.failures.clone());
        let help = "Rounds over a server";
        registry.register_with_unit(
            "sallyport_operator_workload_round",
            help,
            Unit::Seconds,
            metrics.rounds.clone(),
        );
        let help = "Servers whose objects this replica keeps";
        registry.register("sallyport_operator_workload_servers", help, metrics.servers.clone());
        metrics
    }
}

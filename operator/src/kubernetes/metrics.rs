//! Metrics of the Kubernetes source.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sallyport_api::Kind;

use crate::metrics::KindLabel;

/// How the watches are.
#[derive(Clone, Debug)]
pub(crate) struct WatchMetrics {
    lost: Family<KindLabel, Counter>,
    /// Seconds from the arrival of an event until proxies can be told of it.
    pub(crate) lag: Histogram,
}

impl WatchMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { lost: Family::default(), lag: Histogram::new(exponential_buckets(0.000_05, 4.0, 12)) };
        registry.register("sallyport_operator_watch_lost", "Errors of watches", metrics.lost.clone());
        let help = "From the arrival of a watch event until its change is on its way to proxies";
        let lag = metrics.lag.clone();
        registry.register_with_unit("sallyport_operator_watch_lag", help, Unit::Seconds, lag);
        metrics
    }

    pub(crate) fn lost(&self, kind: Kind) {
        self.lost.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }
}

//! Metrics of the Kubernetes source, and of the election.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sallyport_api::Kind;
use tokio::sync::watch;

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

/// Whether this replica writes, asked when metrics are.
#[derive(Debug)]
struct Leading(watch::Receiver<bool>);

impl Collector for Leading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(i64::from(*self.0.borrow()));
        let help = "Whether this replica writes: 1, it holds the lease";
        let metric =
            encoder.encode_descriptor("sallyport_operator_leader", help, None, gauge.metric_type())?;
        gauge.encode(metric)
    }
}

pub(crate) fn register_leader(registry: &mut Registry, leader: watch::Receiver<bool>) {
    registry.register_collector(Box::new(Leading(leader)));
}

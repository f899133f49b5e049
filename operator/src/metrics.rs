//! Metrics of the control plane.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// A kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    pub(crate) kind: &'static str,
}

/// Counters and gauges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) changes: Family<KindLabel, Counter>,
    pub(crate) problems: Gauge,
    pub(crate) connected: Gauge,
    pub(crate) refusals: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("sallyport_operator_changes", "Changes of objects taken in", metrics.changes.clone());
        registry.register("sallyport_operator_problems", "Documents that cannot be taken in", metrics.problems.clone());
        registry.register("sallyport_operator_streams", "Connected xDS streams", metrics.connected.clone());
        registry.register("sallyport_operator_refusals", "Responses refused by connected proxies", metrics.refusals.clone());
        metrics
    }
}

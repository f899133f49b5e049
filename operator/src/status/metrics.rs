//! Metrics of statuses, events and the collection of sessions.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sallyport_api::Kind;

use super::desk::Refusal;
use super::keeper::Depth;
use super::queue::Lane;

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    /// `written`, `gone` or `failed`.
    result: &'static str,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    reason: &'static str,
    /// `told` or `failed`.
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabel {
    lane: &'static str,
}

/// Counters and gauges.
#[derive(Clone, Debug, Default)]
pub(crate) struct StatusMetrics {
    writes: Family<WriteLabels, Counter>,
    events: Family<EventLabels, Counter>,
    queue: Family<LaneLabel, Gauge>,
    waiting: Gauge,
    collected: Counter,
}

impl StatusMetrics {
    /// Registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Statuses written, or tried to write";
        registry.register("sallyport_operator_status_writes", help, metrics.writes.clone());
        let help = "Kubernetes events told, or tried to tell";
        registry.register("sallyport_operator_events", help, metrics.events.clone());
        let help = "Objects whose status is to be looked at or written";
        registry.register("sallyport_operator_status_queue", help, metrics.queue.clone());
        let help = "Objects that some proxy has not acknowledged";
        registry.register("sallyport_operator_status_waiting", help, metrics.waiting.clone());
        let help = "Sessions deleted after their retention";
        registry.register("sallyport_operator_sessions_collected", help, metrics.collected.clone());
        metrics
    }

    pub(super) fn depth(&self, depth: Depth) {
        for (lane, depth) in [(Lane::Urgent, depth.urgent), (Lane::Patient, depth.patient)] {
            self.queue.get_or_create(&LaneLabel { lane: lane.as_str() }).set(number(depth));
        }
        self.waiting.set(number(depth.waiting));
    }

    pub(super) fn told(&self, told: &[(&'static str, bool)]) {
        for (reason, is_told) in told {
            let result = if *is_told { "told" } else { "failed" };
            self.events.get_or_create(&EventLabels { reason, result }).inc();
        }
    }

    pub(super) fn wrote(&self, kind: Kind, outcome: &Result<Option<String>, Refusal>) {
        let result = match outcome {
            Ok(_) => "written",
            Err(Refusal::Gone) => "gone",
            Err(Refusal::Failed(_)) => "failed",
        };
        self.writes.get_or_create(&WriteLabels { kind: kind.as_str(), result }).inc();
    }

    /// A session was deleted after its retention.
    pub(crate) fn collected(&self) {
        self.collected.inc();
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

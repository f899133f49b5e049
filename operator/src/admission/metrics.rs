//! Metrics of the webhook.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sallyport_api::Kind;

use super::review::{Denial, Verdict};

/// A judged request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: &'static str,
    outcome: &'static str,
}

/// How requests ended, and how long they took.
#[derive(Clone, Debug)]
pub struct AdmissionMetrics {
    requests: Family<RequestLabels, Counter>,
    duration: Histogram,
}

impl Default for AdmissionMetrics {
    fn default() -> Self {
        // From a tenth of a millisecond to beyond the deadline.
        Self { requests: Family::default(), duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 17)) }
    }
}

impl AdmissionMetrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Requests that the webhook judged";
        registry.register("sallyport_operator_admission_requests", help, metrics.requests.clone());
        let (help, duration) = ("Time until a request was judged", metrics.duration.clone());
        registry.register_with_unit("sallyport_operator_admission", help, Unit::Seconds, duration);
        metrics
    }

    /// A request ended; none: it could not be read.
    pub(super) fn judged(&self, kind: Kind, verdict: Option<&Verdict>, took: Duration) {
        let outcome = match verdict.map(|verdict| (&verdict.denial, verdict.warnings.is_empty())) {
            None => "unreadable",
            Some((Some(Denial::Refused(_)), _)) => "refused",
            Some((Some(Denial::Unavailable(_)), _)) => "unavailable",
            Some((None, false)) => "warned",
            Some((None, true)) => "allowed",
        };
        self.requests.get_or_create(&RequestLabels { kind: kind.as_str(), outcome }).inc();
        self.duration.observe(took.as_secs_f64());
    }
}

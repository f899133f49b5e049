//! Metrics of the control plane.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sallyport_operator_xds::{Proxies, SharedWorld, Totals};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::control::lock;

/// Changes on their way; beyond it the oldest are not measured.
const OUTSTANDING: usize = 4096;

/// A kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    pub(crate) kind: &'static str,
}

/// Counters, gauges and one histogram.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) changes: Family<KindLabel, Counter>,
    pub(crate) problems: Gauge,
    connected: Gauge,
    sent: Counter,
    acknowledgements: Counter,
    refusals: Counter,
    propagation: Histogram,
    /// A span for each change that not every filter has answered, by its number; none are kept where nothing is traced.
    underway: Arc<Mutex<BTreeMap<u64, Span>>>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            changes: Family::default(),
            problems: Gauge::default(),
            connected: Gauge::default(),
            sent: Counter::default(),
            acknowledgements: Counter::default(),
            refusals: Counter::default(),
            propagation: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
            underway: Arc::default(),
        };
        registry.register(
            "sallyport_operator_changes",
            "Changes of objects taken in",
            metrics.changes.clone(),
        );
        registry.register(
            "sallyport_operator_problems",
            "Documents that cannot be taken in",
            metrics.problems.clone(),
        );
        registry.register("sallyport_operator_streams", "Connected xDS streams", metrics.connected.clone());
        registry.register("sallyport_operator_responses", "Responses sent to proxies", metrics.sent.clone());
        let help = "Responses acknowledged by proxies";
        registry.register("sallyport_operator_acknowledgements", help, metrics.acknowledgements.clone());
        registry.register(
            "sallyport_operator_refusals",
            "Responses refused by proxies",
            metrics.refusals.clone(),
        );
        let help = "From a change until every connected filter has acknowledged it";
        let propagation = metrics.propagation.clone();
        registry.register_with_unit("sallyport_operator_propagation", help, Unit::Seconds, propagation);
        metrics
    }

    /// A change begins its way to the filters, as part of the current span.
    pub(crate) fn begin(&self, change: u64) {
        let span = tracing::debug_span!("operator.propagate", change);
        if span.is_disabled() {
            return;
        }
        let mut underway = lock(&self.underway);
        underway.insert(change, span);
        if underway.len() > OUTSTANDING {
            underway.pop_first();
        }
    }

    /// Every filter has answered the changes up to this one.
    fn end(&self, change: u64) {
        lock(&self.underway).retain(|underway, _| *underway > change);
    }

    /// Follows what proxies do, until `shutdown`.
    pub(crate) async fn follow(self, world: SharedWorld, proxies: Proxies, shutdown: CancellationToken) {
        let (mut changes, mut answers) = (world.bell(), proxies.bell());
        let mut outstanding: VecDeque<(u64, Instant)> = VecDeque::new();
        let mut counted = Totals::default();
        loop {
            tokio::select! {
                rung = changes.changed() => {
                    if rung.is_err() { return }
                    outstanding.push_back((*changes.borrow_and_update(), Instant::now()));
                    if outstanding.len() > OUTSTANDING {
                        outstanding.pop_front();
                    }
                }
                rung = answers.changed() => if rung.is_err() { return },
                () = shutdown.cancelled() => return,
            }
            match proxies.answered() {
                Some(answered) => {
                    self.end(answered);
                    while let Some((_, began)) = outstanding.pop_front_if(|(seq, _)| *seq <= answered) {
                        self.propagation.observe(began.elapsed().as_secs_f64());
                    }
                }
                // Nobody to propagate to.
                None => {
                    self.end(u64::MAX);
                    outstanding.clear();
                }
            }
            let connected = proxies.all().values().filter(|instance| instance.is_connected).count();
            self.connected.set(i64::try_from(connected).unwrap_or(i64::MAX));
            let totals = proxies.totals();
            self.sent.inc_by(totals.sent.saturating_sub(counted.sent));
            self.acknowledgements.inc_by(totals.acknowledgements.saturating_sub(counted.acknowledgements));
            self.refusals.inc_by(totals.refusals.saturating_sub(counted.refusals));
            counted = totals;
        }
    }
}

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
use sallyport_operator_xds::{Target, Totals};
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::lock::lock;

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
}

/// A span for each change of a target that not every filter has answered, by its number; none are kept where nothing is
/// traced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Underway(Arc<Mutex<BTreeMap<u64, Span>>>);

impl Underway {
    /// A change begins its way to the filters, as part of the current span.
    pub(crate) fn begin(&self, change: u64) {
        let span = tracing::debug_span!("operator.propagate", change);
        if span.is_disabled() {
            return;
        }
        let mut underway = lock(&self.0);
        underway.insert(change, span);
        if underway.len() > OUTSTANDING {
            underway.pop_first();
        }
    }

    /// Every filter has answered the changes up to this one.
    fn end(&self, change: u64) {
        lock(&self.0).retain(|underway, _| *underway > change);
    }
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

    /// Follows what the proxies of one target do, and calls `answered` when they did something, until `end`.
    pub(crate) async fn follow(
        self,
        target: Target,
        underway: Underway,
        answered: impl Fn(),
        end: CancellationToken,
    ) {
        let (outstanding, counted) = (VecDeque::new(), Totals::default());
        let mut followed = Followed { metrics: self, target, underway, outstanding, counted, connected: 0 };
        let (mut changes, mut answers) = (followed.target.world.bell(), followed.target.proxies.bell());
        loop {
            tokio::select! {
                rung = changes.changed() => {
                    if rung.is_err() { break }
                    followed.began(*changes.borrow_and_update());
                }
                rung = answers.changed() => {
                    if rung.is_err() { break }
                    answered();
                }
                () = end.cancelled() => break,
            }
            followed.look();
        }
        followed.metrics.connected.dec_by(followed.connected);
    }
}

/// One target, as it was last looked at.
#[derive(Debug)]
struct Followed {
    metrics: Metrics,
    target: Target,
    underway: Underway,
    /// Changes that not every filter has answered, and since when.
    outstanding: VecDeque<(u64, Instant)>,
    counted: Totals,
    connected: i64,
}

impl Followed {
    fn began(&mut self, change: u64) {
        self.outstanding.push_back((change, Instant::now()));
        if self.outstanding.len() > OUTSTANDING {
            self.outstanding.pop_front();
        }
    }

    fn look(&mut self) {
        let Self { metrics, target, .. } = self;
        match target.proxies.answered() {
            Some(answered) => {
                self.underway.end(answered);
                while let Some((_, began)) = self.outstanding.pop_front_if(|(seq, _)| *seq <= answered) {
                    metrics.propagation.observe(began.elapsed().as_secs_f64());
                }
            }
            // Nobody to propagate to.
            None => {
                self.underway.end(u64::MAX);
                self.outstanding.clear();
            }
        }
        let connected = i64::try_from(target.proxies.connected()).unwrap_or(i64::MAX);
        metrics.connected.inc_by(connected - std::mem::replace(&mut self.connected, connected));
        let totals = target.proxies.totals();
        let counted = std::mem::replace(&mut self.counted, totals);
        metrics.sent.inc_by(totals.sent.saturating_sub(counted.sent));
        metrics.acknowledgements.inc_by(totals.acknowledgements.saturating_sub(counted.acknowledgements));
        metrics.refusals.inc_by(totals.refusals.saturating_sub(counted.refusals));
    }
}

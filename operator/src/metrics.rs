//! Metrics of the control plane.

use std::collections::VecDeque;
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sallyport_operator_xds::{Standing, Target, Totals};
use tokio_util::sync::CancellationToken;

use crate::targets::Targets;

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
    waiting: Gauge,
    sent: Counter,
    acknowledgements: Counter,
    refusals: Counter,
    propagation: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            changes: Family::default(),
            problems: Gauge::default(),
            connected: Gauge::default(),
            waiting: Gauge::default(),
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
        let help = "Changes that some connected filter has not acknowledged";
        registry.register("sallyport_operator_changes_unacknowledged", help, metrics.waiting.clone());
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
    pub(crate) async fn follow(self, target: Target, answered: impl Fn(), end: CancellationToken) {
        let (outstanding, counted) = (VecDeque::new(), Totals::default());
        let mut followed = Followed { metrics: self, target, outstanding, counted, connected: 0, waiting: 0 };
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
        followed.metrics.waiting.dec_by(followed.waiting);
    }
}

/// One target, as it was last looked at.
#[derive(Debug)]
struct Followed {
    metrics: Metrics,
    target: Target,
    /// Changes that not every filter has answered, and since when.
    outstanding: VecDeque<(u64, Instant)>,
    counted: Totals,
    connected: i64,
    waiting: i64,
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
                target.world.underway().end(answered);
                while let Some((_, began)) = self.outstanding.pop_front_if(|(seq, _)| *seq <= answered) {
                    metrics.propagation.observe(began.elapsed().as_secs_f64());
                }
            }
            // Nobody to propagate to.
            None => {
                target.world.underway().end(u64::MAX);
                self.outstanding.clear();
            }
        }
        let connected = i64::try_from(target.proxies.connected()).unwrap_or(i64::MAX);
        metrics.connected.inc_by(connected - std::mem::replace(&mut self.connected, connected));
        let waiting = i64::try_from(self.outstanding.len()).unwrap_or(i64::MAX);
        metrics.waiting.inc_by(waiting - std::mem::replace(&mut self.waiting, waiting));
        let totals = target.proxies.totals();
        let counted = std::mem::replace(&mut self.counted, totals);
        metrics.sent.inc_by(totals.sent.saturating_sub(counted.sent));
        metrics.acknowledgements.inc_by(totals.acknowledgements.saturating_sub(counted.acknowledgements));
        metrics.refusals.inc_by(totals.refusals.saturating_sub(counted.refusals));
    }
}

/// How proxies stand, counted when metrics are asked for.
#[derive(Debug)]
struct Standings(Targets);

impl Collector for Standings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut all = Standing::default();
        for (_, tracked) in self.0.all() {
            let newest = *tracked.target.world.bell().borrow();
            let Standing { connected, configuration, grants, sessions } =
                tracked.target.proxies.standing(newest);
            all.connected += connected;
            all.configuration += configuration;
            all.grants += grants;
            all.sessions += sessions;
        }
        let gauge = |count: usize| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let connected = gauge(all.connected);
        let (name, help) = ("sallyport_operator_connected_proxies", "Connected proxies");
        connected.encode(encoder.encode_descriptor(name, help, None, connected.metric_type())?)?;
        let name = "sallyport_operator_acknowledged_proxies";
        let help = "Connected proxies that have acknowledged the newest version of all there is of a type";
        let mut metric = encoder.encode_descriptor(name, help, None, connected.metric_type())?;
        let types =
            [("configuration", all.configuration), ("grants", all.grants), ("sessions", all.sessions)];
        for (kind, count) in types {
            gauge(count).encode(metric.encode_family(&[("type", kind)])?)?;
        }
        Ok(())
    }
}

/// Registers how the proxies of `targets` stand.
pub(crate) fn register_proxies(registry: &mut Registry, targets: Targets) {
    registry.register_collector(Box::new(Standings(targets)));
}

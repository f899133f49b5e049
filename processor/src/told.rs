//! What librdkafka tells of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientContext, Statistics};
use sallyport_event_stream::Trouble;

use crate::metrics::Metrics;

/// The id of a topic that was not known before, as librdkafka writes it.
const NO_ID: &str = " changed id from AAAAAAAAAAAAAAAAAAAAAA to ";

/// What librdkafka tells.
pub(crate) struct Told {
    /// Counts changes of the assignment.
    generation: AtomicU64,
    /// Counts topics that were deleted and made again.
    remade: AtomicU64,
    trouble: Trouble,
    metrics: Metrics,
}

impl Told {
    pub(crate) fn new(metrics: Metrics) -> Self {
        let (generation, remade) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { generation, remade, trouble: Trouble::until_connected(), metrics }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(crate) fn remade(&self) -> u64 {
        self.remade.load(Ordering::Relaxed)
    }

    /// What keeps Kafka from being read.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.now()
    }
}

impl ClientContext for Told {
    fn stats(&self, statistics: Statistics) {
        self.trouble.observe(&statistics);
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        self.metrics.waiting.set(partitions.map(|partition| partition.consumer_lag.max(0)).sum());
    }

    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        if is_remade(message) {
            self.remade.fetch_add(1, Ordering::Relaxed);
        }
        sallyport_event_stream::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client");
        self.trouble.tell(&error, reason);
    }
}

impl ConsumerContext for Told {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        self.metrics.rebalances.inc();
        self.generation.fetch_add(1, Ordering::Relaxed);
        match rebalance {
            Rebalance::Assign(list) => {
                self.trouble.served();
                tracing::info!(partitions = list.count(), "partitions assigned");
            }
            Rebalance::Revoke(list) => tracing::info!(partitions = list.count(), "partitions revoked"),
            Rebalance::Error(error) => tracing::warn!(%error, "partitions could not be assigned"),
        }
    }
}

/// Whether a line says that a topic of a name that was known is another one now. librdkafka tells it in no other way, and only
/// with `debug=topic`; an end-to-end test deletes a topic and makes it again.
fn is_remade(line: &str) -> bool {
    line.contains(" changed id from ") && !line.contains(NO_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_first_seen_is_not_made_again() {
        let line =
            |from| format!("[thrd:main]: Topic mcp.events changed id from {from} to tpDNFjZtSMeHdVvDPEXTkg");
        assert!(!is_remade(&line("AAAAAAAAAAAAAAAAAAAAAA")));
        assert!(is_remade(&line("Xz0cVnLHTcOGvLnk9eFqpw")));
        assert!(!is_remade("[thrd:main]: Topic mcp.events partition 0 Leader 1"));
    }
}

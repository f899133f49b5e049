//! What was read and is not stored yet. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::message::OwnedMessage;
use sallyport_event_store::{Block, Finding, StoredCheckpoint};
use sallyport_event_stream::Told;

/// Which topic a record was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Events,
    Checkpoints,
}

/// When a batch is to be stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) wait: Duration,
}

/// Records in the order in which they were read.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Events, as they are to be stored.
    pub(crate) block: Block,
    pub(crate) findings: Vec<Finding>,
    pub(crate) checkpoints: Vec<StoredCheckpoint>,
    /// Records that hold no event, with why.
    pub(crate) dead: Vec<(OwnedMessage, String)>,
    /// The offset after the last record, by topic and partition.
    pub(crate) offsets: BTreeMap<(Origin, i32), i64>,
    bytes: usize,
    began: Option<Instant>,
    /// When its oldest event was made, nanoseconds since 1970.
    oldest: Option<u64>,
}

impl Batch {
    /// Notes that a record was read, of so many bytes.
    pub(crate) fn read(&mut self, place: (Origin, i32), offset: i64, bytes: usize, now: Instant) {
        self.offsets.insert(place, offset.saturating_add(1));
        self.bytes = self.bytes.saturating_add(bytes);
        self.began.get_or_insert(now);
    }

    /// Adds what a record holds.
    pub(crate) fn push(&mut self, told: Told<'_>) {
        match told {
            Told::Event { chain, bytes, hash, event } => {
                self.block.push_event(&chain, bytes, &hash, &event);
                let nanos = event.time_unix_nanos;
                self.oldest = Some(self.oldest.map_or(nanos, |oldest| oldest.min(nanos)));
            }
            Told::Finding(finding) => self.findings.push(finding),
        }
    }

    /// How long until it is to be stored; none: there is nothing yet.
    pub(crate) fn due_in(&self, bounds: Bounds, now: Instant) -> Option<Duration> {
        let began = self.began?;
        let records = self.block.len() + self.findings.len() + self.checkpoints.len() + self.dead.len();
        if records >= bounds.records || self.bytes >= bounds.bytes {
            return Some(Duration::ZERO);
        }
        Some((began + bounds.wait).saturating_duration_since(now))
    }

    /// When its oldest event was made, nanoseconds since 1970.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { records: 2, bytes: 100, wait: Duration::from_millis(200) };

    fn finding() -> Told<'static> {
        let (chain, event_type) = (Default::default(), "audit.gap");
        Told::Finding(Finding { chain, event_type, from: 1, to: 2, nanos: 3 })
    }

    #[test]
    fn a_batch_is_due_by_its_number_its_bytes_or_its_age() {
        let now = Instant::now();
        let mut batch = Batch::default();
        assert_eq!(batch.due_in(BOUNDS, now), None);
        batch.read((Origin::Events, 0), 7, 10, now);
        batch.push(finding());
        assert_eq!(batch.due_in(BOUNDS, now), Some(BOUNDS.wait));
        assert_eq!(batch.due_in(BOUNDS, now + BOUNDS.wait * 2), Some(Duration::ZERO));
        let mut large = Batch::default();
        large.read((Origin::Events, 0), 7, 100, now);
        assert_eq!(large.due_in(BOUNDS, now), Some(Duration::ZERO));
        batch.read((Origin::Checkpoints, 1), 3, 10, now);
        batch.push(finding());
        assert_eq!(batch.due_in(BOUNDS, now), Some(Duration::ZERO));
        assert_eq!(
            batch.offsets,
            BTreeMap::from([((Origin::Events, 0), 8), ((Origin::Checkpoints, 1), 4)]),
            "what is committed is what to read next"
        );
    }
}

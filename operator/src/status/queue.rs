//! Whose status is to be written, in which order, how fast.
//!
//! Two lanes. Urgent: servers, and grants and sessions that somebody took away; they are written at once. Patient: the rest,
//! at a rate that leaves the API server to others. An object stands in the queue once, whatever happened to it meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sallyport_operator_index::Key;
use tokio::time::Instant;

/// How soon a status is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// In its turn, at the given rate.
    Patient,
    /// Before all patient ones, at once.
    Urgent,
}

impl Lane {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Patient, Self::Urgent];

    /// The label of metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::Urgent => "urgent",
        }
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// These are to be written.
    Write(Vec<Key>),
    /// Nothing before then.
    Wait(Instant),
    /// Nothing.
    Idle,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    lanes: BTreeMap<Key, Lane>,
    urgent: VecDeque<Key>,
    patient: VecDeque<Key>,
    /// Time between patient writes.
    pace: Duration,
    /// Patient writes that may be made at once after a pause.
    burst: u32,
    /// When the allowance of patient writes was, or will be, full.
    full_at: Instant,
}

impl Queue {
    /// An empty queue that lets `per_second` patient writes pass, at least one.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let burst = per_second.max(1);
        Self {
            lanes: BTreeMap::new(),
            urgent: VecDeque::new(),
            patient: VecDeque::new(),
            pace: Duration::from_secs(1) / burst,
            burst,
            full_at: now,
        }
    }

    /// An object's status is to be written; one that stands in the queue may move to the faster lane.
    pub(crate) fn push(&mut self, key: Key, lane: Lane) {
        if self.lanes.get(&key).is_some_and(|known| *known >= lane) {
            return;
        }
        match lane {
            Lane::Patient => self.patient.push_back(key.clone()),
            // Its place in the other lane stays, and is passed over.
            Lane::Urgent => self.urgent.push_back(key.clone()),
        }
        self.lanes.insert(key, lane);
    }

    /// An object's status need not be written any more.
    pub(crate) fn remove(&mut self, key: &Key) {
        self.lanes.remove(key);
    }

    /// Whether an object stands in the queue.
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.lanes.contains_key(key)
    }

    /// How many stand in a lane.
    pub(crate) fn len(&self, lane: Lane) -> usize {
        self.lanes.values().filter(|known| **known == lane).count()
    }

    /// Takes out what may be written at `now`: at most so many of each lane.
    pub(crate) fn next(&mut self, urgent: usize, patient: usize, now: Instant) -> Next {
        let mut keys = Vec::new();
        while keys.len() < urgent
            && let Some(key) = take(&mut self.urgent, &mut self.lanes, Lane::Urgent)
        {
            keys.push(key);
        }
        if !keys.is_empty() {
            return Next::Write(keys);
        }
        while keys.len() < patient && self.allowance(now) > 0 {
            let Some(key) = take(&mut self.patient, &mut self.lanes, Lane::Patient) else { break };
            self.full_at = self.full_at.max(now) + self.pace;
            keys.push(key);
        }
        match (keys.is_empty(), self.patient.is_empty()) {
            (false, _) => Next::Write(keys),
            (true, true) => Next::Idle,
            (true, false) if self.allowance(now) == 0 => {
                Next::Wait(self.full_at - self.pace * (self.burst - 1))
            }
            // Somebody else has to finish first.
            (true, false) => Next::Idle,
        }
    }

    fn allowance(&self, now: Instant) -> u32 {
        let owed =
            self.full_at.saturating_duration_since(now).as_nanos().div_ceil(self.pace.as_nanos().max(1));
        self.burst.saturating_sub(u32::try_from(owed).unwrap_or(u32::MAX))
    }
}

/// The first that still stands in this lane.
fn take(line: &mut VecDeque<Key>, lanes: &mut BTreeMap<Key, Lane>, lane: Lane) -> Option<Key> {
    while let Some(key) = line.pop_front() {
        if lanes.get(&key) == Some(&lane) {
            lanes.remove(&key);
            return Some(key);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use sallyport_api::Kind;
    use sallyport_policy::ObjectId;

    fn key(name: &str) -> Key {
        (Kind::Session, ObjectId::new("ns", name))
    }

    fn names(next: Next) -> Vec<String> {
        let Next::Write(keys) = next else { panic!("{next:?}") };
        keys.into_iter().map(|(_, id)| id.name).collect()
    }

    #[test]
    fn the_urgent_pass_the_patient_whatever_their_allowance() {
        let now = Instant::now();
        let mut queue = Queue::new(2, now);
        for name in ["a", "b", "c"] {
            queue.push(key(name), Lane::Patient);
        }
        assert_eq!(names(queue.next(8, 8, now)), ["a", "b"]);
        queue.push(key("d"), Lane::Urgent);
        assert_eq!(names(queue.next(8, 8, now)), ["d"]);
        assert_eq!(queue.next(8, 8, now), Next::Wait(now + Duration::from_millis(500)));
        assert_eq!(names(queue.next(8, 8, now + Duration::from_millis(500))), ["c"]);
        assert_eq!(queue.next(8, 8, now), Next::Idle);
    }

    #[test]
    fn an_object_stands_in_the_queue_once_and_moves_up() {
        let now = Instant::now();
        let mut queue = Queue::new(100, now);
        queue.push(key("a"), Lane::Patient);
        queue.push(key("b"), Lane::Patient);
        queue.push(key("b"), Lane::Urgent);
        queue.push(key("b"), Lane::Patient);
        assert_eq!((queue.len(Lane::Urgent), queue.len(Lane::Patient)), (1, 1));
        assert_eq!(names(queue.next(8, 8, now)), ["b"]);
        assert_eq!(names(queue.next(8, 8, now)), ["a"]);
        assert_eq!(queue.next(8, 8, now), Next::Idle);
    }

    #[test]
    fn who_was_removed_and_came_back_is_written_once() {
        let now = Instant::now();
        let mut queue = Queue::new(100, now);
        queue.push(key("a"), Lane::Patient);
        queue.remove(&key("a"));
        assert!(!queue.contains(&key("a")));
        queue.push(key("a"), Lane::Patient);
        assert_eq!(names(queue.next(8, 8, now)), ["a"]);
        assert_eq!(queue.next(8, 8, now), Next::Idle);
    }

    #[test]
    fn the_rate_holds_over_time() {
        let begin = Instant::now();
        let mut queue = Queue::new(10, begin);
        for number in 0..100 {
            queue.push(key(&number.to_string()), Lane::Patient);
        }
        let mut written = 0;
        for step in 0..=40 {
            while let Next::Write(keys) = queue.next(8, 8, begin + Duration::from_millis(step * 100)) {
                written += keys.len();
            }
        }
        // Ten at once, and ten in each of four seconds.
        assert_eq!(written, 50);
    }
}

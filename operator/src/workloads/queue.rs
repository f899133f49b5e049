//! Servers that need work: each once, the due ones first, those that failed after a pause.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sallyport_policy::ObjectId;
use tokio::time::Instant;

/// Pause after the first failure; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Servers that need work.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: BTreeMap<ObjectId, Instant>,
    running: BTreeSet<ObjectId>,
    /// Needs another round after the one that runs.
    again: BTreeSet<ObjectId>,
    failures: BTreeMap<ObjectId, u32>,
}

impl Queue {
    /// A server needs work now. That ends a pause: what failed may succeed after a change.
    pub(super) fn add(&mut self, id: ObjectId, now: Instant) {
        if self.running.contains(&id) {
            self.again.insert(id);
        } else {
            self.due.insert(id, now);
        }
    }

    /// The next server to work on, which counts as running from now on.
    pub(super) fn next(&mut self, now: Instant) -> Option<ObjectId> {
        let (id, when) = self.due.iter().min_by_key(|(_, when)| **when)?;
        if *when > now {
            return None;
        }
        let id = id.clone();
        self.due.remove(&id);
        self.running.insert(id.clone());
        Some(id)
    }

    /// Work on a server ended.
    pub(super) fn done(&mut self, id: &ObjectId, is_success: bool, now: Instant) {
        self.running.remove(id);
        if self.again.remove(id) {
            self.due.insert(id.clone(), now);
        }
        if is_success {
            self.failures.remove(id);
            return;
        }
        let failures = self.failures.entry(id.clone()).or_default();
        let pause = FIRST_PAUSE.saturating_mul(1 << (*failures).min(16)).min(LONGEST_PAUSE);
        *failures += 1;
        self.due.entry(id.clone()).or_insert(now + pause);
    }

    /// A server is gone.
    pub(super) fn forget(&mut self, id: &ObjectId) {
        self.due.remove(id);
        self.again.remove(id);
        self.failures.remove(id);
    }

    /// When the next server is due.
    pub(super) fn when(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ObjectId {
        ObjectId::new("n", name)
    }

    #[tokio::test]
    async fn a_server_is_worked_on_once_at_a_time_and_once_more_for_what_came_meanwhile() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(id("a"), now);
        queue.add(id("a"), now);
        assert_eq!(queue.next(now), Some(id("a")));
        assert_eq!(queue.next(now), None);
        queue.add(id("a"), now);
        queue.add(id("a"), now);
        assert_eq!(queue.next(now), None, "it runs");
        queue.done(&id("a"), true, now);
        assert_eq!(queue.next(now), Some(id("a")));
        queue.done(&id("a"), true, now);
        assert_eq!((queue.next(now), queue.when()), (None, None));
    }

    #[tokio::test]
    async fn failures_are_tried_again_after_pauses_that_double_and_a_change_ends_the_pause() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.add(id("a"), now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(queue.next(now), Some(id("a")));
            queue.done(&id("a"), false, now);
            let when = queue.when().expect("it is tried again");
            pauses.push(when - now);
            assert_eq!(queue.next(now), None);
            now = when;
        }
        assert_eq!(pauses.first(), Some(&FIRST_PAUSE));
        assert_eq!(pauses.get(1), Some(&(FIRST_PAUSE * 2)));
        assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
        queue.next(now);
        queue.done(&id("a"), false, now);
        queue.add(id("a"), now);
        assert_eq!(queue.next(now), Some(id("a")));
        queue.done(&id("a"), true, now);
        queue.add(id("a"), now);
        queue.next(now);
        queue.done(&id("a"), false, now);
        assert_eq!(queue.when(), Some(now + FIRST_PAUSE), "success forgets failures");
    }

    #[tokio::test]
    async fn the_longest_due_comes_first_and_the_gone_not_at_all() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.add(id("b"), now);
        queue.add(id("a"), now + Duration::from_millis(1));
        queue.add(id("c"), now);
        queue.forget(&id("c"));
        let later = now + Duration::from_secs(1);
        assert_eq!(
            [queue.next(later), queue.next(later), queue.next(later)],
            [Some(id("b")), Some(id("a")), None]
        );
    }
}

//! What is to be looked at, and when: each item once, at the earliest of its times.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// Items by their time.
#[derive(Clone, Debug)]
pub(crate) struct Agenda<T> {
    times: BTreeMap<T, Instant>,
    line: BTreeSet<(Instant, T)>,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { times: BTreeMap::new(), line: BTreeSet::new() }
    }
}

impl<T: Clone + Ord> Agenda<T> {
    /// To be looked at by then, unless it is sooner.
    pub(crate) fn by(&mut self, item: T, when: Instant) {
        if let Some(known) = self.times.get(&item) {
            if *known <= when {
                return;
            }
            self.line.remove(&(*known, item.clone()));
        }
        self.times.insert(item.clone(), when);
        self.line.insert((when, item));
    }

    /// Takes out the first whose time has come.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        let (_, item) = self.line.pop_first()?;
        self.times.remove(&item);
        Some(item)
    }

    /// The first time.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.line.first().map(|(when, _)| *when)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_time_counts() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut agenda = Agenda::default();
        agenda.by("a", at(5));
        agenda.by("b", at(2));
        agenda.by("a", at(1));
        agenda.by("a", at(9));
        assert_eq!(agenda.next(), Some(at(1)));
        assert_eq!(agenda.pop(now), None);
        assert_eq!(agenda.pop(at(2)), Some("a"));
        assert_eq!(agenda.pop(at(2)), Some("b"));
        assert_eq!(agenda.pop(at(99)), None);
    }
}

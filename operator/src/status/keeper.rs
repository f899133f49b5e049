//! Who is to be looked at, who waits for acknowledgements, whose status is to be written. No I/O; time is given.
//!
//! When a status is rewritten:
//! - A server's always tells how many of the proxies that are connected now enforce its policy.
//! - A grant's or session's tells how many did when it was last enforced everywhere. A proxy that comes later takes in all
//!   of its server's grants and sessions before it is ready, and one that goes takes none along: neither is written of. An
//!   object is looked at again when it changes, or what it names does.
//! - An object whose newest version is under way is written of once it is enforced everywhere, or when that takes longer than
//!   [`GRACE`]; then again when it is done. What waits is asked about when its proxies have said something, and ever
//!   more seldom for the sake of those that other replicas serve.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sallyport_api::Kind;
use sallyport_operator_index::Key;
use sallyport_policy::ObjectId;
use tokio::time::Instant;

use super::agenda::Agenda;
use super::decide::{Decision, Seen};
use super::queue::{Lane, Next, Queue};
use super::reach::Reach;
use super::remembered::Remembered;

/// Acknowledgements may take so long before a status says that they are missing.
const GRACE: Duration = Duration::from_secs(1);
/// A new set of proxies must have been the same for so long before patient statuses tell their number.
const QUIET: Duration = Duration::from_secs(2);
/// New proxies must have had their number told after so long, even if more keep coming.
const PATIENCE: Duration = Duration::from_secs(30);
/// Proxies may take so long to come back to a control plane that has just begun before it tells that they are gone.
const RETURN: Duration = Duration::from_secs(20);
/// Longest time until something that waits is asked about again.
const SELDOM: Duration = Duration::from_secs(30);
/// Longest time until a failed write is tried again.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Objects that are looked at together.
const BATCH: usize = 256;

/// What proxies say in such quick succession is looked at together.
const fn breath(lane: Lane) -> Duration {
    match lane {
        Lane::Urgent => Duration::from_millis(20),
        Lane::Patient => Duration::from_millis(500),
    }
}

/// Something to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    /// An object.
    One(Key),
    /// What waits for a server's proxies.
    Group(ObjectId, Lane),
}

/// Objects that wait for the same proxies.
#[derive(Debug, Default)]
struct Group {
    /// Since when.
    members: BTreeMap<Key, Instant>,
    /// How often they were asked about since the last came.
    asked: u32,
}

/// A status that was written and has not come back yet.
#[derive(Debug)]
struct Sent {
    next: Remembered,
    resource_version: Option<u64>,
}

/// The books.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// To be looked at first, and after them.
    fresh: BTreeSet<Key>,
    backlog: BTreeSet<Key>,
    /// Objects of the first look that nothing happened to since.
    untouched: BTreeSet<Key>,
    agenda: Agenda<Item>,
    groups: BTreeMap<(ObjectId, Lane), Group>,
    /// How many proxies a server has, and since when so many.
    rosters: BTreeMap<ObjectId, (usize, Instant)>,
    queue: Queue,
    sent: BTreeMap<Key, Sent>,
    in_flight: BTreeMap<Key, Lane>,
    failures: BTreeMap<Key, u32>,
    begun: Instant,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    pub(crate) urgent: usize,
    pub(crate) patient: usize,
    /// Objects that some proxy has not acknowledged.
    pub(crate) waiting: usize,
}

impl Keeper {
    /// Empty books, for so many patient writes in a second.
    pub(crate) fn new(writes_per_second: u32, now: Instant) -> Self {
        Self {
            fresh: BTreeSet::new(),
            backlog: BTreeSet::new(),
            untouched: BTreeSet::new(),
            agenda: Agenda::default(),
            groups: BTreeMap::new(),
            rosters: BTreeMap::new(),
            queue: Queue::new(writes_per_second, now),
            sent: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            failures: BTreeMap::new(),
            begun: now,
        }
    }

    /// All there is, to begin with.
    pub(crate) fn begin(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            self.untouched.insert(key.clone());
            self.backlog.insert(key);
        }
    }

    /// Something happened to an object.
    pub(crate) fn changed(&mut self, key: Key) {
        self.untouched.remove(&key);
        self.backlog.remove(&key);
        self.fresh.insert(key);
    }

    /// An object is to be looked at when there is time.
    pub(crate) fn look(&mut self, key: Key) {
        self.backlog.insert(key);
    }

    /// Proxies of a server came, went or answered.
    pub(crate) fn rang(&mut self, server: &ObjectId, now: Instant) {
        for lane in Lane::ALL {
            if self.groups.contains_key(&(server.clone(), lane)) {
                self.agenda.by(Item::Group(server.clone(), lane), now + breath(lane));
            }
        }
        self.agenda.by(Item::One((Kind::Server, server.clone())), now + GRACE / 4);
    }

    /// Takes out some that are to be looked at.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Key> {
        while let Some(item) = self.agenda.pop(now) {
            match item {
                Item::One(key) => {
                    self.fresh.insert(key);
                }
                Item::Group(server, lane) => self.review(server, lane, now),
            }
        }
        let mut due = Vec::new();
        for set in [&mut self.fresh, &mut self.backlog] {
            // Who is being written of is looked at after that.
            let free = set.iter().filter(|key| !self.in_flight.contains_key(*key));
            let free: Vec<Key> = free.take(BATCH - due.len()).cloned().collect();
            for key in free {
                set.remove(&key);
                due.push(key);
            }
        }
        due
    }

    /// When there will be something to look at, as far as is known.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        let is_free = |key: &Key| !self.in_flight.contains_key(key);
        if self.fresh.iter().any(is_free) || self.backlog.iter().any(is_free) {
            return Some(now);
        }
        self.agenda.next()
    }

    /// What was written of an object last.
    pub(crate) fn before(&self, key: &Key, seen: &Seen) -> Option<Remembered> {
        match self.sent.get(key) {
            Some(sent) => Some(sent.next.clone()),
            None => seen.written(),
        }
    }

    /// Forgets what was written of an object if it has come back.
    pub(crate) fn arrived(&mut self, key: &Key, seen: &Seen) {
        let number = |version: &str| version.parse::<u64>().ok();
        let now = seen.metadata().resource_version.as_deref().and_then(number);
        let has_come = |sent: &Sent| match (now, sent.resource_version) {
            (Some(now), Some(sent)) => now >= sent,
            _ => seen.written().is_some_and(|written| written.tells_the_same_as(&sent.next)),
        };
        if self.sent.get(key).is_some_and(has_come) {
            self.sent.remove(key);
        }
    }

    /// How far an object has come, where that need not be asked.
    pub(crate) fn known_reach(&self, key: &Key, seen: &Seen, before: Option<&Remembered>) -> Option<Reach> {
        let is_open = self.is_waiting(key, &seen.server) || self.queue.contains(key);
        let has_error = seen.problems.iter().any(|p| p.severity == sallyport_resolve::Severity::Error);
        if key.0 == Kind::Server || is_open || has_error || !seen.is_governed {
            return None;
        }
        let before = before.filter(|before| before.was_enforced(seen.metadata().generation))?;
        before.enforced.map(|(_, of)| Reach::complete(of))
    }

    /// Whether nothing happened to an object since the beginning.
    pub(crate) fn is_untouched(&self, key: &Key) -> bool {
        self.untouched.contains(key)
    }

    /// Takes in what was decided of an object; `connected`: proxies of its server.
    pub(crate) fn judge(
        &mut self,
        key: &Key,
        seen: &Seen,
        decision: &Decision,
        connected: usize,
        now: Instant,
    ) {
        if key.0 == Kind::Server {
            self.count(&seen.server, connected, now);
        }
        let roster = self.rosters.get(&seen.server).filter(|_| connected > 0);
        let is_restless = roster.is_some_and(|(_, since)| now.saturating_duration_since(*since) < QUIET);
        let must_pause = decision.is_news && decision.lane == Lane::Patient && is_restless;
        let is_done = decision.is_settled && !must_pause;
        let waited = self.wait(key, &seen.server, decision.lane, is_done, now);
        let may_return = decision.loses_proxies && now < self.begun + RETURN;
        if may_return {
            self.agenda.by(Item::One(key.clone()), self.begun + RETURN);
        }
        let is_ripe = match (decision.is_settled, must_pause) {
            _ if may_return => false,
            (true, false) => true,
            (true, true) => waited >= PATIENCE,
            (false, _) => waited >= GRACE,
        };
        if !decision.is_news {
            self.queue.remove(key);
            if decision.is_settled {
                self.untouched.remove(key);
            }
        } else if is_ripe {
            self.queue.push(key.clone(), decision.lane);
        }
    }

    /// An object that is gone.
    pub(crate) fn gone(&mut self, key: &Key) {
        self.queue.remove(key);
        self.sent.remove(key);
        self.failures.remove(key);
        self.untouched.remove(key);
        if key.0 == Kind::Server {
            self.rosters.remove(&key.1);
        }
    }

    /// Takes out objects whose status may be written now, at most so many at once in each lane.
    pub(crate) fn next_writes(&mut self, urgent: usize, patient: usize, now: Instant) -> Next {
        let busy = |lane| self.in_flight.values().filter(|known| **known == lane).count();
        let urgent = urgent.saturating_sub(busy(Lane::Urgent));
        let patient = patient.saturating_sub(busy(Lane::Patient));
        self.queue.next(urgent, patient, now)
    }

    /// A write begins.
    pub(crate) fn began(&mut self, key: Key, lane: Lane) {
        self.untouched.remove(&key);
        self.queue.remove(&key);
        self.in_flight.insert(key, lane);
    }

    /// A write is done; the API server's version of the object is what it answered.
    pub(crate) fn wrote(&mut self, key: Key, next: Remembered, resource_version: Option<&str>) {
        self.in_flight.remove(&key);
        self.failures.remove(&key);
        let resource_version = resource_version.and_then(|version| version.parse().ok());
        self.sent.insert(key, Sent { next, resource_version });
    }

    /// A write was refused because the object is another one now, or gone: the watch will tell.
    pub(crate) fn dropped(&mut self, key: &Key) {
        self.in_flight.remove(key);
        self.failures.remove(key);
    }

    /// A write failed.
    pub(crate) fn failed(&mut self, key: &Key, now: Instant) {
        self.in_flight.remove(key);
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let delay = (GRACE * 2_u32.saturating_pow((*failures - 1).min(10))).min(LAST_RETRY);
        self.agenda.by(Item::One(key.clone()), now + delay);
    }

    /// Numbers for metrics.
    pub(crate) fn depth(&self) -> Depth {
        Depth {
            urgent: self.queue.len(Lane::Urgent),
            patient: self.queue.len(Lane::Patient) + self.backlog.len(),
            waiting: self.groups.values().map(|group| group.members.len()).sum(),
        }
    }

    fn is_waiting(&self, key: &Key, server: &ObjectId) -> bool {
        let in_group = |lane| {
            let group = self.groups.get(&(server.clone(), lane));
            group.is_some_and(|group| group.members.contains_key(key))
        };
        Lane::ALL.into_iter().any(in_group)
    }

    /// Puts an object among those that wait, or takes it out. Answers how long it has waited.
    fn wait(&mut self, key: &Key, server: &ObjectId, lane: Lane, is_done: bool, now: Instant) -> Duration {
        let (mut since, mut was_here) = (None, false);
        for other in Lane::ALL {
            let place = (server.clone(), other);
            if let Some(group) = self.groups.get_mut(&place) {
                let found = group.members.remove(key);
                was_here |= found.is_some() && other == lane;
                since = found.or(since);
                if group.members.is_empty() {
                    self.groups.remove(&place);
                }
            }
        }
        let waited = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if !is_done {
            let group = self.groups.entry((server.clone(), lane)).or_default();
            group.members.insert(key.clone(), since.unwrap_or(now));
            // Also for one that waited in the other lane: nobody else may ever look at this group.
            if !was_here {
                group.asked = 0;
                self.agenda.by(Item::Group(server.clone(), lane), now + breath(lane));
            }
        }
        waited
    }

    /// Those who wait are to be looked at; and again later, as long as somebody may answer.
    fn review(&mut self, server: ObjectId, lane: Lane, now: Instant) {
        let has_proxies = self.rosters.get(&server).is_none_or(|(of, _)| *of > 0);
        let Some(group) = self.groups.get_mut(&(server.clone(), lane)) else { return };
        let into = match lane {
            Lane::Urgent => &mut self.fresh,
            Lane::Patient => &mut self.backlog,
        };
        into.extend(group.members.keys().cloned());
        group.asked = group.asked.saturating_add(1);
        let delay = (breath(lane) * 2_u32.saturating_pow(group.asked.min(12))).min(SELDOM);
        // Where no proxy is, that is to be told, and then nothing comes until one is there.
        if has_proxies || delay <= GRACE * 4 {
            self.agenda.by(Item::Group(server, lane), now + delay);
        }
    }

    /// So many proxies of a server are there.
    fn count(&mut self, server: &ObjectId, of: usize, now: Instant) {
        let known = self.rosters.get(server).map(|(of, _)| *of);
        if known == Some(of) {
            return;
        }
        // Who finds proxies at the first look finds them settled.
        let since = if known.is_none() { now.checked_sub(QUIET).unwrap_or(now) } else { now };
        self.rosters.insert(server.clone(), (of, since));
        if known != Some(0) {
            return;
        }
        for lane in Lane::ALL {
            if let Some(group) = self.groups.get_mut(&(server.clone(), lane)) {
                // Only now is there anybody to wait for.
                group.members.values_mut().for_each(|since| *since = now);
                group.asked = 0;
                self.agenda.by(Item::Group(server.clone(), lane), now + QUIET);
            }
        }
    }
}

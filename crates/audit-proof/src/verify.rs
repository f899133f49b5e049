//! Holds events against their chains and against the checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use sallyport_audit_proto::chain::{genesis, hash};

use crate::book::{Book, Point};
use crate::checkpoint::{ChainId, End, Malformed, SealedHead};
use crate::event::links;
use crate::key::PublicKey;
use crate::lines::{Covers, Part};
use crate::report::{Gap, Place, Report, Truncation};

/// An event so much older than the last checkpoint would be known to it: longer than clocks jump, in nanoseconds.
const LATE: u64 = 2 * 3600 * 1_000_000_000;

/// An event as a store or an export has it.
#[derive(Clone, Copy, Debug)]
pub struct Event<'e> {
    /// Its chain.
    pub chain: &'e ChainId,
    /// Its sequence, as it is said.
    pub seq: u64,
    /// Its hash, as it is said.
    pub hash: &'e [u8; 32],
    /// Its bytes.
    pub bytes: &'e [u8],
    /// What is said of it elsewhere and is not what the bytes say.
    pub differs: Option<&'e str>,
}

/// Takes all checkpoints, then events in the order of chains and sequences.
#[derive(Debug)]
pub struct Verifier {
    book: Book,
    report: Report,
    parts: Option<BTreeMap<ChainId, Part>>,
    visited: BTreeSet<ChainId>,
    current: Option<Walk>,
}

/// A chain that is being walked.
#[derive(Debug)]
struct Walk {
    chain: ChainId,
    head: Option<SealedHead>,
    /// The event before: sequence and hash; none: not known, the next one is taken as it is.
    previous: Option<(u64, [u8; 32])>,
    points: std::vec::IntoIter<Point>,
    next_point: Option<Point>,
    /// Where events are counted from: a sequence, and how many had arrived up to there; none: not known.
    base: Option<(u64, u64)>,
    /// Events after `base`.
    present: u64,
    /// Gaps after `base`.
    open: Vec<Gap>,
    /// Events that arrived by this time may have been removed for age, in nanoseconds since 1970.
    expired: u64,
    /// Whether the walk ends where the chain ends.
    to_its_end: bool,
    /// First event after the last point: sequence, and the oldest time of such.
    not_sealed: Option<(u64, u64)>,
}

impl Verifier {
    /// Checks signatures with `keys`, and events as far as `covers` says.
    pub fn new(keys: Vec<PublicKey>, covers: Covers) -> Self {
        let parts = covers.by_chain();
        let report = Report { covers, ..Report::default() };
        Self { book: Book::new(keys), report, parts, visited: BTreeSet::new(), current: None }
    }

    /// Demands that this checkpoint, which was kept elsewhere, is among the others. To be called before the first.
    ///
    /// # Errors
    /// It is none of the keys'.
    pub fn expect(&mut self, signed: &[u8]) -> Result<(), Malformed> {
        self.book.expect(signed)
    }

    /// Takes the next checkpoint.
    pub fn checkpoint(&mut self, signed: &[u8]) {
        self.book.add(signed, &mut self.report);
    }

    /// Takes the next event.
    pub fn event(&mut self, event: Event<'_>) {
        if self.current.as_ref().is_none_or(|walk| walk.chain != *event.chain) {
            self.leave();
            if self.visited.last().is_some_and(|last| last >= event.chain) {
                self.report.altered(event.chain, event.seq, "its chain stands out of order");
            }
            self.enter(event.chain);
        }
        let Self { current: Some(walk), report, .. } = self else { return };
        report.events += 1;
        walk.take(event, report);
    }

    /// Something is wrong with the export that is read.
    pub fn export_fault(&mut self, what: impl Into<String>) {
        self.report.export_faults.push(what.into());
    }

    /// What was found.
    pub fn finish(mut self) -> Report {
        self.leave();
        self.book.close(&mut self.report);
        let missed: Vec<_> = self
            .book
            .chains()
            .filter(|(chain, _)| !self.visited.contains(*chain))
            .filter(|(chain, _)| self.parts.as_ref().is_none_or(|parts| parts.contains_key(*chain)))
            .map(|(_, head)| head.clone())
            .collect();
        for head in missed {
            self.report.removed = self.report.removed.saturating_add(head.removed);
            tell_end(&head, &mut self.report);
            let missing = head.count.saturating_sub(head.removed);
            let last = self.book.points(&head.chain).last();
            if last.is_some_and(|point| point.nanos < self.book.expired()) {
                self.report.removed = self.report.removed.saturating_add(missing);
            } else if head.floor < head.seq && missing > 0 {
                let checkpoint = last.map_or(0, |point| point.checkpoint);
                let (from, to) = (head.floor + 1, head.seq);
                let place = if head.floor == 0 { Place::Whole } else { Place::Tail };
                let chain = head.chain;
                self.report.truncations.push(Truncation { chain, place, from, to, missing, checkpoint });
            }
        }
        self.report
    }

    fn enter(&mut self, chain: &ChainId) {
        self.report.chains += 1;
        self.visited.insert(chain.clone());
        let (first, last) = match &self.parts {
            None => (1, u64::MAX),
            Some(parts) => parts.get(chain).copied().unwrap_or((1, u64::MAX)),
        };
        let head = self.book.head(chain).cloned();
        let to_its_end = head.as_ref().is_none_or(|head| last >= head.seq);
        let floor = head.as_ref().map_or(0, |head| head.floor);
        let points = self.book.points(chain).iter().copied();
        let points: Vec<_> =
            points.filter(|point| point.seq >= first && point.seq > floor && point.seq <= last).collect();
        let mut points = points.into_iter();
        let from_its_start = first <= 1;
        self.current = Some(Walk {
            previous: from_its_start.then(|| (0, genesis(&chain.proxy, chain.worker, chain.epoch))),
            base: from_its_start.then_some((0, 0)),
            next_point: points.next(),
            chain: chain.clone(),
            head,
            points,
            present: 0,
            open: Vec::new(),
            expired: self.book.expired(),
            to_its_end,
            not_sealed: None,
        });
    }

    fn leave(&mut self) {
        if let Some(walk) = self.current.take() {
            walk.end(&mut self.report, self.book.nanos);
        }
    }
}

impl Walk {
    fn take(&mut self, event: Event<'_>, report: &mut Report) {
        let Some(said) = links(event.bytes) else {
            report.altered(&self.chain, event.seq, "its bytes are no event");
            return;
        };
        let hash = hash(event.bytes);
        if said.seq != event.seq {
            let what = format!("stands at another place than its own, which is {}", said.seq);
            report.altered(&self.chain, event.seq, what);
        }
        if hash != *event.hash {
            report.altered(&self.chain, event.seq, "its hash is not that of its bytes");
        }
        if let Some(what) = event.differs {
            report.altered(&self.chain, event.seq, format!("its {what} says something else than its bytes"));
        }
        self.follow(event.seq, said.prev_hash, said.dropped_before, said.nanos, report);
        while let Some(point) = self.next_point.filter(|point| point.seq < event.seq) {
            self.settle(point, report);
        }
        if self.base.is_some_and(|(base, _)| event.seq > base) {
            self.present += 1;
        }
        match self.next_point {
            Some(point) if point.seq == event.seq => {
                if point.hash != hash {
                    let what =
                        format!("is another event than the one that checkpoint {} sealed", point.checkpoint);
                    report.altered(&self.chain, event.seq, what);
                }
                self.settle(point, report);
            }
            Some(_) => {}
            None if self.head.as_ref().is_some_and(|head| event.seq <= head.seq) => {}
            None => {
                report.not_sealed += 1;
                let (_, oldest) = self.not_sealed.get_or_insert((event.seq, said.nanos));
                *oldest = (*oldest).min(said.nanos);
            }
        }
        self.previous = Some((event.seq, hash));
    }

    /// Holds an event against the one before it.
    fn follow(&mut self, seq: u64, prev_hash: &[u8], dropped: u64, nanos: u64, report: &mut Report) {
        let Some((before, hash)) = self.previous else {
            return;
        };
        let floor = self.head.as_ref().map_or(0, |head| head.floor);
        if before == 0 && floor > 0 && seq > 1 {
            return self.begin_above(floor, seq, nanos, report);
        }
        if seq <= before {
            report.altered(&self.chain, seq, format!("stands after the event {before}"));
        } else if seq == before + 1 {
            if prev_hash != hash {
                let what = format!(
                    "does not follow from the event {before}: one of the two was altered, or is forged"
                );
                report.altered(&self.chain, seq, what);
            }
        } else {
            let missing = seq - before - 1;
            let is_announced = prev_hash == hash && dropped > 0;
            self.open.push(Gap {
                chain: self.chain.clone(),
                from: before + 1,
                to: seq - 1,
                missing,
                reason: if is_announced { "ring_full" } else { "unknown" },
                before_nanos: Some(nanos),
            });
        }
    }

    /// The first event of a chain of which the events up to `floor` were removed for age or room.
    fn begin_above(&mut self, floor: u64, seq: u64, nanos: u64, report: &mut Report) {
        let removed = self.head.as_ref().map_or(0, |head| head.removed);
        report.removed = report.removed.saturating_add(removed);
        self.base = Some((floor, removed));
        if seq > floor + 1 {
            let (from, to) = (floor + 1, seq - 1);
            let (chain, missing) = (self.chain.clone(), to - from + 1);
            let before_nanos = Some(nanos);
            self.open.push(Gap { chain, from, to, missing, reason: "unknown", before_nanos });
        }
    }

    /// Counts what is there up to a point against what arrived.
    fn settle(&mut self, point: Point, report: &mut Report) {
        let open = std::mem::take(&mut self.open);
        if let Some((base, count)) = self.base {
            let arrived = point.count.saturating_sub(count);
            let removed = arrived.saturating_sub(self.present);
            if self.present > arrived {
                let forged = self.present - arrived;
                let what = format!(
                    "{forged} more events stand after the event {base} than arrived until checkpoint {}",
                    point.checkpoint
                );
                report.altered(&self.chain, point.seq, what);
            }
            if removed > 0 && point.nanos < self.expired {
                report.removed = report.removed.saturating_add(removed);
            } else if removed > 0 {
                self.tell_removed(&open, removed, (base, point), report);
            }
            for gap in open {
                let is_told = removed > 0 && gap.reason != "ring_full";
                let reason = if gap.reason == "ring_full" { "ring_full" } else { "never_arrived" };
                if !is_told {
                    report.gap(Gap { reason, ..gap });
                }
            }
        } else {
            open.into_iter().for_each(|gap| report.gap(gap));
        }
        self.base = Some((point.seq, point.count));
        self.present = 0;
        self.next_point = self.points.next();
    }

    fn tell_removed(&self, open: &[Gap], missing: u64, (base, point): (u64, Point), report: &mut Report) {
        let holes = || open.iter().filter(|gap| gap.reason != "ring_full");
        let from = holes().map(|gap| gap.from).min().unwrap_or(base + 1);
        let to = holes().map(|gap| gap.to).max().unwrap_or(point.seq);
        let place = if from == 1 { Place::Start } else { Place::Middle };
        let chain = self.chain.clone();
        report.truncations.push(Truncation { chain, place, from, to, missing, checkpoint: point.checkpoint });
    }

    fn end(mut self, report: &mut Report, sealed_at: u64) {
        let rest: Vec<_> = self.next_point.take().into_iter().chain(self.points.by_ref()).collect();
        if let Some(point) = rest.last().filter(|point| point.nanos >= self.expired) {
            let last = self.previous.map_or(0, |(seq, _)| seq);
            let missing = self.base.map_or(point.seq.saturating_sub(last), |(_, count)| {
                point.count.saturating_sub(count).saturating_sub(self.present)
            });
            let (chain, place, checkpoint) = (self.chain.clone(), Place::Tail, point.checkpoint);
            let (from, to) = (last + 1, point.seq);
            report.truncations.push(Truncation { chain, place, from, to, missing, checkpoint });
        }
        std::mem::take(&mut self.open).into_iter().for_each(|gap| report.gap(gap));
        if let Some((seq, oldest)) = self.not_sealed
            && self.to_its_end
            && oldest.saturating_add(LATE) < sealed_at
        {
            let what = "is older than the last checkpoint, which does not know it: forged, or hours late";
            report.altered(&self.chain, seq, what);
        }
        if let Some(head) = self.head.filter(|_| self.to_its_end) {
            tell_end(&head, report);
        }
    }
}

/// What is known to be lost at a chain's end.
fn tell_end(head: &SealedHead, report: &mut Report) {
    if head.end == End::CutOff {
        let missing = head.announced.saturating_sub(head.seq);
        let (from, to) = (head.seq + 1, head.announced.max(head.seq));
        let (chain, reason) = (head.chain.clone(), "proxy_ended");
        report.gap(Gap { chain, from, to, missing, reason, before_nanos: None });
    }
}

#[cfg(test)]
mod tests;

//! Walks along a chain's events, and holds them against each other and against where checkpoints say that it stood.

use sallyport_audit_proto::chain::{genesis, hash};

use super::Event;
use super::doubt::Doubt;
use crate::book::{Book, Point};
use crate::checkpoint::{ChainId, End, SealedHead};
use crate::event::links;
use crate::lines::Part;
use crate::report::{Gap, Place, Report};

/// An event so much older than the last checkpoint would be known to it: longer than clocks jump, in nanoseconds.
const LATE: u64 = 2 * 3600 * 1_000_000_000;

/// A chain that is being walked.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) chain: ChainId,
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

impl Walk {
    /// At the beginning of what is covered of a chain: its first and last sequence.
    pub(super) fn new(chain: &ChainId, (first, last): Part, book: &Book) -> Self {
        let head = book.head(chain).cloned();
        let to_its_end = head.as_ref().is_none_or(|head| last >= head.seq);
        let floor = head.as_ref().map_or(0, |head| head.floor);
        let points = book.points(chain).iter().copied();
        let points: Vec<_> =
            points.filter(|point| point.seq >= first && point.seq > floor && point.seq <= last).collect();
        let mut points = points.into_iter();
        let from_its_start = first <= 1;
        Self {
            previous: from_its_start.then(|| (0, genesis(&chain.proxy, chain.worker, chain.epoch))),
            base: from_its_start.then_some((0, 0)),
            next_point: points.next(),
            chain: chain.clone(),
            head,
            points,
            present: 0,
            open: Vec::new(),
            expired: book.expired(),
            to_its_end,
            not_sealed: None,
        }
    }

    pub(super) fn take(&mut self, event: Event<'_>, report: &mut Report, doubts: &mut Vec<Doubt>) {
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
            self.settle(point, report, doubts);
        }
        if self.previous.is_none()
            && let Some((base, _)) = self.base.filter(|(base, _)| *base + 1 < event.seq)
        {
            // A part whose first events are gone.
            self.open.push(self.hole(base + 1, event.seq - 1, "unknown", said.nanos));
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
                self.settle(point, report, doubts);
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
            let reason = if prev_hash == hash && dropped > 0 { "ring_full" } else { "unknown" };
            self.open.push(self.hole(before + 1, seq - 1, reason, nanos));
        }
    }

    fn hole(&self, from: u64, to: u64, reason: &'static str, before_nanos: u64) -> Gap {
        let (chain, missing) = (self.chain.clone(), to - from + 1);
        Gap { chain, from, to, missing, reason, before_nanos: Some(before_nanos) }
    }

    /// The first event of a chain of which the events up to `floor` were removed for age or room.
    fn begin_above(&mut self, floor: u64, seq: u64, nanos: u64, report: &mut Report) {
        let removed = self.head.as_ref().map_or(0, |head| head.removed);
        report.removed(removed, nanos);
        self.base = Some((floor, removed));
        if seq > floor + 1 {
            self.open.push(self.hole(floor + 1, seq - 1, "unknown", nanos));
        }
    }

    /// Counts what is there up to a point against what arrived.
    fn settle(&mut self, point: Point, report: &mut Report, doubts: &mut Vec<Doubt>) {
        let open = self.holes_until(point.seq);
        if let Some((base, count)) = self.base {
            let arrived = point.count.saturating_sub(count);
            let missing = arrived.saturating_sub(self.present);
            if self.present > arrived {
                let forged = self.present - arrived;
                let what = format!(
                    "{forged} more events stand after the event {base} than arrived until checkpoint {}",
                    point.checkpoint
                );
                report.altered(&self.chain, point.seq, what);
            }
            let (told, counted): (Vec<_>, Vec<_>) =
                open.into_iter().partition(|gap| missing == 0 || gap.reason == "ring_full");
            for gap in told {
                let reason = if gap.reason == "ring_full" { "ring_full" } else { "never_arrived" };
                report.gap(Gap { reason, ..gap });
            }
            if missing > 0 && point.nanos < self.expired {
                report.removed(missing, point.nanos);
            } else if missing > 0 {
                let mut holes: Vec<_> = counted.iter().map(|gap| (gap.from, gap.to)).collect();
                if holes.is_empty() {
                    holes.push((base + 1, point.seq));
                }
                let is_start = holes.first().is_some_and(|(from, _)| *from == 1);
                let place = if is_start { Place::Start } else { Place::Middle };
                let sealed = (point.checkpoint, point.nanos);
                doubts.push(Doubt::counted(self.chain.clone(), place, holes, missing, sealed));
            }
        } else {
            open.into_iter().for_each(|gap| Doubt::of_gap(gap, report, doubts));
        }
        self.base = Some((point.seq, point.count));
        self.present = 0;
        self.next_point = self.points.next();
    }

    /// Takes out the holes up to a sequence; one that reaches beyond is parted there.
    fn holes_until(&mut self, last: u64) -> Vec<Gap> {
        let mut until = Vec::new();
        for gap in std::mem::take(&mut self.open) {
            if gap.from <= last {
                let to = gap.to.min(last);
                until.push(Gap { to, missing: to - gap.from + 1, ..gap.clone() });
            }
            if gap.to > last {
                let from = gap.from.max(last + 1);
                self.open.push(Gap { from, missing: gap.to - from + 1, ..gap });
            }
        }
        until
    }

    /// At the end of the events that are covered; `sealed_at`: time of the last checkpoint.
    pub(super) fn end(mut self, report: &mut Report, doubts: &mut Vec<Doubt>, sealed_at: u64) {
        let rest: Vec<_> = self.next_point.take().into_iter().chain(self.points.by_ref()).collect();
        if let Some(point) = rest.last().filter(|point| point.nanos >= self.expired) {
            let last = self.previous.map_or(0, |(seq, _)| seq);
            // The point's own event at least, also where forged ones make up the number.
            let missing = self.base.map_or(point.seq.saturating_sub(last), |(_, count)| {
                point.count.saturating_sub(count).saturating_sub(self.present).max(1)
            });
            let (holes, sealed) = (vec![(last + 1, point.seq)], (point.checkpoint, point.nanos));
            doubts.push(Doubt::counted(self.chain.clone(), Place::Tail, holes, missing, sealed));
        }
        std::mem::take(&mut self.open).into_iter().for_each(|gap| Doubt::of_gap(gap, report, doubts));
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
pub(super) fn tell_end(head: &SealedHead, report: &mut Report) {
    if head.end == End::CutOff {
        let missing = head.announced.saturating_sub(head.seq);
        let (from, to) = (head.seq + 1, head.announced.max(head.seq));
        let (chain, reason) = (head.chain.clone(), "proxy_ended");
        report.gap(Gap { chain, from, to, missing, reason, before_nanos: None });
    }
}

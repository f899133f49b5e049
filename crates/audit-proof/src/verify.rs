//! Holds events against their chains and against the checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use crate::book::Book;
use crate::checkpoint::{ChainId, Malformed};
use crate::key::PublicKey;
use crate::lines::{Covers, Part};
use crate::report::{Place, Report};
use doubt::Doubt;
use walk::{Walk, tell_end};

mod doubt;
mod walk;

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

/// Takes all checkpoints, then events in the order of chains and sequences, and then what was sealed while those were read:
/// it tells what retention removed meanwhile.
#[derive(Debug)]
pub struct Verifier {
    book: Book,
    report: Report,
    /// What is missing, unless retention took it.
    doubts: Vec<Doubt>,
    /// Whether the last event was taken.
    is_walked: bool,
    parts: Option<BTreeMap<ChainId, Part>>,
    visited: BTreeSet<ChainId>,
    current: Option<Walk>,
}

impl Verifier {
    /// Checks signatures with `keys`, and events as far as `covers` says.
    pub fn new(keys: Vec<PublicKey>, covers: Covers) -> Self {
        Self::with(Book::new(keys), covers)
    }

    /// Believes every checkpoint: for whoever writes an export and only needs to know whether something is in doubt.
    pub fn trusting(covers: Covers) -> Self {
        Self::with(Book::default(), covers)
    }

    fn with(book: Book, covers: Covers) -> Self {
        let parts = covers.by_chain();
        let report = Report { covers, ..Report::default() };
        let (doubts, visited) = (Vec::new(), BTreeSet::new());
        Self { book, report, doubts, is_walked: false, parts, visited, current: None }
    }

    /// Demands that this checkpoint, which was kept elsewhere, is among the others. To be called before the first.
    ///
    /// # Errors
    /// It is none of the keys'.
    pub fn expect(&mut self, signed: &[u8]) -> Result<(), Malformed> {
        self.book.expect(signed)
    }

    /// Takes the next checkpoint. One that comes after events was sealed while they were read: it only tells what retention
    /// removed until then.
    pub fn checkpoint(&mut self, signed: &[u8]) {
        if self.visited.is_empty() && !self.is_walked {
            self.book.add(signed, &mut self.report);
        } else {
            self.book.add_later(signed, &mut self.report);
        }
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
        let Self { current: Some(walk), report, doubts, .. } = self else { return };
        report.events += 1;
        walk.take(event, report, doubts);
    }

    /// Something is wrong with the export that is read.
    pub fn export_fault(&mut self, what: impl Into<String>) {
        self.report.export_faults.push(what.into());
    }

    /// After the last event: whether something is missing that no checkpoint explains so far. A later one may.
    pub fn is_in_doubt(&mut self) -> bool {
        self.end_walks();
        self.doubts.iter().any(|doubt| !doubt.is_explained(self.book.removed_later(doubt.chain())))
    }

    /// What was found.
    pub fn finish(mut self) -> Report {
        self.end_walks();
        for doubt in std::mem::take(&mut self.doubts) {
            let removed = self.book.removed_later(doubt.chain());
            doubt.settle(removed, &mut self.report);
        }
        self.book.close(&mut self.report);
        self.report
    }

    /// After the last event: what is missing of the chains that had none.
    fn end_walks(&mut self) {
        self.leave();
        if std::mem::replace(&mut self.is_walked, true) {
            return;
        }
        let missed: Vec<_> = self
            .book
            .chains()
            .filter(|(chain, _)| !self.visited.contains(*chain))
            .filter(|(chain, _)| self.parts.as_ref().is_none_or(|parts| parts.contains_key(*chain)))
            .map(|(_, head)| head.clone())
            .collect();
        for head in missed {
            let last = self.book.points(&head.chain).last();
            let (checkpoint, nanos) = last.map_or((0, 0), |point| (point.checkpoint, point.nanos));
            self.report.removed(head.removed, nanos);
            tell_end(&head, &mut self.report);
            let (first, end) = self.covered(&head.chain);
            let (from, to) = (first.max(head.floor + 1), end.min(head.seq));
            let missing = head.count.saturating_sub(head.removed).min((to + 1).saturating_sub(from));
            if missing == 0 {
                continue;
            }
            if last.is_some() && nanos < self.book.expired() {
                self.report.removed(missing, nanos);
            } else {
                let place = if head.floor == 0 { Place::Whole } else { Place::Tail };
                let sealed = (checkpoint, nanos);
                self.doubts.push(Doubt::counted(head.chain, place, vec![(from, to)], missing, sealed));
            }
        }
    }

    /// First and last sequence of a chain that are covered.
    fn covered(&self, chain: &ChainId) -> Part {
        let part = self.parts.as_ref().and_then(|parts| parts.get(chain));
        part.copied().unwrap_or((1, u64::MAX))
    }

    fn enter(&mut self, chain: &ChainId) {
        self.report.chains += 1;
        self.visited.insert(chain.clone());
        let covered = self.covered(chain);
        self.current = Some(Walk::new(chain, covered, &self.book));
    }

    fn leave(&mut self) {
        if let Some(walk) = self.current.take() {
            walk.end(&mut self.report, &mut self.doubts, self.book.nanos);
        }
    }
}

#[cfg(test)]
mod tests;

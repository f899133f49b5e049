//! Checkpoints one after the other: what they say of each chain, and what is wrong with them.

use std::collections::BTreeMap;

use crate::checkpoint::{ChainId, Checkpoint, Malformed, SealedHead};
use crate::key::PublicKey;
use crate::merkle;
use crate::report::{Report, Sealing};

/// Events are removed by their own time, which is a little before that of the checkpoint that sealed them, in nanoseconds.
const SLACK: u64 = 600 * 1_000_000_000;

/// Where a chain stood in a checkpoint that saw it move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) seq: u64,
    pub(crate) hash: [u8; 32],
    pub(crate) count: u64,
    pub(crate) checkpoint: u64,
    pub(crate) nanos: u64,
}

/// A checkpoint that must be among them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Witness {
    sequence: u64,
    hash: [u8; 32],
    seen: bool,
}

/// What the checkpoints so far say.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// None: every signature is believed.
    keys: Option<Vec<PublicKey>>,
    witnesses: Vec<Witness>,
    /// The last one's number, and its hash if it was sound.
    previous: Option<(u64, Option<[u8; 32]>)>,
    /// Number of the first that was given.
    first_given: Option<u64>,
    /// The oldest that the last one says is kept.
    first_kept: u64,
    /// Time of the last.
    pub(crate) nanos: u64,
    /// How long events are kept, by the last, in nanoseconds.
    retention: u64,
    /// Whether `heads` are all: not from a fault on until the next full one.
    is_complete: bool,
    /// Heads with their leaves.
    heads: BTreeMap<ChainId, (SealedHead, [u8; 32])>,
    retired: BTreeMap<ChainId, SealedHead>,
    points: BTreeMap<ChainId, Vec<Point>>,
    /// Up to where chains lost events to retention, as those say that were sealed after the events were read.
    later: BTreeMap<ChainId, u64>,
    /// Events that arrived by this time may have been removed for age, as the last of those says, in nanoseconds since 1970.
    expired_later: u64,
}

impl Book {
    pub(crate) fn new(keys: Vec<PublicKey>) -> Self {
        Self { keys: Some(keys), ..Self::default() }
    }

    pub(crate) fn expect(&mut self, signed: &[u8]) -> Result<(), Malformed> {
        let (checkpoint, hash) = self.read(signed)?;
        self.witnesses.push(Witness { sequence: checkpoint.sequence, hash, seen: false });
        Ok(())
    }

    /// Takes the next.
    pub(crate) fn add(&mut self, signed: &[u8], report: &mut Report) {
        let Some((checkpoint, hash)) = self.next(signed, report) else { return };
        (self.first_kept, self.nanos, self.retention) =
            (checkpoint.first, checkpoint.nanos, checkpoint.retention);
        report.last_checkpoint = Some(Sealing::new(checkpoint.sequence, checkpoint.nanos, &hash));
        self.apply(checkpoint, report);
    }

    /// Takes the next, which was sealed while events were read: they are not held against it, but it tells what retention
    /// removed meanwhile.
    pub(crate) fn add_later(&mut self, signed: &[u8], report: &mut Report) {
        let Some((checkpoint, _)) = self.next(signed, report) else { return };
        self.expired_later = expired(checkpoint.nanos, checkpoint.retention);
        for head in checkpoint.heads.into_iter().chain(checkpoint.retired) {
            let floor = self.later.entry(head.chain).or_default();
            *floor = (*floor).max(head.floor);
        }
    }

    /// What retention may have removed of a chain while events were read: up to this sequence, and what arrived by this time.
    pub(crate) fn removed_later(&self, chain: &ChainId) -> (u64, u64) {
        (self.later.get(chain).copied().unwrap_or(0), self.expired_later)
    }

    fn read(&self, signed: &[u8]) -> Result<(Checkpoint, [u8; 32]), Malformed> {
        match &self.keys {
            Some(keys) => Checkpoint::verify(signed, keys),
            None => Checkpoint::decode(signed),
        }
    }

    /// Reads the next, and checks its place; none: it is not sound.
    fn next(&mut self, signed: &[u8], report: &mut Report) -> Option<(Checkpoint, [u8; 32])> {
        report.checkpoints += 1;
        let expected = self.previous.map_or(1, |(sequence, _)| sequence + 1);
        let (checkpoint, hash) = match self.read(signed) {
            Ok(sound) => sound,
            Err(malformed) => {
                let said = Checkpoint::decode(signed).map_or(expected, |(checkpoint, _)| checkpoint.sequence);
                report.fault(said, malformed.to_string());
                self.first_given.get_or_insert(said);
                self.previous = Some((expected, None));
                self.is_complete = false;
                return None;
            }
        };
        let sequence = checkpoint.sequence;
        self.check_order(&checkpoint, report);
        for witness in self.witnesses.iter_mut().filter(|witness| witness.sequence == sequence) {
            witness.seen = true;
            if witness.hash != hash {
                report.fault(sequence, "is another one than the one that was kept elsewhere");
            }
        }
        self.previous = Some((sequence, Some(hash)));
        Some((checkpoint, hash))
    }

    fn check_order(&mut self, checkpoint: &Checkpoint, report: &mut Report) {
        let sequence = checkpoint.sequence;
        match self.previous {
            None => {
                self.first_given = Some(sequence);
                if !checkpoint.full {
                    report.fault(
                        sequence,
                        "is the first and does not hold all heads: those before it are missing",
                    );
                }
            }
            Some((before, hash)) if sequence == before + 1 => {
                if hash.is_some() && checkpoint.previous != hash {
                    report.fault(sequence, "does not name the one before it: one of the two was exchanged");
                    self.is_complete = false;
                }
            }
            Some((before, _)) if sequence > before => {
                report.fault(
                    sequence,
                    format!("checkpoints {} to {} are missing before it", before + 1, sequence - 1),
                );
                self.is_complete = false;
            }
            Some((before, _)) => {
                report.fault(sequence, format!("stands after checkpoint {before}"));
                self.is_complete = false;
            }
        }
    }

    /// Moves the heads on.
    fn apply(&mut self, checkpoint: Checkpoint, report: &mut Report) {
        let (sequence, nanos) = (checkpoint.sequence, checkpoint.nanos);
        for head in checkpoint.retired {
            if head.floor < head.seq {
                report.fault(
                    sequence,
                    format!("gives up the chain {} before all of it was removed", name(&head.chain)),
                );
            }
            self.heads.remove(&head.chain);
            self.retired.insert(head.chain.clone(), head);
        }
        let before = if checkpoint.full { std::mem::take(&mut self.heads) } else { BTreeMap::new() };
        for head in checkpoint.heads {
            let old = before.get(&head.chain).or_else(|| self.heads.get(&head.chain)).map(|(old, _)| old);
            if old.is_some_and(|old| goes_back(old, &head)) {
                report.fault(sequence, format!("sets the chain {} back", name(&head.chain)));
            }
            self.note(&head, sequence, nanos);
            let leaf = head.leaf();
            self.heads.insert(head.chain.clone(), (head, leaf));
        }
        if checkpoint.full {
            for chain in before.keys().filter(|chain| self.is_complete && !self.heads.contains_key(chain)) {
                report.fault(sequence, format!("leaves out the chain {}", name(chain)));
            }
            self.is_complete = true;
        }
        if self.is_complete {
            let leaves: Vec<_> = self.heads.values().map(|(_, leaf)| *leaf).collect();
            let total = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
            if total != checkpoint.heads_total || merkle::root(leaves) != checkpoint.root {
                report.fault(sequence, "its root is not that of its heads");
                self.is_complete = false;
            }
        }
    }

    fn note(&mut self, head: &SealedHead, checkpoint: u64, nanos: u64) {
        let points = self.points.entry(head.chain.clone()).or_default();
        let point = Point { seq: head.seq, hash: head.hash, count: head.count, checkpoint, nanos };
        if points.last().is_none_or(|last| point.seq > last.seq) {
            points.push(point);
        }
    }

    /// After the last.
    pub(crate) fn close(&self, report: &mut Report) {
        if let Some(first) = self.first_given.filter(|first| *first > self.first_kept) {
            report.fault(
                first,
                format!("checkpoints {} to {} are missing before it", self.first_kept, first - 1),
            );
        }
        for witness in self.witnesses.iter().filter(|witness| !witness.seen) {
            report.fault(witness.sequence, "was kept elsewhere and is missing here");
        }
    }

    /// Events that arrived by this time, in nanoseconds since 1970, may have been removed for age.
    pub(crate) fn expired(&self) -> u64 {
        expired(self.nanos, self.retention)
    }

    /// All chains that were ever sealed, with where they last stood.
    pub(crate) fn chains(&self) -> impl Iterator<Item = (&ChainId, &SealedHead)> {
        self.heads.iter().map(|(chain, (head, _))| (chain, head))
    }

    /// Where a chain last stood.
    pub(crate) fn head(&self, chain: &ChainId) -> Option<&SealedHead> {
        self.heads.get(chain).map(|(head, _)| head).or_else(|| self.retired.get(chain))
    }

    /// Where it stood whenever it had moved, ascending.
    pub(crate) fn points(&self, chain: &ChainId) -> &[Point] {
        self.points.get(chain).map(Vec::as_slice).unwrap_or_default()
    }
}

/// By when events must have arrived to be removed for age at `nanos`; 0: none are.
fn expired(nanos: u64, retention: u64) -> u64 {
    if retention == 0 { 0 } else { nanos.saturating_add(SLACK).saturating_sub(retention) }
}

fn goes_back(old: &SealedHead, new: &SealedHead) -> bool {
    new.seq < old.seq
        || new.count < old.count
        || new.floor < old.floor
        || new.removed < old.removed
        || (new.seq == old.seq && new.hash != old.hash)
}

pub(crate) fn name(chain: &ChainId) -> String {
    format!("{}/{}/{}", chain.proxy, chain.worker, chain.epoch)
}

//! Makes checkpoints.

use std::collections::BTreeMap;

use crate::checkpoint::{ChainId, Checkpoint, Malformed, SealedHead};
use crate::key::SecretKey;
use crate::merkle;

/// A checkpoint holds all heads at least so often, so that old ones can be removed.
const FULL_EVERY: u64 = 60;

/// A checkpoint that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its number.
    pub sequence: u64,
    /// When, nanoseconds since 1970.
    pub nanos: u64,
    /// The oldest that is kept beside it.
    pub first: u64,
    /// The signed bytes.
    pub bytes: Vec<u8>,
    /// Chains that are in the tree no longer.
    pub retired: Vec<ChainId>,
}

/// Makes checkpoints, each naming the one before.
#[derive(Debug)]
pub struct Sealer {
    key: SecretKey,
    /// The last one's number and hash.
    last: Option<(u64, [u8; 32])>,
    /// The oldest that is kept.
    first: u64,
    /// Number and time of those that hold all heads, ascending, from the oldest that is kept.
    full: Vec<(u64, u64)>,
    /// What is sealed; none: not known, so that the next holds all.
    sealed: Option<BTreeMap<ChainId, SealedHead>>,
    /// How long events and checkpoints are kept, in nanoseconds.
    max_age: u64,
}

impl Sealer {
    /// Goes on after `last`, signed bytes; none: there never was one. `full` as [`Sealer::full`] told then. Events and
    /// checkpoints are kept for `max_age` nanoseconds.
    ///
    /// # Errors
    /// `last` is no checkpoint of this key: another key's chain of checkpoints is not continued.
    pub fn resume(
        key: SecretKey,
        last: Option<&[u8]>,
        full: Vec<(u64, u64)>,
        max_age: u64,
    ) -> Result<Self, Malformed> {
        let last = match last {
            // What is there under an earlier key is gone on with: its signature is for whoever verifies.
            Some(signed) => Some(Checkpoint::decode(signed)?),
            None => None,
        };
        let first = last.as_ref().map_or(1, |(checkpoint, _)| checkpoint.first);
        let last = last.map(|(checkpoint, hash)| (checkpoint.sequence, hash));
        Ok(Self { key, last, first, full, sealed: None, max_age })
    }

    /// Those that hold all heads, and that are kept: number and time.
    pub fn full(&self) -> &[(u64, u64)] {
        &self.full
    }

    /// Whether a checkpoint of `heads` would say something new.
    pub fn is_due(&self, heads: &BTreeMap<ChainId, SealedHead>) -> bool {
        match &self.sealed {
            Some(sealed) => sealed != heads,
            // The first one after a start: only if there is anything to say.
            None => !heads.is_empty(),
        }
    }

    /// The checkpoint of `heads` at `now` nanoseconds since 1970. `retired`: chains whose events were all removed; they are
    /// told of for the last time. It counts as made: it must be kept, or the chain of checkpoints has a hole.
    pub fn seal(
        &mut self,
        now: u64,
        mut heads: BTreeMap<ChainId, SealedHead>,
        retired: &[ChainId],
    ) -> Sealed {
        let sequence = self.last.map_or(1, |(sequence, _)| sequence + 1);
        let retired: Vec<_> = retired.iter().filter_map(|chain| heads.remove(chain)).collect();
        let is_due = self.full.last().is_none_or(|(last, _)| sequence - last >= FULL_EVERY);
        let before = self.sealed.take().filter(|_| !is_due);
        let changed = heads
            .values()
            .filter(|head| before.as_ref().is_none_or(|before| before.get(&head.chain) != Some(head)));
        let full = before.is_none();
        if full {
            self.full.push((sequence, now));
            self.forget(now);
        }
        let checkpoint = Checkpoint {
            sequence,
            nanos: now,
            previous: self.last.map(|(_, hash)| hash),
            first: self.first,
            root: merkle::root(heads.values().map(SealedHead::leaf).collect()),
            heads_total: u64::try_from(heads.len()).unwrap_or(u64::MAX),
            full,
            heads: changed.cloned().collect(),
            retired: retired.clone(),
            retention: self.max_age,
        };
        let (bytes, hash) = checkpoint.sign(&self.key);
        self.last = Some((sequence, hash));
        self.sealed = Some(heads);
        let retired = retired.into_iter().map(|head| head.chain).collect();
        Sealed { sequence, nanos: now, first: self.first, bytes, retired }
    }

    /// Gives up checkpoints that are too old, up to the newest full one among them.
    fn forget(&mut self, now: u64) {
        let too_old = now.saturating_sub(self.max_age);
        let old = self.full.iter().take_while(|(_, nanos)| *nanos < too_old).count();
        let kept = old.saturating_sub(1);
        self.full.drain(..kept);
        if kept > 0
            && let Some((first, _)) = self.full.first()
        {
            self.first = *first;
        }
    }
}

//! Which sequences of chains are stored. Pure.

use std::collections::BTreeMap;

use crate::model::ChainName;

/// More chains than this are forgotten, and asked for again when they are needed.
const MOST_CHAINS: usize = 100_000;

/// Sequences as ranges: first -> last, apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Takes a sequence in; false: it was there.
    pub(super) fn insert(&mut self, seq: u64) -> bool {
        let before = self.0.range(..=seq).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= seq) {
            return false;
        }
        let first = match before {
            Some((first, last)) if last.saturating_add(1) == seq => first,
            Some(_) | None => seq,
        };
        let last = seq.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(seq);
        self.0.insert(first, last);
        true
    }

    /// Whether a sequence is in.
    pub(super) fn has(&self, seq: u64) -> bool {
        self.0.range(..=seq).next_back().is_some_and(|(_, last)| *last >= seq)
    }

    /// Takes a range in that is apart from every other.
    pub(super) fn add(&mut self, first: u64, last: u64) {
        self.0.insert(first, last);
    }
}

/// What is stored of chains that were asked for.
#[derive(Debug, Default)]
pub(super) struct Known {
    chains: BTreeMap<ChainName, Ranges>,
    /// The greatest `arrived` so far; 0: not asked yet.
    pub(super) arrived: u64,
}

impl Known {
    pub(super) fn has(&self, chain: &ChainName) -> bool {
        self.chains.contains_key(chain)
    }

    /// The stored sequences of a chain.
    pub(super) fn of(&mut self, chain: &ChainName) -> &mut Ranges {
        if !self.chains.contains_key(chain) {
            self.chains.insert(chain.clone(), Ranges::default());
        }
        self.chains.entry(chain.clone()).or_default()
    }

    /// Forgets, so that it is asked for again.
    pub(super) fn forget(&mut self) {
        self.chains.clear();
    }

    /// Makes room.
    pub(super) fn bound(&mut self) {
        if self.chains.len() > MOST_CHAINS {
            self.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_know_what_a_set_knows(seqs in proptest::collection::vec(0_u64..40, 0..80)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for seq in seqs {
                prop_assert_eq!(ranges.insert(seq), set.insert(seq));
                let apart = ranges.0.iter().zip(ranges.0.iter().skip(1));
                for ((_, last), (next, _)) in apart {
                    prop_assert!(last + 1 < *next, "{ranges:?}");
                }
            }
        }
    }

    #[test]
    fn the_last_sequence_there_is_needs_no_next() {
        let mut ranges = Ranges::default();
        assert!(ranges.insert(u64::MAX) && ranges.insert(u64::MAX - 1) && !ranges.insert(u64::MAX));
    }
}

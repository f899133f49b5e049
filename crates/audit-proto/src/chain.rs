//! The hash chain of a worker's events.

use alloc::format;

/// What the first event of a chain names as its predecessor.
pub fn genesis(proxy: &str, worker: u32, epoch: u64) -> [u8; 32] {
    hash(format!("sallyport-chain-v1\n{proxy}\n{worker}\n{epoch}").as_bytes())
}

/// The hash that the next event names: BLAKE3 of the event's exact bytes.
pub fn hash(event: &[u8]) -> [u8; 32] {
    *blake3::hash(event).as_bytes()
}

/// Where a chain stands: its last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its sequence; 0: there is none yet.
    pub seq: u64,
    /// Its hash, or the chain's beginning.
    pub hash: [u8; 32],
}

/// What an event does to its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It follows the head.
    Follows,
    /// It is the head or before it: told before.
    Known,
    /// Its place is the head's, and it is another event: the chain has two continuations. The head stays.
    Forked,
    /// Events are missing before it; `announced`: so many it says were dropped by its own chain.
    Gap {
        /// First missing sequence.
        from: u64,
        /// Last missing sequence.
        to: u64,
        /// Of them, dropped knowingly.
        announced: u64,
    },
    /// Its place is right, and what it names as its predecessor is not the head: something was altered.
    Broken,
}

/// Follows a chain event by event.
#[derive(Clone, Debug)]
pub struct Verifier {
    head: Head,
}

impl Verifier {
    /// From a known head on.
    pub fn from(head: Head) -> Self {
        Self { head }
    }

    /// From a chain's beginning.
    pub fn begin(proxy: &str, worker: u32, epoch: u64) -> Self {
        Self { head: Head { seq: 0, hash: genesis(proxy, worker, epoch) } }
    }

    /// Where the chain stands.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Takes the next event: its sequence, its predecessor's hash, how many were dropped before it, its own bytes. The
    /// head moves on unless the event was known.
    pub fn take(&mut self, seq: u64, prev_hash: &[u8], dropped_before: u64, bytes: &[u8]) -> Link {
        let expected = self.head.seq.saturating_add(1);
        if seq < expected {
            let is_other = seq == self.head.seq && seq > 0 && hash(bytes) != self.head.hash;
            return if is_other { Link::Forked } else { Link::Known };
        }
        // Dropped events leave a hole in the sequence, never in the hashes: the next one kept names the last one kept.
        let missing = seq.saturating_sub(expected);
        let follows = prev_hash == self.head.hash;
        self.head = Head { seq, hash: hash(bytes) };
        match (missing, follows) {
            (0, true) => Link::Follows,
            (0, false) => Link::Broken,
            (missing, _) => Link::Gap {
                from: expected,
                to: seq.saturating_sub(1),
                announced: if follows { dropped_before.min(missing) } else { 0 },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_followed_and_each_defect_named() {
        let mut chain = Verifier::begin("p", 1, 2);
        let first = chain.head().hash;
        assert_eq!(chain.take(1, &first, 0, b"one"), Link::Follows);
        assert_eq!(chain.take(1, &first, 0, b"one"), Link::Known);
        assert_eq!(chain.take(1, &first, 0, b"another"), Link::Forked);
        assert_eq!(chain.take(2, &hash(b"other"), 0, b"two"), Link::Broken);
        assert_eq!(chain.take(5, &hash(b"lost"), 0, b"five"), Link::Gap { from: 3, to: 4, announced: 0 });
        assert_eq!(chain.take(8, &hash(b"five"), 2, b"eight"), Link::Gap { from: 6, to: 7, announced: 2 });
    }

    #[test]
    fn chains_of_other_workers_begin_elsewhere() {
        assert_ne!(genesis("p", 1, 2), genesis("p", 2, 1));
    }
}

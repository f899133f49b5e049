//! How long to wait before the next try.

use std::time::Duration;

use kube::runtime::utils::Backoff;

/// The first wait.
const FIRST: Duration = Duration::from_millis(100);
/// The longest. An API server that is back is found within it, and a change that waited arrives.
const LONGEST: Duration = Duration::from_secs(3);

/// Waits that double up to three seconds, each shortened by up to a half at random, so that clients do not come back at one
/// moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patience {
    tries: u32,
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let longest = FIRST.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        Some(longest.mul_f64(0.5 + rand::random::<f64>() / 2.0))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_begin_anew() {
        let mut patience = Patience::default();
        let waits: Vec<Duration> = patience.by_ref().take(50).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2, "{waits:?}");
        assert!(waits[10..].iter().all(|wait| *wait <= LONGEST && *wait >= LONGEST / 2), "{waits:?}");
        assert!(waits[10..].windows(2).any(|pair| pair[0] != pair[1]), "at random");
        patience.reset();
        assert!(patience.next().unwrap() <= FIRST);
    }
}

//! Pauses and spans are measured by a clock that never goes back: the host's may be set back by hours, and what waits for a
//! time would wait for as long.

/// Makes a clock that never goes back out of one that does. It may still leap ahead: then a pause is only short.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steady {
    seen: u64,
    behind: u64,
}

impl Steady {
    /// Nanoseconds that only grow; the host's clock says `nanos` since 1970, or the end of time: it does not know.
    pub(crate) fn at(&mut self, nanos: u64) -> u64 {
        let nanos = if nanos == u64::MAX { self.seen } else { nanos };
        self.behind = self.behind.saturating_add(self.seen.saturating_sub(nanos));
        self.seen = nanos;
        nanos.saturating_add(self.behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_where_the_hosts_clock_was_set_back() {
        let mut steady = Steady::default();
        let told = [100, 110, 10, 15, u64::MAX, 40, 30].map(|nanos| steady.at(nanos));
        assert_eq!(told, [100, 110, 110, 115, 115, 140, 140]);
    }
}

//! Groups of proxies, each with what it is served.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sallyport_operator_xds::Target;
use sallyport_policy::ObjectId;
use tokio_util::sync::CancellationToken;

use crate::lock::lock;

/// The target of a server that is gone is kept for so long: a proxy that was just admitted to it may not have said a word yet.
const KEPT: Duration = Duration::from_secs(60);

/// A target, and what goes with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracked {
    pub(crate) target: Target,
    /// Cancelled when nobody needs the target any more.
    pub(crate) end: CancellationToken,
    /// Since when its server is gone.
    gone: Option<Instant>,
    /// Edition of its server that it had last.
    edition: String,
}

/// All targets: one for all servers, or one for each.
#[derive(Clone, Debug)]
pub(crate) enum Targets {
    /// One, for a proxy of all servers.
    Single(Tracked),
    /// One for each server.
    PerServer(Arc<Mutex<BTreeMap<ObjectId, Tracked>>>),
}

impl Targets {
    /// A target for each server.
    pub(crate) fn per_server() -> Self {
        Self::PerServer(Arc::default())
    }

    /// The target of a server, where there is one.
    pub(crate) fn find(&self, server: &ObjectId) -> Option<Tracked> {
        match self {
            Self::Single(tracked) => Some(tracked.clone()),
            Self::PerServer(targets) => lock(targets).get(server).cloned(),
        }
    }

    /// The target of a server that is there, and whether it is new.
    pub(crate) fn make(&self, server: &ObjectId) -> (Tracked, bool) {
        match self {
            Self::Single(tracked) => (tracked.clone(), false),
            Self::PerServer(targets) => {
                let mut targets = lock(targets);
                let is_new = !targets.contains_key(server);
                let tracked = targets.entry(server.clone()).or_default();
                tracked.gone = None;
                (tracked.clone(), is_new)
            }
        }
    }

    /// The edition that a server's target has now; none: the one it had last, for its server is gone.
    pub(crate) fn edition(&self, server: &ObjectId, now: Option<String>) -> String {
        let Self::PerServer(targets) = self else {
            return String::new();
        };
        match (lock(targets).get_mut(server), now) {
            (Some(tracked), Some(now)) => {
                tracked.edition.clone_from(&now);
                now
            }
            (Some(tracked), None) => tracked.edition.clone(),
            (None, now) => now.unwrap_or_default(),
        }
    }

    /// A server is gone. Its target stays as long as proxies are connected: they must be told.
    pub(crate) fn retire(&self, server: &ObjectId, now: Instant) {
        if let Self::PerServer(targets) = self
            && let Some(tracked) = lock(targets).get_mut(server)
        {
            tracked.gone.get_or_insert(now);
        }
    }

    /// Drops targets of servers that are long gone, and of which no proxy is connected.
    pub(crate) fn sweep(&self, now: Instant) {
        let Self::PerServer(targets) = self else {
            return;
        };
        lock(targets).retain(|_, tracked| {
            let is_long_gone = tracked.gone.is_some_and(|since| now.saturating_duration_since(since) >= KEPT);
            let is_over = is_long_gone && tracked.target.proxies.connected() == 0;
            if is_over {
                tracked.end.cancel();
            }
            !is_over
        });
    }

    /// All of them, with the server that each is for; none: for all.
    pub(crate) fn all(&self) -> Vec<(Option<ObjectId>, Tracked)> {
        match self {
            Self::Single(tracked) => vec![(None, tracked.clone())],
            Self::PerServer(targets) => lock(targets)
                .iter()
                .map(|(server, tracked)| (Some(server.clone()), tracked.clone()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_of_a_server_that_is_gone_goes_after_a_while() {
        let targets = Targets::per_server();
        let server = ObjectId::new("ns", "s");
        assert!(targets.find(&server).is_none());
        let (made, is_new) = targets.make(&server);
        assert!(is_new && !targets.make(&server).1);
        let now = Instant::now();
        targets.retire(&server, now);
        targets.sweep(now + KEPT / 2);
        assert!(targets.find(&server).is_some());
        targets.make(&server);
        targets.sweep(now + KEPT);
        assert!(targets.find(&server).is_some(), "it came back");
        targets.retire(&server, now);
        targets.sweep(now + KEPT);
        assert!(targets.find(&server).is_none() && made.end.is_cancelled());
    }
}

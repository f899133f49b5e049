//! How far a version has come, in words.

use sallyport_api::words::reason;

use super::draft::Draft;

/// Proxies that are named in a message; of more, their number is told.
const NAMED: usize = 3;
/// Longest reason of a proxy that is repeated, in characters.
const LONGEST_REASON: usize = 160;

/// A proxy that does not enforce the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Laggard {
    /// The proxy, as `namespace/pod`.
    pub(crate) proxy: String,
    /// Why it refused the version; none: it has not answered yet.
    pub(crate) refused: Option<String>,
}

/// How far the newest version of an object has come, over all replicas of the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Proxies that acknowledged it, with all their workers.
    pub(crate) enforced: usize,
    /// Proxies there are.
    pub(crate) of: usize,
    /// The others that are connected, or were a moment ago.
    pub(crate) pending: Vec<Laggard>,
    /// How many are there by what the cluster says, and are not connected: nobody knows what they enforce.
    pub(crate) unconnected: usize,
}

impl Reach {
    /// A version that every one of `of` proxies enforces.
    pub(crate) fn complete(of: usize) -> Self {
        Self { enforced: of, of, pending: Vec::new(), unconnected: 0 }
    }

    /// The same, where the cluster says that so many proxies are there.
    pub(crate) fn among(self, available: usize) -> Self {
        let unconnected = available.saturating_sub(self.of);
        Self { of: self.of + unconnected, unconnected, ..self }
    }

    /// Proxies that are connected, or were a moment ago.
    pub(crate) fn connected(&self) -> usize {
        self.of.saturating_sub(self.unconnected)
    }

    /// Some proxy is there, and all enforce it.
    pub(crate) fn is_complete(&self) -> bool {
        self.of > 0 && self.enforced == self.of
    }

    /// Some proxy refused it.
    pub(crate) fn is_refused(&self) -> bool {
        self.pending.iter().any(|laggard| laggard.refused.is_some())
    }

    /// As `5/6`.
    pub(crate) fn fraction(&self) -> String {
        format!("{}/{}", self.enforced, self.of)
    }

    /// As `enforced on 5/6 proxies; not yet by ns/pod`. Those that refused come first.
    pub(crate) fn message(&self) -> String {
        if self.of == 0 {
            return "no proxy of the server is connected".into();
        }
        let mut message = format!("enforced on {} proxies", self.fraction());
        let refused = self.pending.iter().filter_map(|laggard| {
            let reason: String = laggard.refused.as_ref()?.chars().take(LONGEST_REASON).collect();
            Some(format!("{} ({reason})", laggard.proxy))
        });
        let silent = self.pending.iter().filter(|laggard| laggard.refused.is_none());
        for (what, names) in [
            ("refused by", refused.collect::<Vec<_>>()),
            ("not yet by", silent.map(|laggard| laggard.proxy.clone()).collect()),
        ] {
            if !names.is_empty() {
                message.push_str(&format!("; {what} {}", listed(names)));
            }
        }
        if self.unconnected > 0 {
            message.push_str(&format!("; {} not connected", self.unconnected));
        }
        message
    }

    /// The condition `kind` of something in force.
    pub(crate) fn condition(&self, kind: &'static str) -> Draft {
        match () {
            () if self.is_complete() => Draft::yes(kind, reason::ENFORCED_EVERYWHERE, self.message()),
            () if self.of == 0 => Draft::unknown(kind, reason::NO_PROXIES, self.message()),
            () if self.is_refused() => Draft::no(kind, reason::PROXY_REJECTED, self.message()),
            () if self.unconnected > 0 => Draft::no(kind, reason::NOT_CONNECTED, self.message()),
            () => Draft::no(kind, reason::PROPAGATING, self.message()),
        }
    }
}

/// The first few of `names`, and how many more there are.
pub(crate) fn listed(mut names: Vec<String>) -> String {
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    let shown = names.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

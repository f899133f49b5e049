//! What is stored.

use sallyport_audit_proto::view::{EventView, ViewError};

/// Name of a chain: one worker of one run of one proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName {
    /// The proxy.
    pub proxy: String,
    /// Its worker.
    pub worker: u32,
    /// When the worker began, in nanoseconds since 1970.
    pub epoch: u64,
}

/// Where a chain stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainHead {
    /// The chain.
    pub name: ChainName,
    /// Its last stored sequence.
    pub seq: u64,
    /// That event's hash.
    pub hash: [u8; 32],
    /// Events of it that were ever stored.
    pub count: u64,
    /// Last sequence that was removed for age or room, and with it all before; 0: none.
    pub floor: u64,
    /// Events of it that were removed so.
    pub removed: u64,
    /// When its last event was stored, nanoseconds since 1970; 0: not known.
    pub nanos: u64,
}

/// An event as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its chain.
    pub chain: ChainName,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// Their hash.
    pub hash: [u8; 32],
    /// Its place in the chain.
    pub seq: u64,
    /// Of its verdict, nanoseconds since 1970.
    pub nanos: u64,
}

impl StoredEvent {
    /// An event by its bytes, which have this hash.
    ///
    /// # Errors
    /// They are no [`AuditEvent`](sallyport_audit_proto::v1::AuditEvent).
    pub fn read(chain: ChainName, bytes: Vec<u8>, hash: [u8; 32]) -> Result<Self, ViewError> {
        let EventView { seq, time_unix_nanos: nanos, .. } = EventView::read(&bytes)?;
        Ok(Self { chain, bytes, hash, seq, nanos })
    }

    /// What its bytes say; nothing, where they are none that [`StoredEvent::read`] takes.
    pub fn view(&self) -> EventView<'_> {
        EventView::read(&self.bytes).unwrap_or_default()
    }
}

/// Something wrong with a chain; stored as an event of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The chain.
    pub chain: ChainName,
    /// One of [`Finding::TYPES`]:
    ///
    /// - `audit.gap`: events are missing, nobody says why;
    /// - `audit.dropped`: events are missing, as the proxy announced (its ring was full);
    /// - `audit.broken`: an event does not name its predecessor;
    /// - `audit.fork`: another event came for a place that is taken; it is not stored;
    /// - `audit.lost`: the chain ended, and its proxy had made events that did not arrive: at least those from `from` to
    ///   `to`, which may be none (`to` is before `from`); how many more is not known;
    /// - `audit.silent`: nothing is heard of the proxy, which had announced events that did not arrive. They may still come:
    ///   then the chain has them;
    /// - `audit.refused`: the brokers refused an event that was acknowledged; the dead topic has it.
    pub event_type: &'static str,
    /// First sequence concerned.
    pub from: u64,
    /// Last sequence concerned.
    pub to: u64,
    /// When it was found, nanoseconds since 1970.
    pub nanos: u64,
}

impl Finding {
    /// Every type; a spool numbers them by their place here, so new ones go to the end.
    pub const TYPES: [&'static str; 7] = [
        "audit.gap",
        "audit.dropped",
        "audit.broken",
        "audit.fork",
        "audit.lost",
        "audit.silent",
        "audit.refused",
    ];

    /// How many events are missing, as far as it is known.
    pub fn missing(&self) -> u64 {
        match self.event_type {
            "audit.broken" | "audit.fork" => 0,
            _ => self.to.saturating_add(1).saturating_sub(self.from),
        }
    }

    /// Why.
    pub fn reason(&self) -> &'static str {
        match self.event_type {
            "audit.dropped" => "ring_full",
            "audit.broken" => "predecessor_altered",
            "audit.fork" => "two_events_at_one_place",
            "audit.lost" => "proxy_ended",
            "audit.silent" => "proxy_silent",
            "audit.refused" => "refused_by_brokers",
            _ => "unknown",
        }
    }

    /// Whether it was found as the event `to` arrived, so that a store which has that event has the finding too.
    pub(crate) fn is_about_arrival(&self) -> bool {
        !matches!(self.event_type, "audit.fork" | "audit.refused") && !Self::is_end(self.event_type)
    }

    /// Whether a finding of this type says that its chain has ended, or seems to have.
    pub fn is_end(event_type: &str) -> bool {
        matches!(event_type, "audit.lost" | "audit.silent")
    }
}

//! What is stored.

use sallyport_audit_proto::v1::AuditEvent;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The chain.
    pub name: ChainName,
    /// Its last stored sequence.
    pub seq: u64,
    /// That event's hash.
    pub hash: [u8; 32],
}

/// An event as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its chain.
    pub chain: ChainName,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// Their hash.
    pub hash: [u8; 32],
    /// The bytes decoded.
    pub event: AuditEvent,
}

/// Something wrong with a chain; stored as an event of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The chain.
    pub chain: ChainName,
    /// `audit.gap`, `audit.dropped` or `audit.broken`.
    pub event_type: &'static str,
    /// First sequence concerned.
    pub from: u64,
    /// Last sequence concerned.
    pub to: u64,
    /// When it was found, nanoseconds since 1970.
    pub nanos: u64,
}

//! What a proof needs of a store: events as they were chained, and checkpoints.

use crate::model::ChainName;

/// A checkpoint as it was signed; `sallyport-audit-proof` reads the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredCheckpoint {
    /// Its number, from 1.
    pub sequence: u64,
    /// When it was made, nanoseconds since 1970.
    pub nanos: u64,
    /// Number of the oldest checkpoint that is kept beside it.
    pub first: u64,
    /// An encoded `sallyport.audit.v1.SignedCheckpoint`.
    pub bytes: Vec<u8>,
    /// Chains that ended long ago and whose events were all removed: it is the last that tells of them. Empty where it was
    /// read from a store.
    pub retired: Vec<ChainName>,
}

/// A place in the order of events: by proxy (bytewise), worker, epoch, sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The chain.
    pub chain: ChainName,
    /// Sequence within it.
    pub seq: u64,
}

/// How much of an event is held against its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Nothing: the reader checks the chain alone.
    #[default]
    Chain,
    /// Everything that the store derived from them: what it answers questions by.
    Columns,
}

/// An event of a chain as a store has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainedEvent {
    /// Its chain.
    pub chain: ChainName,
    /// Its sequence, as the store says; the bytes have it too.
    pub seq: u64,
    /// Its hash, as the store says.
    pub hash: [u8; 32],
    /// Its exact bytes.
    pub bytes: Vec<u8>,
    /// With [`Depth::Columns`]: what the store says of it otherwise than its bytes, by the name of the first such column.
    pub differs: Option<&'static str>,
}

/// Which events; what is not set matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// From this time on, nanoseconds since 1970.
    pub since: Option<u64>,
    /// Before this time, nanoseconds since 1970.
    pub until: Option<u64>,
    /// The server's namespace.
    pub namespace: Option<String>,
    /// The server's name.
    pub server: Option<String>,
}

/// A part of a chain: from the first to the last event that was selected. Between them others may stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The chain.
    pub chain: ChainName,
    /// First selected sequence.
    pub first: u64,
    /// Last selected sequence.
    pub last: u64,
    /// How many were selected.
    pub events: u64,
}

//! Where audit events are kept and asked for: the traits that every store implements, the embedded store, and ClickHouse.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod clickhouse;
mod embedded;
mod envelope;
mod model;
mod proof;
mod query;

pub use clickhouse::{Access, ArgsError, Block, ClickHouse, ClickHouseArgs, Prepared, Tls, TlsError};
pub use embedded::{Embedded, Limits};
pub use envelope::{
    decision, envelope, envelope_text, event_type, finding_envelope, phase, source, timestamp,
};
pub use model::{ChainHead, ChainName, Finding, StoredEvent};
pub use proof::{ChainedEvent, Depth, Position, Selection, Span, StoredCheckpoint};
pub use query::{Filter, Page, Stats, Summary, Tail, Usage, UsageQuery};

use async_trait::async_trait;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("event store: {0}")]
    Database(#[from] rusqlite::Error),
    /// ClickHouse refused, or did not answer.
    #[error("event store: {}", clickhouse::told(.0))]
    ClickHouse(#[from] ::clickhouse::error::Error),
    /// The file is of a newer version, or none of ours.
    #[error(
        "event store {path} has schema {found}, this program knows {known}; use the program that wrote it"
    )]
    Schema {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The cursor is none of ours.
    #[error("cursor is not valid; take it from `next` of an earlier answer")]
    Cursor,
    /// The store's thread is gone.
    #[error("event store has stopped")]
    Stopped,
}

/// Takes events.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Stores events; when this returns they are durable. Ones that are stored already are passed over.
    async fn append(&self, events: Vec<StoredEvent>, findings: Vec<Finding>) -> Result<(), StoreError>;

    /// Where each known chain stands.
    async fn heads(&self) -> Result<Vec<ChainHead>, StoreError>;

    /// Stores a checkpoint; when this returns it is durable. One with a sequence that is stored is passed over. Those before
    /// its `first` are removed, and the chains that it retires are forgotten.
    async fn append_checkpoint(&self, checkpoint: StoredCheckpoint) -> Result<(), StoreError>;
}

/// Answers questions about events.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Events that match, newest first, as envelopes.
    async fn events(&self, filter: Filter, limit: u32, cursor: Option<String>) -> Result<Page, StoreError>;
    /// The position after the newest event. Asked several times a second, so it must cost little.
    async fn end(&self) -> Result<String, StoreError>;
    /// Events that match and were stored after `position`, oldest first, at most `limit`. There may be more also when there
    /// are none: a store need not look through everything at once.
    async fn after(&self, filter: Filter, position: String, limit: u32) -> Result<Tail, StoreError>;
    /// How many there are.
    async fn stats(&self) -> Result<Stats, StoreError>;
    /// Sources, with how many events each has.
    async fn sources(&self) -> Result<Vec<(String, u64)>, StoreError>;
    /// Types, with how many events each has.
    async fn event_types(&self) -> Result<Vec<(String, u64)>, StoreError>;
    /// What was used, by hour, namespace, server, team and tool, in that order.
    async fn usage(&self, wanted: UsageQuery) -> Result<Vec<Usage>, StoreError>;
    /// The newest event's source, type and time.
    async fn summary(&self) -> Result<Summary, StoreError>;

    /// Checkpoints after this sequence, ascending.
    async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError>;
    /// The last checkpoint.
    async fn last_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError>;
    /// Events after `after`, from the first on if there is none, in the order of [`Position`]: chain by chain, each by its
    /// sequence. Findings have no place in a chain and are left out.
    async fn scan(
        &self,
        after: Option<Position>,
        limit: u32,
        depth: Depth,
    ) -> Result<Vec<ChainedEvent>, StoreError>;
    /// Which part of which chains has events that are selected, in the order of chains.
    async fn spans(&self, selection: Selection) -> Result<Vec<Span>, StoreError>;
}

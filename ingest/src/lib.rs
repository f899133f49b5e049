//! Receives audit batches, checks their chains, makes them durable, acknowledges, and brings them to the store.
//!
//! ```text
//!   Emit, EmitStream ─┐                                           ┌─▶ acknowledged
//!                     ├─▶ who it is ─▶ chain, duplicates ─▶ spool ─┤
//!   POST /events ─────┘                                           └─▶ delivery ─▶ EventSink, or publish ─▶ Kafka
//! ```
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod accept;
mod args;
mod chains;
mod check;
mod clock;
mod deliver;
mod envelope;
mod events;
mod ledger;
mod limit;
mod metrics;
mod process;
mod publish;
mod seal;
mod service;
mod spooled;
mod stream;

pub use args::{Args, KafkaArgs};
pub use process::run;

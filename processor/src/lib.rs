//! Brings audit events from Kafka to ClickHouse, each once.
//!
//! ```text
//!   Kafka ─▶ decode ─▶ batch ─▶ what is not stored yet ─▶ one block ─▶ ClickHouse ─▶ commit of offsets
//!              └─ no event: dead topic, before the commit
//! ```
//!
//! Guarantees: offsets are committed when all before them is stored or dead. What is read again, after a death or because the
//! group was wound back, is known by its place in its chain and passed over.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod args;
mod batch;
mod consume;
mod metrics;
mod process;
mod told;

pub use args::Args;
pub use process::run;

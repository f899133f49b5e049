//! Receives audit batches, checks their chains, stores them durably, acknowledges.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod args;
mod check;
mod metrics;
mod process;
mod service;

pub use args::Args;
pub use process::run;

//! The control plane process: a source of objects, the index, the xDS server, and who has acknowledged what.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod admin;
pub mod admission;
mod args;
mod certificates;
mod collect;
mod control;
mod digest_key;
mod directory;
mod enforcement;
#[cfg(test)]
mod fake_api;
mod kubernetes;
mod lock;
mod metrics;
mod profiling;
pub mod render;
mod revisions;
mod run;
mod standalone;
mod status;
mod targets;
mod upkeep;
mod watch;
mod workloads;

pub use args::Args;
pub use certificates::{Certificates, server_name};
pub use run::run;
pub use status::{IngressReadiness, StatusArgs};

//! What every native process shares: tracing, metrics and health over HTTP, shutdown, TLS and token files.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

pub mod admin;
pub mod files;
pub mod identity;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod tokens;

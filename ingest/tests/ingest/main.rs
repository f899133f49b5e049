//! The whole ingest over its sockets.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

mod kafka;
mod proof;
mod service;
mod support;

//! Development only: what must hold for any bytes. Each function takes what an attacker sends and panics when a law is
//! broken.
//!
//! ```text
//!   fuzz/libfuzzer (make fuzz) ──┐
//!   fuzz/tests/corpus.rs ────────┼─▶ message, request, verdict
//!   property tests of mcp-wire ──┘
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]
#![expect(clippy::panic, reason = "a law is broken")]

mod message;
mod request;
mod verdict;

pub use message::message;
pub use request::request;
pub use verdict::verdict;

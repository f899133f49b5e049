//! Strict reader of MCP requests: bytes and headers in, the call they make out, or why that cannot be known.
//!
//! ```text
//!   headers ─▶ RequestHeaders ─▶ check_media ─┐
//!   body ────▶ read ──────────▶ Message ──────┴─▶ agree ─▶ era, revision
//! ```
//!
//! It rejects instead of repairing. Whatever two readers could understand differently (repeated keys, keys that look
//! like others, batches, encodings, headers that say something else than the body) is a [`Fault`], because what is
//! forwarded are the bytes that were judged, and the upstream reads them with a reader of its own.
//!
//! The common path allocates nothing: texts are borrowed from the body unless they contain escapes.
#![no_std]
#![deny(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]
#![forbid(unsafe_code)]

extern crate alloc;

mod agree;
mod fault;
mod fold;
mod headers;
mod json;
mod media;
mod message;
mod method;
mod redact;
pub mod resource_uri;
mod text;

pub use agree::{Agreement, Era, MODERN_VERSIONS, SUPPORTED_VERSIONS, agree};
pub use fault::{Fault, Rejection};
pub use headers::RequestHeaders;
pub use json::Scratch;
pub use media::check_media;
pub use message::{Kind, Limits, Message, Reference, read};
pub use method::Method;
pub use redact::{Pointers, REDACTED, Withheld, redact};
pub use text::Text;

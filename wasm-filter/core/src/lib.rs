//! The filter's host-free state machine: events of the proxy in, calls on a [`host::Host`] out.
//!
//! ```text
//!   request ─▶ judge (mcp-wire: what is asked; policy: may it) ─▶ answer, or forward
//!                 └▶ record ─▶ exchange (until it ends) ─▶ ring ─▶ audit ingest
//!   control plane ─▶ settings (ECDS), sync (delta xDS) ─▶ Store
//! ```
//!
//! It knows no proxy-wasm: unit tests drive it with a host of their own, and the explain endpoint calls
//! [`judge::judge_explained`] with the same input as the proxy.
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

pub mod answer;
mod clock;
pub mod counters;
mod digest;
mod exchange;
pub mod host;
pub mod judge;
mod mcp_sessions;
pub mod pairs;
mod record;
mod ring;
mod settings;
mod sync;
mod usage;
mod worker;

pub use settings::ConfigFault;
pub use worker::{Flow, Worker};

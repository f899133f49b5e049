//! The Envoy filter: the ABI of proxy-wasm around `sallyport-filter-core`.
//!
//! ```text
//!   Envoy worker ── callbacks ──▶ exports (here) ──▶ Worker (filter-core: verdict, sync, ring, counters)
//!                ◀── host calls ── EnvoyHost (here) ◀──┘
//! ```
//!
//! All state lives in a static of the VM, not in the root context: Envoy replaces root contexts whenever the
//! configuration changes, and the grants, sessions and unacknowledged events must outlive that.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod exports;
mod host;
mod imports;

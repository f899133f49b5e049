//! The Envoy filter: proxy-wasm contexts around `sallyport-filter-core`.
//!
//! ```text
//!   Envoy worker ── callbacks ──▶ contexts (here) ──▶ Worker (filter-core: verdict, sync, ring, counters)
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

mod contexts;
mod host;
mod imports;

use contexts::Root;
use proxy_wasm::traits::RootContext;
use proxy_wasm::types::LogLevel;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Warn);
    proxy_wasm::set_root_context(|id| -> Box<dyn RootContext> { Box::new(Root::new(id)) });
}}

//! Development only: the built filter, run in wasmtime under a proxy of our own.
//!
//! ```text
//!   tests, fuel ──▶ Gateway (a proxy, its callers, its control plane and its audit ingest)
//!                     └▶ Vm (the module's callbacks; what each costs) ──▶ abi (its host calls) ──▶ Proxy (what they see)
//! ```
//!
//! It offers what Envoy offers to the module over proxy-wasm ABI 0.2.1, as far as the module asks for it; any other
//! import refuses the module. Time stands still unless it is moved, so every run is the same.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod abi;
pub mod fuel;
mod gateway;
pub mod profile;
mod proxy;
pub mod sample;
mod vm;

pub use gateway::{Costs, End, Fate, Gateway, Request};
pub use proxy::{Answer, GrpcCall, GrpcStream, Proxy};
pub use vm::{Cost, Count, Filter, Vm};

//! Wanted proxy to Envoy resources; the delta-xDS connection state machine; the tonic adapter.
//!
//! ```text
//!   ProxyPlan ─▶ render ─▶ World (resources, their versions, the order of changes)
//!                            │ wakes
//!   Envoy, filters ◀─▶ server (tonic) ◀─▶ Connection (no sockets)
//!                            └─▶ Proxies: who is connected, and has acknowledged what
//! ```
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod connection;
mod discovery;
mod proxies;
pub mod render;
mod server;
mod survey;
mod underway;
mod world;

pub use connection::{Behind, Connection};
pub use proxies::{Instance, Proxies, Standing, Totals};
pub use server::{Admission, Admit, Service, Target, serve};
pub use survey::{Laggard, Obstacle, Progress, Question, Survey, Surveyed};
pub use underway::Underway;
pub use world::{SharedWorld, Stored, World, types};

//! What the control plane tells of each object: its status, and events where that changes.
//!
//! ```text
//! object, its problems ─┐
//! children observed ────┼─▶ next status ─▶ differs from the one that is there? ─▶ queue ─▶ API server
//! acknowledgements ─────┘     (pure)              (a digest of it)             (two lanes)
//! ```
//!
//! Guarantees: only the holder of the lease writes; nothing is written that is there already; withdrawals and servers
//! never wait behind grants and sessions that merely are new; an event is told once, also across restarts.

mod access;
mod agenda;
mod decide;
mod desk;
mod draft;
mod keeper;
mod metrics;
mod queue;
mod reach;
mod remembered;
mod run;
mod server;
mod transition;
mod view;
pub(crate) mod workload;
mod writer;

pub(crate) use metrics::StatusMetrics;
pub use run::StatusArgs;
pub(crate) use run::run;
pub(crate) use view::{Made, Workshop};
pub use workload::IngressReadiness;

#[cfg(test)]
mod live;
#[cfg(test)]
mod tests;

//! What the cluster holds for each server, kept as [`crate::render`] wants it.
//!
//! Only the leader writes. One server is worked on at a time by one job, several servers at once; changes that come meanwhile
//! make one more round. An object is applied when what is wanted of it changed, or when what is there is newer than what was
//! applied: in a settled cluster nothing is requested.
//!
//! - **Fields.** Server-side apply of the rendered fields, as field manager `sallyport-operator`, by force. All others are
//!   other people's: `kubectl rollout restart` and an autoscaler's replicas stay.
//! - **Deletion.** Only of objects that carry the operator's label and are controlled by the server. An object of the same name
//!   that is not the server's is never touched: the server's status names it.
//! - **Secrets** are read where a namespace lets the operator, and nowhere else: without that, pods do not restart when the
//!   content of a Secret changes, and the server's status says so.
//! - **Failure.** The first object that cannot be applied ends the round; the next comes after a pause that doubles.

mod api;
mod apply;
mod foreman;
mod job;
mod metrics;
mod observed;
mod places;
mod queue;
mod report;
mod secrets;
mod watches;

pub(crate) use {
    foreman::{Shop, run},
    metrics::WorkloadMetrics,
    report::Reports,
};

#[cfg(test)]
mod tests;

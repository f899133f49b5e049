//! The operator on a real API server: what it follows, what it survives, and who of several replicas writes.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

#[path = "../common/filter.rs"]
mod filter;
#[path = "../common/hostile.rs"]
mod generated;

mod faults;
mod hostile;
mod leader;
mod partition;
mod replicas;
mod source;
mod support;

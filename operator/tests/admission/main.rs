//! The webhook as tenants meet it: behind a real API server with RBAC, by users who may write our kinds in their own
//! namespace and nothing else.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

#[path = "../common/hostile.rs"]
mod generated;

mod down;
mod first_generation;
mod hostile;
mod rules;
mod sessions;
mod support;
mod tenants;

//! The worker's state machine before a host of ours: events in, effects out.
#![expect(clippy::expect_used, reason = "helpers of tests")]

mod arguments;
mod audit;
mod cases;
mod fake_host;
mod mcp_sessions;
mod proxy;
mod requests;
mod sync;
mod wire;

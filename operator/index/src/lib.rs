//! Watch events in; what each proxy must do and know out. No client calls, no clock.
//!
//! A change of a grant or session resolves that object alone, a change of a server its own grants and sessions as well, and
//! the server that gets or loses a place by it. Nothing costs more for the number of the others.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod expose;
mod index;
mod places;

pub use index::{Change, Encoded, Index, Key, Plan, ServerPlan};

#[cfg(test)]
mod tests;

//! Development only: golden files, and the corpus of decision cases that every judge of a request must agree on.
#![expect(clippy::panic, reason = "a failed expectation in a test")]

pub mod cases;
mod golden;

pub use golden::assert_golden;

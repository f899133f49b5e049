//! Development only: golden files, the corpus of decision cases that every judge of a request must agree on, and (by the
//! feature `api-server`) a Kubernetes API server.
#![expect(clippy::panic, reason = "a failed expectation in a test")]

#[cfg(feature = "api-server")]
mod api_server;
pub mod cases;
mod golden;

#[cfg(feature = "api-server")]
pub use api_server::{ApiServer, VARIABLE as KUBE_BIN};
pub use golden::assert_golden;

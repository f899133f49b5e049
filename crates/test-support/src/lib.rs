//! Development only: golden files, the corpus of decision cases that every judge of a request must agree on, and (by the
//! features `api-server` and `clickhouse`) a Kubernetes API server and ClickHouse.
#![expect(clippy::panic, reason = "a failed expectation in a test")]

#[cfg(feature = "api-server")]
mod api_server;
pub mod cases;
#[cfg(feature = "clickhouse")]
mod clickhouse;
mod golden;
mod ports;

#[cfg(feature = "api-server")]
pub use api_server::{ApiServer, VARIABLE as KUBE_BIN};
#[cfg(feature = "clickhouse")]
pub use clickhouse::ClickHouseServer;
pub use golden::assert_golden;
pub use ports::free_address;

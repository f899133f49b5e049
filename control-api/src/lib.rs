//! REST over the governance resources and the audit events.
//!
//! ```text
//!   client ─▶ key ─▶ limits ─▶ v1/<resource>/<verb> ─┬─▶ Resources (a directory of manifests, or a Kubernetes API server)
//!                                                    ├─▶ EventStore (read only)
//!                                                    ├─▶ the control plane: what is enforced where
//!                                                    └─▶ explain: the judge that the proxy runs
//! ```
//!
//! Every path is closed without a key, but for health and the OpenAPI document. The router and the document are made
//! from one table of routes.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod app;
mod args;
mod auth;
mod directory;
mod enforcement;
mod error;
mod explain;
mod input;
mod keys;
mod kubernetes;
mod live;
mod metrics;
mod openapi;
mod resources;
mod serve;
mod v1;

pub use args::Args;
pub use serve::run;

#[cfg(test)]
mod tests;

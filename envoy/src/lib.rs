//! The bootstrap of a proxy: all that Envoy is told in files. Everything else comes over xDS.
//!
//! [`render`] is one template for every kind of proxy; [`sidecar`] is how a gateway beside a server in Kubernetes is
//! told.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod bootstrap;
pub mod sidecar;

pub use bootstrap::{Bootstrap, Node, Service, Watched, authority_file, render, token_file};

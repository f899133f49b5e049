//! The Kubernetes resource types of `mcpruntime.org/v1alpha1`, their rules, and manifests of them.
//!
//! The schema that is generated from these types is the one source of defaults, bounds and rules: the API server
//! applies it, and [`manifest`] applies the same schema, CEL rules included, to files. Neither can drift from the other.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod crds;
pub mod duration;
pub mod manifest;
mod object;
mod ports;
pub mod schema;
mod stored;
pub mod v1alpha1;
pub mod words;

pub use crds::crds;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
pub use kube::core::ObjectMeta;
pub use object::{Kind, Object};
pub use ports::{GATEWAY_ADMIN_PORT, GATEWAY_LIFECYCLE_PORT, GATEWAY_PORTS};
pub use stored::{Unfit, load_stored};

/// API group of all resources.
pub const GROUP: &str = "mcpruntime.org";
/// Group and version as `apiVersion` has it.
pub const API_VERSION: &str = "mcpruntime.org/v1alpha1";

//! What the cluster must hold for a server: pure functions from an MCPServer, the platform's settings and the state of its
//! rollout to Kubernetes objects. No client, no clock.
//!
//! ```text
//! MCPServer + Settings ──prepare──▶ Prepared (pod template, its hash) ──decide (rollout)──▶ which template on which track
//!                                        └──────────────────────objects──────────────────▶ Vec<Child>
//! ```
//!
//! Either every object of a server can be rendered, or none is: [`prepare`] answers with all that is wrong, by field path.
//! Admission and status call [`check`], which is the same code.

mod child;
mod container;
mod env;
mod gateway;
mod image;
pub mod names;
mod network;
mod objects;
mod place;
mod prepare;
mod quantity;
mod registry;
pub mod rollout;
mod settings;
mod template;

pub use child::{Child, ChildKey, ChildKind};
pub use env::references as secret_references;
pub use objects::{Replicas, Tracks, objects, revision, withdrawn};
pub use place::claim;
pub use prepare::{Outcome, Prepared, check, prepare};
pub use sallyport_envoy::sidecar::Files as GatewayFiles;
pub use settings::{IngressDefaults, Registry, RenderArgs, Settings, gateway_files};
pub use template::{Secrets, Template};

#[cfg(test)]
mod tests;

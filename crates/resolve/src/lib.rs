//! Pure functions from resources to policy, with every problem named by its field path.
//!
//! The index (live), the webhook, the control API (dry run, explain) and status all call these, so they agree.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod access;
mod exposure;
mod place;
mod problem;
mod server;

pub use access::{Resolved, resolve_grant, resolve_session, server_of};
pub use exposure::{Exposure, Upstream, exposure};
pub use place::{Place, collision, place, public_path};
pub use problem::{Problem, Severity};
pub use server::{Settings, object_id, resolve_server};

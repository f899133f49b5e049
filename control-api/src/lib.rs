//! REST over the governance resources and the audit events.
//!
//! In directory mode the directory is the truth: reads load it, writes change one document of it, and the control
//! plane picks the change up as if a person had made it.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod args;
mod auth;
mod directory;
mod enforcement;
mod error;
mod process;
mod routes;
mod state;
mod v1;

pub use args::Args;
pub use process::run;

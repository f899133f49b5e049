//! The decision core: policy, subject, session, call and time in; verdict with its reason out.
//!
//! ```text
//!   ServerPolicy, Grant, Session ──▶ Store ──┐
//!                                            ├──▶ decide ──▶ Verdict { decision, reason, evidence }
//!   Identity, Call, now ─────────────────────┘
//! ```
//!
//! It knows no bytes, no clock, no host and no I/O: `no_std`, and time is a parameter, so the filter, the explain
//! endpoint and a replay give the same verdict for the same input.
#![no_std]
#![deny(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::wildcard_enum_match_arm
)]
#![forbid(unsafe_code)]

extern crate alloc;

mod decide;
mod explain;
mod model;
mod reason;
mod store;

pub use decide::{Call, Identity, Target, Verdict, decide, decide_explained, needs_state};
pub use explain::{Outcome, Step, Trace};
pub use model::{
    AuditArguments, AuditOverload, Auth, AuthMode, DEFAULT_MAX_ARGUMENT_BYTES, DEFAULT_MAX_REQUEST_BYTES,
    DenyResponse, EnforceOn, Grant, Mode, ObjectId, ServerPolicy, Session, SessionRules, SideEffect,
    SideEffects, Subject, Tool, ToolRule, Trust,
};
pub use reason::{Family, Reason};
pub use store::{GrantEntry, IdentifiersTooLong, Server, SessionEntry, Store};

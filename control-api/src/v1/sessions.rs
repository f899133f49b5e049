//! Sessions: the user's gate.

pub(super) mod apply;
pub(super) mod get;
pub(super) mod list;
pub(super) mod patch;
pub(super) mod revoke;
pub(super) mod unrevoke;

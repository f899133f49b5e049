//! Grants: the administrator's gate.

pub(super) mod apply;
pub(super) mod disable;
pub(super) mod enable;
pub(super) mod get;
pub(super) mod list;
pub(super) mod patch;

//! The dashboard.

pub(super) mod summary;

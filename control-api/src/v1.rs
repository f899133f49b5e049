//! Handlers, by resource.

pub(crate) mod access;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod servers;
pub(crate) mod toggle;

//! The whole router over a directory, an event store and a control plane of the test's own.

mod api;
mod cases;
mod events;
mod explain;
mod grants;
mod routes;
pub(crate) mod support;

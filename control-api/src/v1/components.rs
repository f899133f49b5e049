//! The parts that run.

pub(super) mod list;

//! The real things from outside.

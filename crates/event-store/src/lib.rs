//! Where audit events are kept and asked for: the traits, and the embedded store.

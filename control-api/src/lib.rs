//! REST over the governance resources and the audit events.

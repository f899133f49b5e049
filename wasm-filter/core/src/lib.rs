//! The filter's host-free state machine: events in, effects out.

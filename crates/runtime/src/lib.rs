//! What every native process shares: tracing, metrics, admin HTTP, shutdown, TLS and token files.

//! Logs.

use tracing_subscriber::EnvFilter;

/// Writes logs to standard error, at `info` unless `SALLYPORT_LOG` says otherwise (for example `debug` or
/// `sallyport_operator=debug`). A second call changes nothing.
pub fn init() {
    let filter = EnvFilter::try_from_env("SALLYPORT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // Only the first of several in one process can be heard.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}

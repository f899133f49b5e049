//! Logs, and traces where a collector is named.

mod context;
mod export;

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use context::{continue_trace, pass_trace_on};
pub use export::ExportError;

/// The spans that are exported are those of our own crates.
const OURS: &str = "sallyport";
/// How long a process that ends waits for its last spans to be sent; less than it is given to end.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Keeps the traces of a process until they are sent.
#[derive(Debug, Default)]
#[must_use = "spans that are not flushed are lost"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Writes logs to standard error, at `info` unless `SALLYPORT_LOG` says otherwise (for example `debug` or
/// `sallyport_operator=debug`). Colours are for terminals only, and not where `NO_COLOR` is set. Where
/// `OTEL_EXPORTER_OTLP_ENDPOINT` is set, spans go there by OTLP over gRPC, as those of the service
/// `sallyport-<component>`. Only the first call of a process counts. Call it within the runtime.
///
/// # Errors
/// A collector is named and cannot be used.
pub fn init(component: &str) -> Result<Telemetry, ExportError> {
    let filter = EnvFilter::try_from_env("SALLYPORT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let no_color = std::env::var_os("NO_COLOR");
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(is_coloured(std::io::stderr().is_terminal(), no_color.as_deref()))
        .with_target(false)
        .with_filter(filter);
    let provider = export::provider(component, |name| std::env::var(name).ok())?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(OURS))
            .with_filter(Targets::new().with_target(OURS, LevelFilter::DEBUG))
    });
    // Only the first of several in one process can be heard.
    let _ = tracing_subscriber::registry().with(logs).with(traces).try_init();
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Sends what is left, for two seconds at most. Spans that are still open are lost.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else {
            return;
        };
        // It blocks until the exporter is through, which needs the runtime's threads.
        let sent = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_SPANS)).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "not every span could be sent"),
            Err(error) => tracing::warn!(%error, "spans are lost"),
        }
    }
}

fn is_coloured(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        assert!(is_coloured(true, None));
        assert!(is_coloured(true, Some(OsStr::new(""))));
        assert!(!is_coloured(true, Some(OsStr::new("1"))));
        assert!(!is_coloured(false, None));
    }
}

//! The process around the routes.

use std::sync::Arc;

use anyhow::Context;
use sallyport_event_store::Embedded;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::auth::ApiKeys;
use crate::directory::Directory;
use crate::enforcement::Operator;
use crate::routes;
use crate::state::AppState;

/// Runs until `shutdown`.
///
/// # Errors
/// No keys, or the address is taken.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listed = std::env::var("SALLYPORT_API_KEYS").ok();
    let state = AppState {
        keys: ApiKeys::load(args.api_keys_file.as_deref(), listed.as_deref())?,
        directory: Arc::new(Directory::new(&args.config)),
        events: Arc::new(Embedded::reader(&args.db)),
        operator: Operator { operator: args.operator, ingest: args.ingest, http: reqwest::Client::new() },
    };
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let served =
        axum::serve(listener, routes::router(state)).with_graceful_shutdown(shutdown.cancelled_owned());
    served.await.context("HTTP server")
}

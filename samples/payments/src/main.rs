//! A payments MCP server over streamable HTTP, on the official Rust SDK; it speaks both protocol eras.
//!
//! It knows nothing of grants, sessions or consent: who may call what is decided in front of it. So it must be reachable only
//! through the gateway, and may then believe the identity headers that the gateway sets.
//!
//! ```text
//! agent ──▶ gateway (may it?) ──▶ server.rs (MCP: tools, prompt, resources) ──▶ ledger.rs (invoices)
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use rmcp::transport::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::{StreamableHttpService, session::local::LocalSessionManager};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::ledger::Ledger;
use crate::server::Payments;

mod ledger;
mod server;

/// Serves MCP at /mcp.
#[derive(Debug, Parser)]
#[command(name = "payments-mcp", version)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8088")]
    listen: SocketAddr,
    /// A host name, besides those of loopback, by which callers reach the gateway; other `Host` headers are refused.
    #[arg(long = "allow-host", value_name = "HOST")]
    allowed_hosts: Vec<String>,
    /// Take any `Host` header: something before this server judges it.
    #[arg(long, conflicts_with = "allowed_hosts")]
    allow_any_host: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,payments_mcp=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let Args { listen, allowed_hosts, allow_any_host } = Args::parse();
    // One ledger for all callers; the SDK makes a `Payments` for each session or request.
    let ledger = Arc::new(Ledger::with_samples());
    let mut config = StreamableHttpServerConfig::default();
    config.allowed_hosts.extend(allowed_hosts);
    if allow_any_host {
        config = config.disable_allowed_hosts();
    }
    let stopping = config.cancellation_token.clone();
    // What Kubernetes sends. The first process of a container is not ended by it, unless it asks for it.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    let service = StreamableHttpService::new(
        move || Ok(Payments::new(Arc::clone(&ledger))),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    tracing::info!(listen = %listener.local_addr()?, path = "/mcp", "serving");
    let router = axum::Router::new().nest_service("/mcp", service);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            stopping.cancel();
        })
        .await?;
    Ok(())
}

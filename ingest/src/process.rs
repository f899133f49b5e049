//! The process around the service.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use sallyport_audit_proto::chain::Head;
use sallyport_audit_proto::v1::audit_ingest_server::AuditIngestServer;
use sallyport_event_store::{Embedded, EventSink, Limits};
use sallyport_runtime::admin::{self, Readiness};
use sallyport_runtime::identity::{Authenticate, TokenReviews};
use sallyport_runtime::tls::{GRPC, Served, TlsFiles, TlsListener};
use sallyport_runtime::tokens::Tokens;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::args::Args;
use crate::metrics::Metrics;
use crate::service::Ingest;

/// Largest batch, in bytes.
const MAX_BATCH: usize = 8 << 20;
/// Batches of one connection at work at once.
const CONCURRENT: usize = 64;

/// A proxy that is gone without a word is noticed after this.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Runs until `shutdown`.
///
/// # Errors
/// The store, a credential or an address cannot be used.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let limits = Limits {
        max_bytes: args.max_megabytes << 20,
        max_age: Duration::from_secs(u64::from(args.max_days) * 86_400),
    };
    let store =
        Embedded::open(&args.db, limits).with_context(|| format!("cannot open {}", args.db.display()))?;
    let heads = store.heads().await.context("cannot read the chains")?;
    let heads = heads
        .into_iter()
        .map(|head| (head.name, Arc::new(Mutex::new(Some(Head { seq: head.seq, hash: head.hash })))))
        .collect();
    let mut registry = Registry::default();
    let readiness = Readiness::default();
    let service = Ingest {
        sink: store,
        proxies: proxies(&args).await?,
        metrics: Metrics::register(&mut registry),
        readiness: readiness.clone(),
        heads: Mutex::new(heads),
    };
    let files = TlsFiles::within(&args.tls_dir);
    let certificate = Served::from_files(&files).context("certificate of the ingest")?;
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let incoming = TlsListener::new(listener, certificate.config(GRPC)?)?.into_stream();
    let grpc = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .concurrency_limit_per_connection(CONCURRENT)
        .add_service(AuditIngestServer::new(service).max_decoding_message_size(MAX_BATCH))
        .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    readiness.set(true);
    let admin = admin::serve(args.admin, registry, readiness, axum::Router::new(), shutdown.clone());
    tokio::select! {
        result = grpc => result.context("gRPC server"),
        result = admin => result.with_context(|| format!("admin server on {}", args.admin)),
        () = certificate.follow_files(files) => Ok(()),
    }
}

/// Who tells what a bearer token is worth.
async fn proxies(args: &Args) -> anyhow::Result<Arc<dyn Authenticate>> {
    match &args.tokens {
        Some(tokens) => Ok(Arc::new(Tokens::open(tokens).context("tokens of proxies")?)),
        None => {
            let reviews = TokenReviews::of_this_cluster().await;
            Ok(Arc::new(reviews.context("no API server: run in a cluster, or set KUBECONFIG")?))
        }
    }
}

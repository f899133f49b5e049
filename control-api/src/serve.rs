//! The process around the router.

use std::future::IntoFuture;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use sallyport_event_store::{ClickHouse, Embedded, EventStore};
use sallyport_resolve::Settings;
use sallyport_runtime::admin::{self, Readiness};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::app::{App, MAX_REQUESTS, Parts, router};
use crate::args::Args;
use crate::auth::{Keys, VARIABLE};
use crate::directory::Directory;
use crate::enforcement::Peer;
use crate::keys::Origins;
use crate::kubernetes::Kubernetes;
use crate::live::{Live, Patience};
use crate::metrics::Metrics;
use crate::resources::Resources;

/// How long requests at work may take to end after `shutdown`.
const GRACE: Duration = Duration::from_secs(3);

/// Runs until `shutdown`.
///
/// # Errors
/// There are no API keys, the directory is none, or an address cannot be used.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (resources, secret) = open(&args, &shutdown).await?;
    let origins = Origins { file: args.api_keys_file.clone(), variable: std::env::var_os(VARIABLE), secret };
    let keys = Keys::new(origins.read().await?);
    let events = events(&args)?;
    let Args { listen, operator, ingest, admin, cluster_name, .. } = args;
    let mut registry = Registry::default();
    let app = App::new(Parts {
        resources,
        events,
        live: Live::new(Patience::default(), shutdown.clone()),
        operator: peer("operator", &operator)?,
        ingest: peer("ingest", &ingest)?,
        keys: keys.clone(),
        metrics: Metrics::register(&mut registry),
        settings: Settings { cluster: cluster_name },
        permits: Semaphore::new(MAX_REQUESTS),
    });
    let listener =
        tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    tracing::info!(%listen, "control API listens");
    let readiness = Readiness::default();
    readiness.set(true);
    tokio::spawn(Live::watch(app.clone()));
    let api = axum::serve(listener, router(app))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let health = async {
        match admin {
            Some(address) => {
                admin::serve(address, registry, readiness, axum::Router::new(), shutdown.clone())
                    .await
                    .with_context(|| format!("admin server on {address}"))
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = api => result.context("HTTP server"),
        result = health => result,
        () = late => Ok(()),
        () = origins.follow(keys) => Ok(()),
    }
}

/// Where events are kept.
fn events(args: &Args) -> anyhow::Result<Box<dyn EventStore>> {
    Ok(match (args.clickhouse.access()?, &args.db) {
        (Some(access), _) => Box::new(ClickHouse::new(access)),
        (None, Some(db)) => Box::new(Embedded::reader(db)),
        (None, None) => anyhow::bail!("no event store; give --db or --clickhouse"),
    })
}

/// Where resources are kept, and the Secret of API keys that is kept there.
async fn open(
    args: &Args,
    shutdown: &CancellationToken,
) -> anyhow::Result<(Box<dyn Resources>, Option<(kube::Client, String)>)> {
    if let Some(config) = &args.config {
        anyhow::ensure!(
            config.is_dir(),
            "{} is no directory; give the one that holds the manifests",
            config.display()
        );
        return Ok((Box::new(Directory::new(config)), None));
    }
    let client = kube::Client::try_default()
        .await
        .context("no Kubernetes is known; run in a pod, or set KUBECONFIG")?;
    let keys = args.api_keys_secret.clone().map(|name| (client.clone(), name));
    Ok((Box::new(Kubernetes::start(client, shutdown)), keys))
}

fn peer(flag: &str, url: &str) -> anyhow::Result<Peer> {
    let is_http = url.strip_prefix("http://").is_some_and(|rest| !rest.trim_matches('/').is_empty());
    anyhow::ensure!(is_http, "--{flag} is `{url}`; must be like http://127.0.0.1:18002");
    Peer::new(url).context("HTTP client")
}

//! The cluster as source of objects, and one target for each server.
//!
//! ```text
//!   API server ─▶ source (a watch per kind) ─▶ Control ─▶ index, targets ─▶ xDS ─▶ proxies
//!                                                │ news of objects           │ news of proxies
//!                                                └──────────▶ Hub ◀──────────┘
//!                                         workloads, status, webhook: each `async fn run(hub)`
//! ```
//!
//! Every replica watches, and serves xDS; only the one that leads writes. xDS is served from the first complete state on:
//! until then a proxy keeps what it has.

mod admit;
mod backoff;
mod client;
mod feed;
mod leader;
mod metrics;
mod parts;
mod peers;
mod source;
mod taking;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use kube::{Api, Client};
use prometheus_client::registry::Registry;
use sallyport_operator_index::{Index, Key};
use sallyport_operator_ir::Address;
use sallyport_operator_xds::{Service, serve};
use sallyport_policy::ObjectId;
use sallyport_resolve::Settings;
use sallyport_runtime::admin::Readiness;
use sallyport_runtime::files::random_hex;
use sallyport_runtime::identity::TokenReviews;
use sallyport_runtime::tls::{GRPC, Served, TlsFiles, TlsListener};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Shared};
use crate::args::Args;
use crate::certificates::Certificates;
use crate::control::{Common, Control};
use crate::digest_key::{DigestKey, KeyKeeper};
use crate::enforcement::Enforcement;
use crate::metrics::{Metrics, register_proxies};
use crate::profiling;
use crate::revisions::Revisions;
use crate::targets::Targets;

pub(crate) use peers::Peers;

use admit::PodsOnly;
use feed::Feed;
use leader::Candidate;
use metrics::WatchMetrics;
use taking::Taking;

/// The Lease of the replica that writes.
const LEASE: &str = "sallyport-operator";
/// The Service that resolves to every replica.
const PEERS: &str = "sallyport-operator-peers";
/// Where a sidecar finds the filter's module.
const MODULE: &str = "/opt/sallyport/filter.wasm";
/// Giving the Lease up takes no longer.
const LEAVE: Duration = Duration::from_secs(3);

/// What the parts of the operator share.
#[derive(Clone)]
pub(crate) struct Hub {
    pub(crate) client: Client,
    pub(crate) args: Arc<Args>,
    /// What proxies and the API server are shown, on xDS and by the webhook; without one every handshake fails.
    pub(crate) certificate: Arc<Served>,
    /// Who vouches for operator and ingest, as PEM; empty until it is known.
    pub(crate) authorities: watch::Receiver<String>,
    /// All objects as they are stored, status included, and what is wrong with them.
    pub(crate) index: Arc<Mutex<Index>>,
    /// Who is connected.
    pub(crate) targets: Targets,
    /// What is enforced where.
    pub(crate) enforcement: Enforcement,
    /// Whether this replica writes.
    pub(crate) leader: watch::Receiver<bool>,
    /// Whether every object is known; once true it stays so.
    pub(crate) complete: watch::Receiver<bool>,
    /// Tells of objects that changed in any way, status included, or are gone.
    pub(crate) objects: Feed<Key>,
    /// Tells of servers whose proxies came, went or answered.
    pub(crate) proxies: Feed<ObjectId>,
    pub(crate) shutdown: CancellationToken,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

/// Runs on the cluster that the environment names, until `shutdown`.
pub(crate) async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let client = client::connect(args.kubeconfig.as_deref()).await?;
    run_on(client, args, shutdown).await
}

/// Runs on the cluster of `client`, until `shutdown`.
pub(crate) async fn run_on(client: Client, args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let namespace = args.namespace.clone().unwrap_or_else(|| client.default_namespace().into());
    let identity = format!("{}-{}", args.pod_name, random_hex::<4>());
    let (candidate, leader) = Candidate::new(Api::namespaced(client.clone(), &namespace), LEASE, identity);
    let certificate = certificate(&args)?;
    let shown = if args.tls_dir.is_some() { Arc::default() } else { certificate.clone() };
    let (certificates, authorities) = Certificates::new(client.clone(), &namespace, shown);
    let mut registry = Registry::default();
    metrics::register_leader(&mut registry, leader.clone());
    let metrics = Metrics::register(&mut registry);
    let watch_metrics = WatchMetrics::register(&mut registry);
    let index = Arc::new(Mutex::new(Index::new(Settings { cluster: args.cluster_name.clone() })));
    let (targets, (applied, rung), (whole, complete)) =
        (Targets::per_server(), watch::channel(0), watch::channel(false));
    register_proxies(&mut registry, targets.clone());
    let enforcement = Enforcement {
        targets: targets.clone(),
        index: index.clone(),
        applied: rung,
        peers: peers(&args, &namespace)?,
        filters: args.gateway_filters,
    };
    let hub = Hub {
        client: client.clone(),
        args: Arc::new(args.clone()),
        certificate,
        authorities,
        index: index.clone(),
        targets: targets.clone(),
        enforcement: enforcement.clone(),
        leader,
        complete,
        objects: Feed::default(),
        proxies: Feed::default(),
        shutdown: shutdown.clone(),
    };
    let control =
        Control { index, targets, metrics, common: common(&args), revisions: Revisions::default(), applied };
    let readiness = Readiness::default();
    let shared = Shared { enforcement, problems: Arc::default() };
    let (keeper, digest_key) = digest_key(&hub, &namespace)?;
    let mut parts = parts::start(&hub, &namespace, certificates, &mut registry);
    if let Some(keeper) = keeper {
        parts.spawn(keeper.run(hub.leader.clone()).map(Ok));
    }
    let profiles = args.profiling.then(|| profiling::router(shared.clone()));
    let admin = admin::serve(args.admin, shared, registry, readiness.clone(), profiles, shutdown.clone());
    let taking = Taking::new(&hub, control, digest_key, whole, watch_metrics);
    let leading = tokio::spawn(candidate.run(shutdown.clone()));
    let result = tokio::select! {
        result = taking.run() => result,
        result = serve_proxies(&hub, &readiness) => result,
        result = admin => result.with_context(|| format!("admin server on {}", args.admin)),
        Some(ended) = parts.join_next() => ended.map_err(anyhow::Error::from).and_then(|result| result),
        () = shutdown.cancelled() => Ok(()),
    };
    shutdown.cancel();
    // A Lease that is given up is taken at once; one that is not stands for a while.
    let _ = tokio::time::timeout(LEAVE, leading).await;
    result
}

/// The other replicas, where this one knows its own address.
fn peers(args: &Args, namespace: &str) -> anyhow::Result<Option<Peers>> {
    let name = match (&args.peers, args.pod_ip) {
        (Some(name), _) => name.clone(),
        (None, Some(_)) => format!("{PEERS}.{namespace}.svc:{}", args.admin.port()),
        (None, None) => return Ok(None),
    };
    Ok(Some(Peers::new(name, args.pod_ip)?))
}

fn common(args: &Args) -> Common {
    let port = args.gateway_listen.port();
    Common {
        listen: Address { host: "0.0.0.0".into(), port },
        module: MODULE.into(),
        // Each goes by the name of its pod.
        proxy: String::new(),
        // Before anything is told to proxies, Taking knows it.
        digest_key: DigestKey::default(),
    }
}

/// The key of argument digests: of the file, where one is named; else of the Secret, with who keeps it.
fn digest_key(
    hub: &Hub,
    namespace: &str,
) -> anyhow::Result<(Option<KeyKeeper>, watch::Receiver<Option<DigestKey>>)> {
    Ok(match hub.args.digest_key()? {
        Some(bytes) => (None, watch::channel(Some(DigestKey::fixed(bytes))).1),
        None => {
            let (keeper, key) = KeyKeeper::new(hub.client.clone(), namespace);
            (Some(keeper), key)
        }
    })
}

/// The certificate in `--tls-dir`, where that is given; else none yet.
fn certificate(args: &Args) -> anyhow::Result<Arc<Served>> {
    let Some(folder) = &args.tls_dir else {
        return Ok(Arc::default());
    };
    let files = TlsFiles::within(folder);
    let served = Served::from_files(&files).context("certificate of the control plane")?;
    tokio::spawn(served.clone().follow_files(files));
    Ok(served)
}

async fn serve_proxies(hub: &Hub, readiness: &Readiness) -> anyhow::Result<()> {
    let args = &hub.args;
    let tls = hub.certificate.config(GRPC)?;
    let mut complete = hub.complete.clone();
    complete.wait_for(|complete| *complete).await?;
    let on = || format!("xDS server on {}", args.listen);
    let listener = TcpListener::bind(args.listen).await.with_context(on)?;
    let incoming = TlsListener::new(listener, tls)?.into_stream();
    let authenticate = Arc::new(TokenReviews::new(hub.client.clone()));
    let service = Service::new(PodsOnly { authenticate, targets: hub.targets.clone() }, args.ttl());
    readiness.set(true);
    tracing::info!(xds = %args.listen, admin = %args.admin, "control plane ready");
    serve(incoming, service, hub.shutdown.clone().cancelled_owned()).await.with_context(on)
}

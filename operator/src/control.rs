//! The loop: directory in, world out.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use envoy_types::pb::google::protobuf::Any;
use prometheus_client::registry::Registry;
use prost::Message;
use sallyport_api::Kind;
use sallyport_api::manifest::ManifestProblem;
use sallyport_operator_index::{Change, Index, Plan};
use sallyport_operator_ir::{Address, ProxyPlan};
use sallyport_operator_xds::{Admission, Admit, Proxies, Service, SharedWorld, World, render, serve, types};
use sallyport_policy_proto::v1;
use sallyport_resolve::Settings;
use sallyport_runtime::admin::Readiness;
use sallyport_runtime::tls::TlsFiles;
use sallyport_runtime::tokens::Tokens;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::ServerTlsConfig;

use crate::admin::{self, Shared};
use crate::args::Args;
use crate::directory::{Directory, Dirty, Update};
use crate::metrics::{KindLabel, Metrics};
use crate::revisions::Revisions;
use crate::watch::Watch;

/// Envoy clusters of the bootstrap.
const XDS_CLUSTER: &str = "sallyport_control_plane";
const AUDIT_CLUSTER: &str = "sallyport_ingest";

/// Tokens of proxies, and the one proxy that this control plane configures.
struct Credentials {
    tokens: Tokens,
    proxy: String,
    world: SharedWorld,
}

impl Admit for Credentials {
    fn admit(&self, token: &str) -> Admission {
        match self.tokens.proxy(token) {
            None => Admission::Unknown,
            Some(proxy) if proxy == self.proxy => Admission::Served(proxy, self.world.clone()),
            Some(proxy) => Admission::NotServed(proxy),
        }
    }
}

/// Runs until `shutdown`.
///
/// # Errors
/// The directory, a credential or an address cannot be used.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.config.is_dir(),
        "{} is no directory; give the one that holds the manifests",
        args.config.display()
    );
    // The watcher tells absolute paths, whatever it was given.
    let root = std::path::absolute(&args.config)?;
    let tokens = Tokens::open(&args.tokens).context("tokens of proxies")?;
    let identity = TlsFiles::within(&args.tls_dir).identity().context("certificate of the control plane")?;
    let digest_key = match &args.digest_key_file {
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        None => Vec::new(),
    };
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let shared = Shared {
        world: SharedWorld::default(),
        proxies: Proxies::default(),
        index: Arc::new(Mutex::new(Index::new(Settings { cluster: args.cluster_name.clone() }))),
        problems: Arc::default(),
    };
    let readiness = Readiness::default();
    let ttl = Some(args.ecds_ttl).filter(|ttl| !ttl.is_zero());
    let credentials = Credentials { tokens, proxy: args.proxy.clone(), world: shared.world.clone() };
    let service = Service::new(shared.proxies.clone(), credentials, ttl);
    let tls = ServerTlsConfig::new().identity(identity);
    let following = metrics.clone().follow(shared.world.clone(), shared.proxies.clone(), shutdown.clone());
    let admin = admin::serve(args.admin, shared.clone(), registry, readiness.clone(), shutdown.clone());
    let mut control =
        Control { args: args.clone(), digest_key, shared, metrics, revisions: Revisions::default() };
    // Watching begins before reading, so that nothing falls between.
    let mut watch = Watch::new(&root).with_context(|| format!("cannot watch {}", root.display()))?;
    let governing = async {
        let (mut directory, first) = read(Directory::new(&root), Dirty::All).await?;
        control.apply(first.with_context(|| format!("cannot read {}", root.display()))?, true).await;
        // Proxies that hold a good state keep it until ours is whole.
        let on = || format!("xDS server on {}", args.listen);
        let listener = TcpListener::bind(args.listen).await.with_context(on)?;
        let xds = serve(listener, service, tls, shutdown.clone().cancelled_owned());
        readiness.set(true);
        tracing::info!(config = %root.display(), xds = %args.listen, admin = %args.admin, "control plane ready");
        let watching = async {
            loop {
                let update;
                (directory, update) = read(directory, watch.changed().await).await?;
                match update {
                    Ok(update) => control.apply(update, false).await,
                    // The last good state stays.
                    Err(error) => tracing::warn!(%error, "directory cannot be read"),
                }
            }
        };
        tokio::select! {
            result = xds => result.map_err(|error| anyhow::anyhow!("{}: {error}", on())),
            result = watching => result,
        }
    };
    tokio::select! {
        result = governing => result,
        result = admin => result.with_context(|| format!("admin server on {}", args.admin)),
        () = following => Ok(()),
        () = shutdown.cancelled() => Ok(()),
    }
}

/// Reads the directory aside: many manifests take their time, and health is answered meanwhile.
async fn read(
    mut directory: Directory,
    dirty: Dirty,
) -> anyhow::Result<(Directory, std::io::Result<Update>)> {
    let reading = move || {
        let update = directory.read(&dirty);
        (directory, update)
    };
    Ok(tokio::task::spawn_blocking(reading).await?)
}

struct Control {
    args: Args,
    digest_key: Vec<u8>,
    shared: Shared,
    metrics: Metrics,
    revisions: Revisions,
}

impl Control {
    #[tracing::instrument(name = "operator.change", level = "debug", skip_all, fields(
        upserts = update.upserts.len(), removals = update.removals.len(), problems = update.problems.len(),
    ))]
    async fn apply(&mut self, update: Update, first: bool) {
        let known = std::mem::replace(&mut *lock(&self.shared.problems), update.problems.clone());
        for problem in update.problems.iter().filter(|problem| !known.contains(problem)) {
            tracing::warn!(reason = problem.reason, "{problem}");
        }
        self.metrics.problems.set(i64::try_from(update.problems.len()).unwrap_or(i64::MAX));
        if !first && update.upserts.is_empty() && update.removals.is_empty() {
            return;
        }
        let (changes, plan) = {
            let mut index = lock(&self.shared.index);
            let mut changes = Vec::new();
            // Servers first: what names them resolves once.
            let (servers, others): (Vec<_>, Vec<_>) =
                update.upserts.into_iter().partition(|(object, _)| object.kind() == Kind::Server);
            for (object, modified) in servers.into_iter().chain(others) {
                self.count(object.kind());
                changes.extend(index.upsert(object, Some(modified)));
            }
            for key in &update.removals {
                self.count(key.0);
                changes.extend(index.remove(key));
            }
            let plan = (first || changes.contains(&Change::Plan)).then(|| index.plan());
            report(&index, &changes);
            (changes, plan)
        };
        let plan = plan.map(|plan| self.proxy_plan(plan));
        self.shared
            .world
            .change(|world| {
                let before = world.seq();
                for change in changes {
                    apply_access(world, change);
                }
                if let Some(plan) = &plan {
                    render::apply(plan, world);
                }
                // Before anyone can answer it.
                if world.seq() != before {
                    self.metrics.begin(world.seq());
                }
            })
            .await;
    }

    fn count(&self, kind: Kind) {
        self.metrics.changes.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }

    fn proxy_plan(&mut self, plan: Plan) -> ProxyPlan {
        let servers: Vec<v1::Server> = plan.servers.iter().map(v1::Server::from).collect();
        let config = self.revisions.stamp(v1::FilterConfig {
            servers,
            xds_cluster: XDS_CLUSTER.into(),
            audit_cluster: AUDIT_CLUSTER.into(),
            proxy: self.args.proxy.clone(),
            digest_key: self.digest_key.clone(),
            ..v1::FilterConfig::default()
        });
        let listen = &self.args.gateway_listen;
        ProxyPlan {
            listen: Address { host: listen.ip().to_string(), port: listen.port() },
            max_body_bytes: plan.servers.iter().map(|server| server.max_request_bytes).max().unwrap_or(0),
            routes: plan.routes,
            upstreams: plan.upstreams,
            module: absolute(&self.args.wasm),
            filter_config: config.encode_to_vec(),
        }
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

fn apply_access(world: &mut World, change: Change) {
    let Change::Access((kind, id), encoded) = change else {
        return;
    };
    let type_url = match kind {
        Kind::Grant => types::GRANT,
        Kind::Session => types::SESSION,
        Kind::Server => return,
    };
    let body = encoded.map(|e| (Any { type_url: type_url.into(), value: e.bytes }, e.version));
    world.set(type_url, &id.to_string(), body);
}

/// Tells of what is wrong with the objects that changed.
fn report(index: &Index, changes: &[Change]) {
    let servers = changes.contains(&Change::Plan);
    let accesses = changes.iter().filter_map(|change| match change {
        Change::Access(key, _) => Some(key),
        Change::Plan => None,
    });
    let all = index.problems().keys().filter(|key| servers && key.0 == Kind::Server);
    for key in accesses.chain(all) {
        for problem in index.problems().get(key).into_iter().flatten() {
            tracing::warn!(
                object = %format_args!("{} {}", key.0.as_str(), key.1), path = problem.path, reason = problem.reason,
                "{}", problem.message
            );
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Problems of files, shared.
pub(crate) type FileProblems = Arc<Mutex<Vec<ManifestProblem>>>;

//! A directory of manifests, and one proxy for all servers in it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use prometheus_client::registry::Registry;
use sallyport_operator_index::Index;
use sallyport_operator_ir::Address;
use sallyport_operator_xds::{Admission, Admit, Service, Target, serve};
use sallyport_resolve::Settings;
use sallyport_runtime::admin::Readiness;
use sallyport_runtime::tls::{GRPC, Served, TlsFiles, TlsListener};
use sallyport_runtime::tokens::Tokens;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, FileProblems, Shared};
use crate::args::Args;
use crate::control::{Common, Control, Delta};
use crate::digest_key::DigestKey;
use crate::directory::{Directory, Dirty, Update};
use crate::enforcement::Enforcement;
use crate::lock::lock;
use crate::metrics::{self, Metrics};
use crate::profiling;
use crate::revisions::Revisions;
use crate::targets::{Targets, Tracked};
use crate::watch::Watch;

/// Tokens of proxies, and the one proxy that this control plane configures.
struct Credentials {
    tokens: Tokens,
    proxy: String,
    target: Target,
}

impl Admit for Credentials {
    async fn admit(&self, token: &str) -> Admission {
        match self.tokens.proxy(token) {
            None => Admission::Unknown,
            Some(proxy) if proxy == self.proxy => Admission::Served(proxy, self.target.clone()),
            Some(proxy) => Admission::NotServed(proxy),
        }
    }
}

/// Runs until `shutdown`.
///
/// # Errors
/// The directory, a credential or an address cannot be used.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let root = manifests(&args)?;
    let tokens = args.tokens.as_deref().context("give --tokens, the file of proxies' tokens")?;
    let tokens = Tokens::open(tokens).context("tokens of proxies")?;
    let tls_dir = args.tls_dir.as_deref().context("give --tls-dir, the folder of the certificate")?;
    let files = TlsFiles::within(tls_dir);
    let certificate = Served::from_files(&files).context("certificate of the control plane")?;
    let tls = certificate.config(GRPC)?;
    let module = args.wasm.as_deref().context("give --wasm, the filter's module")?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let tracked = Tracked::default();
    let index = Arc::new(Mutex::new(Index::new(Settings { cluster: args.cluster_name.clone() })));
    let targets = Targets::Single(tracked.clone());
    metrics::register_proxies(&mut registry, targets.clone());
    let (applied, rung) = watch::channel(0);
    let enforcement = Enforcement {
        targets: targets.clone(),
        index: index.clone(),
        applied: rung,
        peers: None,
        filters: args.gateway_filters,
    };
    let shared = Shared { enforcement, problems: Arc::default() };
    let readiness = Readiness::default();
    let Tracked { target, .. } = tracked;
    let credentials = Credentials { tokens, proxy: args.proxy.clone(), target: target.clone() };
    let service = Service::new(credentials, args.ttl());
    let following = metrics.clone().follow(target, || {}, shutdown.clone());
    let profiles = args.profiling.then(|| profiling::router(shared.clone()));
    let admin =
        admin::serve(args.admin, shared.clone(), registry, readiness.clone(), profiles, shutdown.clone());
    let common = Common {
        listen: Address { host: args.gateway_listen.ip().to_string(), port: args.gateway_listen.port() },
        module: absolute(module),
        proxy: args.proxy.clone(),
        digest_key: DigestKey::fixed(args.digest_key()?.unwrap_or_default()),
    };
    let revisions = Revisions::default();
    let problems = shared.problems.clone();
    let control = Control { index, targets, metrics, common, revisions, applied };
    let mut source = Source { control, problems };
    // Watching begins before reading, so that nothing falls between.
    let mut watch = Watch::new(&root).with_context(|| format!("cannot watch {}", root.display()))?;
    let governing = async {
        let (mut directory, first) = read(Directory::new(&root), Dirty::All).await?;
        source.apply(first.with_context(|| format!("cannot read {}", root.display()))?, true).await;
        // Proxies that hold a good state keep it until ours is whole.
        let on = || format!("xDS server on {}", args.listen);
        let listener = TcpListener::bind(args.listen).await.with_context(on)?;
        let incoming = TlsListener::new(listener, tls)?.into_stream();
        let xds = serve(incoming, service, shutdown.clone().cancelled_owned());
        readiness.set(true);
        tracing::info!(config = %root.display(), xds = %args.listen, admin = %args.admin, "control plane ready");
        let watching = async {
            loop {
                let update;
                (directory, update) = read(directory, watch.changed().await).await?;
                match update {
                    Ok(update) => source.apply(update, false).await,
                    // The last good state stays.
                    Err(error) => tracing::warn!(%error, "directory cannot be read"),
                }
            }
        };
        tokio::select! {
            result = xds => result.with_context(on),
            result = watching => result,
        }
    };
    tokio::select! {
        result = governing => result,
        result = admin => result.with_context(|| format!("admin server on {}", args.admin)),
        () = following => Ok(()),
        () = certificate.follow_files(files) => Ok(()),
        () = shutdown.cancelled() => Ok(()),
    }
}

/// The directory of manifests. The watcher tells absolute paths, whatever it was given.
fn manifests(args: &Args) -> anyhow::Result<std::path::PathBuf> {
    let config = args.config.as_deref().context("give --config, the directory that holds the manifests")?;
    anyhow::ensure!(
        config.is_dir(),
        "{} is no directory; give the one that holds the manifests",
        config.display()
    );
    Ok(std::path::absolute(config)?)
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

struct Source {
    control: Control,
    problems: FileProblems,
}

impl Source {
    #[tracing::instrument(name = "operator.change", level = "debug", skip_all, fields(
        upserts = update.upserts.len(), removals = update.removals.len(), problems = update.problems.len(),
    ))]
    async fn apply(&mut self, update: Update, first: bool) {
        let Update { upserts, removals, problems } = update;
        let known = std::mem::replace(&mut *lock(&self.problems), problems.clone());
        for problem in problems.iter().filter(|problem| !known.contains(problem)) {
            tracing::warn!(reason = problem.reason, "{problem}");
        }
        self.control.metrics.problems.set(i64::try_from(problems.len()).unwrap_or(i64::MAX));
        if !first && upserts.is_empty() && removals.is_empty() {
            return;
        }
        let upserts = upserts.into_iter().map(|(object, modified)| Delta::Upsert(object, Some(modified)));
        self.control.apply(upserts.chain(removals.into_iter().map(Delta::Remove)).collect()).await;
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}

//! The process around the service.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use sallyport_audit_proto::DESCRIPTORS;
use sallyport_audit_proto::v1::audit_ingest_server::AuditIngestServer;
use sallyport_event_store::{Embedded, EventSink, Limits};
use sallyport_event_stream::{NewTopics, Producer, Settings, TopicMaker, Topics};
use sallyport_ingest_spool::{Health, Options, Reader, Spool};
use sallyport_runtime::admin::{self, Readiness};
use sallyport_runtime::identity::{Authenticate, TokenReviews};
use sallyport_runtime::tls::{GRPC, HTTPS, Served, TlsFiles, TlsListener};
use sallyport_runtime::tokens::Tokens;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::accept::Acceptor;
use crate::args::{Args, KafkaArgs};
use crate::chains::Chains;
use crate::clock::now;
use crate::deliver::Delivery;
use crate::events::{Room, Sources};
use crate::ledger::Ledger;
use crate::limit::{Limited, limit};
use crate::metrics::Metrics;
use crate::publish::{Landed, PublishError, Publisher};
use crate::seal::{self, Keeper};
use crate::service::Ingest;

/// Name of the service in health checks.
const SERVICE: &str = "sallyport.audit.v1.AuditIngest";
/// Largest message, in bytes.
const MAX_MESSAGE: usize = 8 << 20;
/// Calls of one connection at work at once.
const CONCURRENT: usize = 64;
/// Bytes that a stream and a connection may send ahead of what is read.
const WINDOWS: (u32, u32) = (1 << 20, 4 << 20);
/// How often a silent connection is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How often gauges are read.
const OBSERVE: Duration = Duration::from_secs(1);

/// Runs until `shutdown`.
///
/// # Errors
/// The store, the spool, a credential or an address cannot be used.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let limits = Limits {
        max_bytes: args.max_megabytes << 20,
        max_age: Duration::from_secs(u64::from(args.max_days) * 86_400),
    };
    let store =
        Embedded::open(&args.db, limits).with_context(|| format!("cannot open {}", args.db.display()))?;
    let (spool, reader, ledger) = open_spool(&args, &store).await?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let acceptor = Acceptor::new(spool.clone(), ledger, metrics.clone());
    let keeper = keeper(&args, limits, &acceptor, &metrics, &store).await?;
    let stop = CancellationToken::new();
    let outlet = outlet(&args.kafka, reader, store.clone(), metrics.clone()).await?;
    let parts = Parts { acceptor, metrics, spool, registry, producer: outlet.producer(), store };
    let mut delivery = tokio::spawn(outlet.run(stop.clone()));
    tokio::select! {
        result = serve_and_keep(&args, parts, keeper, shutdown) => {
            stop.cancel();
            delivery.await.context("delivery broke")?.context("delivery")?;
            result
        }
        // What is acknowledged is in the spool, for the next start.
        ended = &mut delivery => {
            ended.context("delivery broke")?.context("delivery")?;
            anyhow::bail!("delivery ended before its time")
        }
    }
}

/// Where events go from the spool.
enum Outlet {
    Store(Box<Delivery<Embedded>>),
    Kafka(Box<Publisher>),
}

impl Outlet {
    fn producer(&self) -> Option<Producer> {
        match self {
            Self::Store(_) => None,
            Self::Kafka(publisher) => Some(publisher.producer.clone()),
        }
    }

    async fn run(self, stop: CancellationToken) -> Result<(), PublishError> {
        match self {
            Self::Store(delivery) => {
                delivery.run(stop).await;
                Ok(())
            }
            Self::Kafka(publisher) => publisher.run(stop).await,
        }
    }
}

async fn outlet(
    args: &KafkaArgs,
    spool: Reader,
    store: Embedded,
    metrics: Metrics,
) -> anyhow::Result<Outlet> {
    let Some(brokers) = &args.kafka else {
        return Ok(Outlet::Store(Box::new(Delivery { sink: store, spool, metrics })));
    };
    let settings = Settings::read(brokers, args.kafka_config.as_deref()).context("settings of Kafka")?;
    let topics = Topics::of(&args.kafka_topic);
    let new = NewTopics { partitions: args.kafka_partitions, replication: args.kafka_replication };
    let maker = (args.kafka_partitions > 0).then(|| TopicMaker::open(&settings.admin(), topics.clone(), new));
    let known = store.heads().await.context("cannot read the chains")?;
    let publisher = Publisher {
        producer: Producer::open(&settings.producer()).context("settings of Kafka")?,
        maker: maker.transpose().context("settings of Kafka")?,
        topics,
        format: args.kafka_format,
        spool,
        heads: store,
        metrics,
        under_way: VecDeque::new(),
        landed: Landed::default(),
        known: known.into_iter().map(|head| (head.name, head.seq)).collect(),
    };
    Ok(Outlet::Kafka(Box::new(publisher)))
}

/// Serves, with the chains looked after meanwhile; at the end all of them are sealed.
async fn serve_and_keep(
    args: &Args,
    parts: Parts,
    mut keeper: Keeper,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let result = tokio::select! {
        result = serve(args, parts, shutdown) => result,
        () = keeper.run() => Ok(()),
    };
    keeper.finish().await;
    result
}

async fn keeper(
    args: &Args,
    limits: Limits,
    acceptor: &Acceptor,
    metrics: &Metrics,
    store: &Embedded,
) -> anyhow::Result<Keeper> {
    let key = args.checkpoint_key.as_deref().filter(|key| !args.checkpoint_key_optional || key.exists());
    let settings = key.map(|key| seal::Settings {
        key,
        interval: Duration::from_secs(args.checkpoint_interval),
        max_age: u64::try_from(limits.max_age.as_nanos()).unwrap_or(u64::MAX),
        state: beside(&spool_folder(args), ".checkpoints"),
    });
    Keeper::new(acceptor.clone(), metrics.clone(), store.clone(), settings).await
}

fn spool_folder(args: &Args) -> PathBuf {
    args.spool.clone().unwrap_or_else(|| beside(&args.db, ".spool"))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(ending);
    PathBuf::from(name)
}

async fn open_spool(args: &Args, store: &Embedded) -> anyhow::Result<(Spool, Reader, Ledger)> {
    let folder = spool_folder(args);
    let options = Options { folder, max_bytes: args.spool_megabytes << 20 };
    let (spool, mut reader) =
        Spool::open(&options).with_context(|| format!("cannot open {}", options.folder.display()))?;
    let stored = store.heads().await.context("cannot read the chains")?;
    let ledger = Ledger::restore(stored, &mut reader).await.context("cannot read the spool")?;
    Ok((spool, reader, ledger))
}

struct Parts {
    acceptor: Acceptor,
    metrics: Metrics,
    spool: Spool,
    registry: Registry,
    /// Where events go to Kafka.
    producer: Option<Producer>,
    store: Embedded,
}

async fn serve(args: &Args, parts: Parts, shutdown: CancellationToken) -> anyhow::Result<()> {
    let Parts { acceptor, metrics, spool, registry, producer, store } = parts;
    let service =
        Ingest { acceptor: acceptor.clone(), proxies: proxies(args).await?, metrics: metrics.clone() };
    let files = TlsFiles::within(&args.tls_dir);
    let certificate = Served::from_files(&files).context("certificate of the ingest")?;
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("service description")?;
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let connections = TlsListener::new(listener, certificate.config(GRPC)?)?.into_stream();
    let connections = limit(connections, args.max_connections, metrics.connections_refused.clone());
    let grpc = Server::builder()
        .concurrency_limit_per_connection(CONCURRENT)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_service(AuditIngestServer::new(service).max_decoding_message_size(MAX_MESSAGE))
        .add_service(health_service)
        .add_service(reflection)
        .serve_with_incoming_shutdown(connections, shutdown.clone().cancelled_owned());
    let chains = Chains {
        acceptor: acceptor.clone(),
        spool: spool.clone(),
        metrics: metrics.clone(),
        store,
        is_kafka: producer.is_some(),
    };
    let sources = sources(args, acceptor, metrics.clone())?;
    let events = serve_events(args, sources, Arc::clone(&certificate), shutdown.clone());
    let readiness = Readiness::default();
    let admin = admin::serve(args.admin, registry, readiness.clone(), chains.router(), shutdown.clone());
    let watch = watch(spool, producer, readiness, health, metrics);
    tokio::select! {
        result = grpc => result.context("gRPC server"),
        result = events => result,
        result = admin => result.with_context(|| format!("admin server on {}", args.admin)),
        () = watch => Ok(()),
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

/// Who takes events of other programs; none: nobody.
fn sources(args: &Args, acceptor: Acceptor, metrics: Metrics) -> anyhow::Result<Option<Sources>> {
    let Some(keys) = &args.source_keys else {
        return Ok(None);
    };
    let keys = Arc::new(Tokens::open(keys).context("keys of sources")?);
    Ok(Some(Sources { acceptor, keys, metrics, epoch: now(), room: Room::default() }))
}

/// Serves `POST /events` if it is asked for.
async fn serve_events(
    args: &Args,
    sources: Option<Sources>,
    certificate: Arc<Served>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (Some(address), Some(sources)) = (args.events, sources) else {
        return std::future::pending().await;
    };
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let (router, stop) = (sources.router(), shutdown.cancelled_owned());
    let result = if args.events_plaintext {
        axum::serve(Limited::new(listener, args.max_connections), router).with_graceful_shutdown(stop).await
    } else {
        let listener = TlsListener::new(listener, certificate.config(HTTPS)?)?;
        axum::serve(Limited::new(listener, args.max_connections), router).with_graceful_shutdown(stop).await
    };
    result.with_context(|| format!("event server on {address}"))
}

/// Tells for ever how the spool is.
async fn watch(
    spool: Spool,
    producer: Option<Producer>,
    readiness: Readiness,
    reporter: HealthReporter,
    metrics: Metrics,
) {
    let mut health = spool.health();
    let mut ticks = tokio::time::interval(OBSERVE);
    loop {
        let status = match &*health.borrow_and_update() {
            // A full spool takes batches again when some are delivered: whoever sends is told to wait.
            Health::Writable | Health::Full => {
                match producer.as_ref().and_then(|producer| trouble(producer, &spool)) {
                    None => readiness.set(true),
                    Some(trouble) => readiness.remark(format!("events wait for Kafka: {trouble}")),
                }
                ServingStatus::Serving
            }
            Health::Failing(reason) => {
                readiness.refuse(format!("the spool cannot be written: {reason}"));
                ServingStatus::NotServing
            }
        };
        for service in ["", SERVICE] {
            reporter.set_service_status(service, status).await;
        }
        tokio::select! {
            // Its end is the spool's, and with it the process's.
            _ = health.changed() => {}
            _ = ticks.tick() => {
                metrics.observe(&spool);
                if let Some(producer) = &producer {
                    metrics.observe_kafka(&producer.observed());
                }
            }
        }
    }
}

/// What keeps events from Kafka. A connection is missed when there is something to bring.
fn trouble(producer: &Producer, spool: &Spool) -> Option<String> {
    let trouble = producer.trouble();
    if spool.undelivered() > 0 { trouble.now() } else { trouble.refusal() }
}

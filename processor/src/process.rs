//! The process around the loop.

use std::time::Duration;

use anyhow::Context;
use prometheus_client::registry::Registry;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use sallyport_event_store::ClickHouse;
use sallyport_event_stream::{Producer, Settings, Topics};
use sallyport_runtime::admin::{self, Readiness};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::args::Args;
use crate::batch::Bounds;
use crate::consume::Loop;
use crate::metrics::Metrics;
use crate::told::Told;

/// Pause after ClickHouse did not take the schema: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Runs until `shutdown`.
///
/// # Errors
/// A setting or an address cannot be used, or a Kafka client can do nothing any more.
pub async fn run(args: Args, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::default();
    readiness.refuse("the schema is not known yet");
    let access = args.clickhouse.access()?.context("no ClickHouse; give --clickhouse URL")?;
    let store = ClickHouse::new(access).insert_within(insert_within(args.session_seconds));
    let settings =
        Settings::read(&args.brokers, args.kafka_config.as_deref()).context("settings of Kafka")?;
    let consumer: BaseConsumer<Told> = consumer(&settings, &args)
        .create_with_context(Told::new(metrics.clone()))
        .context("settings of Kafka")?;
    let work = Loop {
        consumer,
        producer: Producer::open(&settings.producer()).context("settings of Kafka")?,
        store,
        topics: Topics::of(&args.topic),
        bounds: bounds(&args),
        metrics,
        readiness: readiness.clone(),
        runtime: Handle::current(),
        stop: shutdown.clone(),
        generation: 0,
        remade: 0,
        is_cut_off: true,
    };
    let admin = admin::serve(args.admin, registry, readiness.clone(), axum::Router::new(), shutdown.clone());
    let work = async {
        if !migrate(&work.store, args.max_days, &readiness, &shutdown).await {
            return Ok(());
        }
        readiness.refuse("Kafka has not answered yet");
        tokio::task::spawn_blocking(move || work.run()).await.context("the consumer broke")?
    };
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => return result,
        result = admin => result.with_context(|| format!("admin server on {}", args.admin))?,
    }
    // The server ends at once; the batch that is being stored is finished.
    work.await
}

/// Whoever takes over the partitions of a processor that died waits longer than an insert of it may take.
fn insert_within(session_seconds: u64) -> Duration {
    Duration::from_secs(session_seconds * 2 / 3)
}

fn bounds(args: &Args) -> Bounds {
    Bounds {
        records: usize::try_from(args.batch_records).unwrap_or(usize::MAX),
        bytes: usize::try_from(args.batch_megabytes << 20).unwrap_or(usize::MAX),
        wait: Duration::from_millis(args.batch_milliseconds),
    }
}

fn consumer(settings: &Settings, args: &Args) -> ClientConfig {
    let mut config = settings.consumer(&args.group);
    let session = args.session_seconds * 1000;
    config
        .set("session.timeout.ms", session.to_string())
        .set("heartbeat.interval.ms", (session / 5).min(3000).to_string())
        // All partitions are given back before any is given away: what was read is dropped then, and nothing else.
        .set("partition.assignment.strategy", "range,roundrobin");
    let defaults = [
        ("queued.max.messages.kbytes", "65536"),
        ("fetch.wait.max.ms", "100"),
        // How soon a topic is seen that is made later.
        ("topic.metadata.refresh.interval.ms", "5000"),
    ];
    for (name, value) in defaults {
        if config.get(name).is_none() {
            config.set(name, value);
        }
    }
    // Only so it tells that a topic was made again.
    let debug = config.get("debug").map_or_else(|| "topic".into(), |asked| format!("{asked},topic"));
    config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    config
}

/// Brings the schema to this program's version, however long it takes; false: the process ends.
async fn migrate(
    store: &ClickHouse,
    max_days: u32,
    readiness: &Readiness,
    shutdown: &CancellationToken,
) -> bool {
    let mut pause = PAUSE.0;
    while let Err(error) = store.migrate(max_days).await {
        tracing::error!(%error, "ClickHouse does not take the schema; trying again");
        readiness.refuse(format!("ClickHouse does not take the schema: {error}"));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return false,
        }
        pause = (pause * 2).min(PAUSE.1);
    }
    true
}

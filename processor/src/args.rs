//! Flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use sallyport_event_store::ClickHouseArgs;

/// Brings audit events from Kafka to ClickHouse.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Kafka's brokers, as HOST:PORT[,HOST:PORT].
    #[arg(long = "kafka", env = "SALLYPORT_KAFKA", value_name = "BROKERS")]
    pub brokers: String,
    /// File of librdkafka's properties, one `name=value` a line, as for TLS and SASL.
    #[arg(long = "kafka-config", env = "SALLYPORT_KAFKA_CONFIG", value_name = "FILE")]
    pub kafka_config: Option<PathBuf>,
    /// Topic of events; records that hold none go to the one named TOPIC.dead.
    #[arg(long = "kafka-topic", value_name = "TOPIC", default_value = "mcp.events")]
    pub topic: String,
    /// Consumer group.
    #[arg(long, default_value = "sallyport-processor")]
    pub group: String,
    /// ClickHouse, and a user who may make and write the tables of database `mcp`.
    #[command(flatten)]
    pub clickhouse: ClickHouseArgs,
    /// Longest age of an event, in days; usage by the hour is kept beyond it.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub max_days: u32,
    /// Most records of a batch.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub batch_records: u64,
    /// Most megabytes of a batch.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub batch_megabytes: u64,
    /// Longest time that a record waits for others of its batch, in milliseconds. Each batch is one part in ClickHouse: longer
    /// spares it work, shorter shows events sooner.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub batch_milliseconds: u64,
    /// A processor that is silent for so many seconds is taken for dead, and others take over its partitions. Inserts end within
    /// two thirds of it.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(6..=300))]
    pub session_seconds: u64,
    /// Address of health and metrics.
    #[arg(long, default_value = "127.0.0.1:18004")]
    pub admin: SocketAddr,
}

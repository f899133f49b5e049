//! Flags.

use std::net::SocketAddr;
use std::path::PathBuf;

use sallyport_event_stream::Format;

/// Runs the audit ingest with the embedded store.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address of the gRPC service.
    #[arg(long, default_value = "127.0.0.1:18001")]
    pub listen: SocketAddr,
    /// Address of health and metrics.
    #[arg(long, default_value = "127.0.0.1:18003")]
    pub admin: SocketAddr,
    /// Address for events of other programs, `POST /events`; none: they are not taken.
    #[arg(long, requires = "source_keys")]
    pub events: Option<SocketAddr>,
    /// Takes them without TLS, for a network that is trusted.
    #[arg(long, requires = "events")]
    pub events_plaintext: bool,
    /// File of source names by key digest.
    #[arg(long, requires = "events")]
    pub source_keys: Option<PathBuf>,
    /// File of the event store.
    #[arg(long)]
    pub db: PathBuf,
    /// Folder of the spool, where events are on disk before the store has them; by default beside the store, with the ending
    /// `.spool`.
    #[arg(long)]
    pub spool: Option<PathBuf>,
    /// Largest spool, in megabytes; beyond it batches are pushed back.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub spool_megabytes: u64,
    /// Folder with tls.crt and tls.key; read anew when they change.
    #[arg(long)]
    pub tls_dir: PathBuf,
    /// File of proxy names by token digest.
    #[arg(long, required_unless_present = "kubernetes")]
    pub tokens: Option<PathBuf>,
    /// Proxies are pods of the cluster that this process is in: their service accounts' tokens are checked by its API
    /// server, and each may bring events of its own server only.
    #[arg(long, env = "SALLYPORT_KUBERNETES", conflicts_with = "tokens")]
    pub kubernetes: bool,
    /// Most connections at once, for gRPC, where more are closed, and for events of other programs, where more wait.
    #[arg(long, default_value_t = 4096)]
    pub max_connections: usize,
    /// Largest store, in megabytes; beyond it the oldest events go.
    #[arg(long, default_value_t = 4096)]
    pub max_megabytes: u64,
    /// Longest age of an event, in days.
    #[arg(long, default_value_t = 90)]
    pub max_days: u32,
    /// Seals where all chains stand into checkpoints signed with this Ed25519 key (PKCS#8, PEM; `sallyport audit keygen`
    /// makes one); without it the record can be altered unnoticed.
    #[arg(long, value_name = "FILE")]
    pub checkpoint_key: Option<PathBuf>,
    /// Goes on without checkpoints where that file is not there, as where a Secret is optional.
    #[arg(long, requires = "checkpoint_key")]
    pub checkpoint_key_optional: bool,
    /// Seconds between checkpoints; none is made while nothing happens.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub checkpoint_interval: u64,
    /// Where events go instead of the store.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

/// Kafka, where events go there. The store then only remembers where chains stand.
#[derive(Clone, Debug, clap::Args)]
pub struct KafkaArgs {
    /// Brings events to Kafka instead of the store: its brokers, as HOST:PORT[,HOST:PORT].
    #[arg(long, env = "SALLYPORT_KAFKA", value_name = "BROKERS")]
    pub kafka: Option<String>,
    /// File of librdkafka's properties, one `name=value` a line, as for TLS and SASL.
    #[arg(long, env = "SALLYPORT_KAFKA_CONFIG", value_name = "FILE", requires = "kafka")]
    pub kafka_config: Option<PathBuf>,
    /// Topic of events; records that brokers refuse go to the one named TOPIC.dead.
    #[arg(long, value_name = "TOPIC", default_value = "mcp.events")]
    pub kafka_topic: String,
    /// Partitions of the topic where it is made; 0: topics are never made.
    #[arg(long, value_name = "COUNT", default_value_t = 6)]
    pub kafka_partitions: u16,
    /// Replicas of topics that are made; by default as the brokers are set.
    #[arg(long, value_name = "COUNT", requires = "kafka", value_parser = clap::value_parser!(u16).range(1..))]
    pub kafka_replication: Option<u16>,
    /// Form of records' values.
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub kafka_format: Format,
}

impl KafkaArgs {
    /// The same as flags: pairs of a name, without dashes, and a value. None where events do not go to Kafka.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let Self {
            kafka: Some(brokers),
            kafka_config,
            kafka_topic,
            kafka_partitions,
            kafka_replication,
            kafka_format,
        } = self
        else {
            return Vec::new();
        };
        let mut flags = vec![
            ("kafka", brokers.clone()),
            ("kafka-topic", kafka_topic.clone()),
            ("kafka-partitions", kafka_partitions.to_string()),
            ("kafka-format", kafka_format.name().into()),
        ];
        flags.extend(kafka_config.iter().map(|file| ("kafka-config", file.display().to_string())));
        flags.extend(kafka_replication.iter().map(|count| ("kafka-replication", count.to_string())));
        flags
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        kafka: KafkaArgs,
    }

    #[test]
    fn what_is_given_again_as_flags_is_the_same() {
        let given = [
            "",
            "--kafka=a:1,b:2",
            "--kafka-config=f",
            "--kafka-topic=t",
            "--kafka-partitions=0",
            "--kafka-replication=3",
            "--kafka-format=json",
        ];
        let first = Command::parse_from(given).kafka;
        let again = first
            .flags()
            .into_iter()
            .flat_map(|(name, value)| [format!("--{name}"), value])
            .collect::<Vec<_>>();
        let second = Command::parse_from(std::iter::once(String::new()).chain(again)).kafka;
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        assert_eq!(Command::parse_from([""]).kafka.flags(), []);
    }
}

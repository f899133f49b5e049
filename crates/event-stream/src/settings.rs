//! Settings of Kafka clients, from a file of librdkafka's properties.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

/// Largest record that a client sends or takes, in bytes; topics that we make take as much.
pub const MAX_RECORD_BYTES: u32 = 10 << 20;

/// Properties that the guarantees rest on, with the reason.
const PROTECTED: [(&str, &str); 20] = [
    ("bootstrap.servers", "`--kafka` has the brokers"),
    ("metadata.broker.list", "`--kafka` has the brokers"),
    ("acks", ACKS),
    ("request.required.acks", ACKS),
    ("enable.idempotence", ACKS),
    ("enable.gapless.guarantee", ACKS),
    ("max.in.flight", ACKS),
    ("max.in.flight.requests.per.connection", ACKS),
    ("transactional.id", ACKS),
    ("retries", RETRIES),
    ("message.send.max.retries", RETRIES),
    ("delivery.timeout.ms", RETRIES),
    ("message.timeout.ms", RETRIES),
    ("partitioner", "one chain has one partition, whoever sends it"),
    ("message.max.bytes", "topics are made for the largest event"),
    ("group.id", "a flag names the consumer group"),
    ("enable.auto.commit", COMMITS),
    ("enable.auto.offset.store", COMMITS),
    ("auto.offset.reset", COMMITS),
    ("statistics.interval.ms", "metrics are read at a pace of their own"),
];
const ACKS: &str = "an event counts as delivered when all replicas in sync have it, once";
const RETRIES: &str = "events are sent until they are delivered";
const COMMITS: &str = "offsets are committed when the store has their events, from the beginning on";

/// Why the settings cannot be used. None of them has a value of the file in it: it may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}, which is to have librdkafka's properties (--kafka-config)")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line is no property.
    #[error("{path}, line {line}: expected `name=value`")]
    Form {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// A property is there twice.
    #[error("{path}, line {line}: `{name}` was set in line {before} already")]
    Twice {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The property.
        name: String,
        /// The line of the first.
        before: usize,
    },
    /// The property is not for files.
    #[error("{path}, line {line}: `{name}` cannot be set: {reason}")]
    Protected {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The property.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// librdkafka does not know it.
    #[error("{path}, line {line}: `{name}` is no property of librdkafka 2.12")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The property.
        name: String,
    },
    /// librdkafka knows it, and does not take the value.
    #[error("{path}, line {line}: the value of `{name}` is not valid")]
    Value {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The property.
        name: String,
    },
    /// librdkafka takes each property, and not all of them together.
    #[error("Kafka client cannot be made: {0}")]
    Client(String),
}

/// Settings of one installation's Kafka, without what each kind of client adds.
#[derive(Clone)]
pub struct Settings {
    common: ClientConfig,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let brokers = self.common.get("bootstrap.servers").unwrap_or_default();
        formatter.debug_struct("Settings").field("brokers", &brokers).finish_non_exhaustive()
    }
}

impl Settings {
    /// `brokers` as `HOST:PORT[,HOST:PORT]`, and what `file` has: lines `name=value`, empty ones, and comments that begin
    /// with `#`.
    ///
    /// # Errors
    /// The file cannot be used; the error names the line.
    pub fn read(brokers: &str, file: Option<&Path>) -> Result<Self, SettingsError> {
        let mut common = ClientConfig::new();
        common.set("bootstrap.servers", brokers).set("client.id", "sallyport");
        common.set("message.max.bytes", MAX_RECORD_BYTES.to_string());
        common.set("statistics.interval.ms", "1000");
        if let Some(path) = file {
            let unreadable = |source| SettingsError::Unreadable { path: path.into(), source };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            for (name, value) in parse(path, &text)? {
                common.set(name, value);
            }
        }
        Ok(Self { common })
    }

    /// For a producer that loses nothing, sends nothing twice, and keeps the order of each key. It tries for as long as
    /// it takes; its queue is bounded by whoever fills it.
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.common.clone();
        let ours = [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", "0"),
            ("partitioner", "murmur2_random"),
            ("allow.auto.create.topics", "false"),
            ("queue.buffering.max.messages", "0"),
            ("queue.buffering.max.kbytes", "1048576"),
        ];
        for (name, value) in ours {
            config.set(name, value);
        }
        let defaults = [
            ("linger.ms", "5"),
            ("compression.type", "zstd"),
            // How long a topic that is gone is waited for before its records come back.
            ("topic.metadata.propagation.max.ms", "5000"),
            ("reconnect.backoff.max.ms", "2000"),
        ];
        for (name, value) in defaults {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        config
    }

    /// For a consumer of `group` that commits by itself, from the topic's beginning where the group is new.
    pub fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.common.clone();
        let ours = [
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
        ];
        for (name, value) in ours {
            config.set(name, value);
        }
        config
    }

    /// For making topics.
    pub fn admin(&self) -> ClientConfig {
        self.common.clone()
    }
}

fn parse(path: &Path, text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let mut properties = Vec::new();
    let mut seen = BTreeMap::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let path = || path.to_path_buf();
        let (name, value) =
            content.split_once('=').ok_or_else(|| SettingsError::Form { path: path(), line })?;
        let (name, value) = (name.trim().to_string(), value.trim().to_string());
        if let Some(before) = seen.insert(name.clone(), line) {
            return Err(SettingsError::Twice { path: path(), line, name, before });
        }
        if let Some((_, reason)) = PROTECTED.iter().find(|(protected, _)| *protected == name) {
            return Err(SettingsError::Protected { path: path(), line, name, reason });
        }
        match ClientConfig::new().set(&name, &value).create_native_config() {
            Ok(_) => properties.push((name, value)),
            Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
                return Err(SettingsError::Unknown { path: path(), line, name });
            }
            Err(_) => return Err(SettingsError::Value { path: path(), line, name }),
        }
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(Path::new("kafka.properties"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_adds_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kafka.properties");
        let text = "# TLS\n\nsecurity.protocol = sasl_ssl\nsasl.password=a=b c\nlinger.ms=50\n";
        std::fs::write(&path, text).unwrap();
        let settings = Settings::read("a:1,b:2", Some(&path)).unwrap();
        let config = settings.producer();
        let value = |name| config.get(name);
        assert_eq!(value("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!((value("sasl.password"), value("linger.ms")), (Some("a=b c"), Some("50")));
        assert_eq!((value("acks"), value("compression.type")), (Some("all"), Some("zstd")));
        assert_eq!(settings.consumer("g").get("security.protocol"), Some("sasl_ssl"));
        assert!(!format!("{settings:?}").contains("a=b c"));
    }

    #[test]
    fn what_cannot_be_used_is_told_by_line_and_never_by_value() {
        assert_eq!(refusal("\nsecret"), "kafka.properties, line 2: expected `name=value`");
        assert_eq!(
            refusal("acks=0"),
            "kafka.properties, line 1: `acks` cannot be set: an event counts as delivered when all replicas in sync \
             have it, once"
        );
        assert_eq!(
            refusal("sasl.pasword=secret"),
            "kafka.properties, line 1: `sasl.pasword` is no property of librdkafka 2.12"
        );
        assert_eq!(
            refusal("linger.ms=secret"),
            "kafka.properties, line 1: the value of `linger.ms` is not valid"
        );
        assert_eq!(
            refusal("linger.ms=1\nlinger.ms=2"),
            "kafka.properties, line 2: `linger.ms` was set in line 1 already"
        );
    }

    #[test]
    fn every_protected_property_is_one_of_librdkafka() {
        for (name, _) in PROTECTED {
            let unknown = ClientConfig::new().set(name, "no such value").create_native_config();
            let is_unknown =
                matches!(unknown, Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)));
            assert!(!is_unknown, "{name}");
        }
    }

    #[test]
    fn librdkafka_takes_the_settings_of_each_kind_of_client() {
        let settings = Settings::read("localhost:1", None).unwrap();
        settings.producer().create::<rdkafka::producer::BaseProducer>().unwrap();
        settings.consumer("g").create::<rdkafka::consumer::BaseConsumer>().unwrap();
    }
}

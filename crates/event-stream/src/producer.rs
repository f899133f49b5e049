//! The producer.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message, OwnedHeaders, OwnedMessage, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Statistics};
use tokio::sync::watch;

use crate::flight::{Failed, Flight};
use crate::record::Record;
use crate::settings::SettingsError;
use crate::trouble::{Trouble, brokers_up, is_forbidden};

/// Header of a dead record: why it is there.
pub const REASON: &str = "sallyport_reason";
/// Header of a dead record: the topic that it was for.
pub const TOPIC: &str = "sallyport_topic";

/// Header of a dead record that was read: topic, partition and offset.
pub const PLACE: &str = "sallyport_place";

/// How long the client's answers are waited for at once; an end is seen after it. The wait's last millisecond is spent
/// asking again and again, so a shorter one would cost an idle process more.
const POLL: Duration = Duration::from_secs(1);

/// What the client tells about itself, once a second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Records that are not acknowledged.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Brokers with a connection.
    pub brokers_up: u64,
    /// 99th percentile of requests' times, the slowest broker's, in seconds.
    pub round_trip_seconds: f64,
    /// Requests that were tried again, since the start.
    pub retries: u64,
}

impl From<&Statistics> for Observed {
    fn from(statistics: &Statistics) -> Self {
        let mut observed = Self {
            records: statistics.msg_cnt,
            bytes: statistics.msg_size,
            brokers_up: brokers_up(statistics),
            ..Self::default()
        };
        let mut slowest = 0_i64;
        for broker in statistics.brokers.values() {
            observed.retries += broker.txretries;
            slowest = slowest.max(broker.rtt.as_ref().map_or(0, |window| window.p99));
        }
        let micros = u64::try_from(slowest).unwrap_or(0);
        observed.round_trip_seconds = std::time::Duration::from_micros(micros).as_secs_f64();
        observed
    }
}

struct Context {
    observed: Arc<watch::Sender<Observed>>,
    trouble: Arc<Trouble>,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.trouble.observe(&statistics);
        self.observed.send_replace(Observed::from(&statistics));
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The log has told it already.
        tracing::debug!(%error, reason, "kafka client");
        self.trouble.tell(&error, reason);
    }
}

/// Writes what librdkafka says to the log.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(facility, message, "kafka client"),
        RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "kafka client"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(facility, message, "kafka client");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "kafka client"),
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Arc<Flight>;

    fn delivery(&self, result: &DeliveryResult<'_>, flight: Arc<Flight>) {
        match result {
            Ok(_) => {
                self.trouble.allow();
                flight.arrive();
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                self.trouble.forbid(code, &code.to_string());
                flight.fail(Failed::new(message.detach(), code));
            }
        }
    }
}

/// Why a producer can send nothing any more.
#[derive(Clone, Debug)]
pub struct Fatal {
    /// In librdkafka's words.
    pub reason: String,
    /// The brokers do not allow it to the user, which may be mended there: a new producer may send.
    pub is_forbidden: bool,
}

/// Sends records; a thread of its own takes the brokers' answers. Clones are the same producer, also after [`Producer::renew`].
#[derive(Clone)]
pub struct Producer {
    inner: Arc<RwLock<Arc<BaseProducer<Context>>>>,
    config: ClientConfig,
    sender: Arc<watch::Sender<Observed>>,
    observed: watch::Receiver<Observed>,
    trouble: Arc<Trouble>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").field("observed", &self.observed).finish_non_exhaustive()
    }
}

impl Producer {
    /// With the settings of [`Settings::producer`](crate::Settings::producer). The brokers need not be there yet.
    ///
    /// # Errors
    /// librdkafka does not take the settings, as where a certificate cannot be read.
    pub fn open(config: &ClientConfig) -> Result<Self, SettingsError> {
        let (sender, observed) = watch::channel(Observed::default());
        let (sender, trouble) = (Arc::new(sender), Arc::new(Trouble::default()));
        let inner = Arc::new(RwLock::new(connect(config, &sender, &trouble)?));
        Ok(Self { inner, config: config.clone(), sender, observed, trouble })
    }

    /// Begins anew with another place among the brokers' records. Call it when every flight has landed.
    ///
    /// # Errors
    /// librdkafka does not take the settings any more.
    pub fn renew(&self) -> Result<(), SettingsError> {
        let new = connect(&self.config, &self.sender, &self.trouble)?;
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Sends a record as part of a flight. It never waits: what librdkafka does not take has failed.
    pub fn send(&self, topic: &str, record: &Record<'_>, flight: &Arc<Flight>) {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value.as_bytes()) });
        }
        self.put(topic, Some(record.key.as_bytes()), Some(&record.value), Some(headers), flight);
    }

    /// Sends a record again.
    pub fn resend(&self, failed: &Failed, flight: &Arc<Flight>) {
        let message = &failed.message;
        self.put(message.topic(), message.key(), message.payload(), message.headers().cloned(), flight);
    }

    /// Sends a record to `topic` for those that cannot be taken further, and says there why and what it was for.
    pub fn bury(&self, topic: &str, failed: &Failed, with_value: bool, flight: &Arc<Flight>) {
        let message = &failed.message;
        let headers = message.headers().cloned().unwrap_or_else(OwnedHeaders::new);
        let headers = headers
            .insert(Header { key: REASON, value: Some(failed.reason().as_str()) })
            .insert(Header { key: TOPIC, value: Some(message.topic()) });
        let value = message.payload().filter(|_| with_value);
        self.put(topic, message.key(), value, Some(headers), flight);
    }

    /// Sends a record that was read and holds no event to `topic`, and says there why and where it came from.
    pub fn bury_read(&self, topic: &str, message: &OwnedMessage, reason: &str, flight: &Arc<Flight>) {
        let headers = message.headers().cloned().unwrap_or_else(OwnedHeaders::new);
        let place = format!("{}/{}/{}", message.topic(), message.partition(), message.offset());
        let headers = headers
            .insert(Header { key: REASON, value: Some(reason) })
            .insert(Header { key: TOPIC, value: Some(message.topic()) })
            .insert(Header { key: PLACE, value: Some(place.as_str()) });
        self.put(topic, message.key(), message.payload(), Some(headers), flight);
    }

    fn put(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
        flight: &Arc<Flight>,
    ) {
        let mut record = BaseRecord::with_opaque_to(topic, Arc::clone(flight));
        record.key = key;
        record.payload = value;
        record.headers = headers;
        flight.depart();
        let sent = self.inner.read().unwrap_or_else(PoisonError::into_inner).send(record);
        if let Err((error, record)) = sent {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            let message = OwnedMessage::new(
                value.map(<[u8]>::to_vec),
                key.map(<[u8]>::to_vec),
                topic.into(),
                Timestamp::NotAvailable,
                -1,
                -1,
                record.headers,
            );
            flight.fail(Failed::new(message, code));
        }
    }

    /// Why this producer can send nothing any more; none: it can. It is its trouble as well, where it is for want of a right.
    pub fn fatal(&self) -> Option<Fatal> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let (code, reason) = inner.client().fatal_error()?;
        self.trouble.forbid(code, &reason);
        Some(Fatal { reason: format!("{code}: {reason}"), is_forbidden: is_forbidden(code) })
    }

    /// What keeps it from its brokers.
    pub fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// What the client tells about itself.
    pub fn observed(&self) -> Observed {
        self.observed.borrow().clone()
    }
}

/// A client, and a thread that takes the brokers' answers. The thread ends soon after nobody else has the client, and with it
/// the client.
fn connect(
    config: &ClientConfig,
    observed: &Arc<watch::Sender<Observed>>,
    trouble: &Arc<Trouble>,
) -> Result<Arc<BaseProducer<Context>>, SettingsError> {
    let context = Context { observed: Arc::clone(observed), trouble: Arc::clone(trouble) };
    let failed = |error: KafkaError| SettingsError::Client(without_value(&error));
    let client = Arc::new(config.create_with_context::<_, BaseProducer<_>>(context).map_err(failed)?);
    let polled = Arc::downgrade(&client);
    let poll = move || {
        while let Some(client) = polled.upgrade() {
            client.poll(POLL);
        }
    };
    let named = std::thread::Builder::new().name("kafka-answers".into());
    named.spawn(poll).map_err(|error| SettingsError::Client(format!("no thread: {error}")))?;
    Ok(client)
}

/// The error without the value of a setting, which may be a secret.
pub(crate) fn without_value(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, name, _) => format!("setting `{name}` is not taken"),
        KafkaError::ClientCreation(reason) => reason.clone(),
        other => other.to_string(),
    }
}

//! Brings what the spool holds to Kafka, in order, and frees the spool when the brokers have it.
//!
//! Flow: chunks of the spool become flights of records, several at once, and land in the order in which they left. Guarantees:
//! a record of the spool is freed when the brokers acknowledged all its events, or the dead topic has those that they refuse;
//! events of one chain arrive in order, but for neighbours of a refused one. Failure: what may work later is tried for as
//! long as it takes, from memory that is bounded; a client that cannot go on ends the process, which begins again from the
//! spool, so that events may be in the topic twice, never not at all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use sallyport_audit_proto::chain::Head;
use sallyport_event_store::{
    ChainHead, ChainName, Embedded, EventSink, Finding, StoreError, StoredCheckpoint, StoredEvent,
};
use sallyport_event_stream::{
    Class, Encoder, Entry, Failed, Flight, Format, Producer, SettingsError, TopicMaker, Topics, TopicsError,
    encode_checkpoint, stored_checkpoint,
};
use sallyport_ingest_spool::{Chunk, Reader};
use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::metrics::Metrics;
use crate::spooled::{Spooled, Unreadable};

/// Bytes that are read at once.
const CHUNK_BYTES: u64 = 512 << 10;
/// Bytes that are under way at once. They are in memory for as long as the brokers are away, as records with headers, which
/// are five times as large. Much more of one chain than five requests (a megabyte of records each) would keep librdkafka's
/// thread asking, without a pause, whether it may send the next.
const WINDOW_BYTES: u64 = 3 << 20;
/// Pause after a failure: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How often it is noted what is delivered; so much is delivered again after a kill.
const NOTE_EVERY: Duration = Duration::from_millis(200);
/// How long an end waits for what is still to be brought; the rest is brought after the next start.
const LAST: Duration = Duration::from_secs(2);

/// Why this process cannot bring anything any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The client lost its place among the brokers' records.
    #[error("kafka client cannot go on: {0}")]
    Fatal(String),
    /// There is no client in its place.
    #[error("kafka client cannot begin anew")]
    Anew(#[from] SettingsError),
}

/// Brings events from the spool to Kafka.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) producer: Producer,
    /// None: others make the topics.
    pub(crate) maker: Option<TopicMaker>,
    pub(crate) topics: Topics,
    pub(crate) format: Format,
    pub(crate) spool: Reader,
    /// Remembers where the chains stand when the spool no longer does.
    pub(crate) heads: Embedded,
    pub(crate) metrics: Metrics,
    pub(crate) under_way: VecDeque<Sent>,
    pub(crate) landed: Landed,
    /// How far each chain was sent, so that nothing is counted twice.
    pub(crate) known: BTreeMap<ChainName, u64>,
}

/// A chunk that is under way.
#[derive(Debug)]
pub(crate) struct Sent {
    flight: Arc<Flight>,
    /// The chunk's last position in the spool.
    last: u64,
    bytes: u64,
    events: u64,
    /// Events, and what was found wrong with their chains.
    records: usize,
    heads: Stands,
    /// When its first event arrived.
    nanos: u64,
    checkpoints: Vec<StoredCheckpoint>,
}

/// Where chains stand, and how many events brought them there.
type Stands = BTreeMap<ChainName, (Head, u64)>;

/// What is delivered and not noted yet.
#[derive(Debug)]
pub(crate) struct Landed {
    last: u64,
    heads: Stands,
    is_noted: bool,
    checkpoints: Vec<StoredCheckpoint>,
    noted_at: Instant,
}

impl Landed {
    /// When it is time to note it; never, where nothing is new.
    async fn due(&self) {
        if self.is_noted {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(NOTE_EVERY.saturating_sub(self.noted_at.elapsed())).await;
    }
}

impl Default for Landed {
    fn default() -> Self {
        let (heads, checkpoints) = (BTreeMap::new(), Vec::new());
        Self { last: 0, heads, checkpoints, is_noted: true, noted_at: Instant::now() }
    }
}

/// Records that failed, and how many were sent with them, themselves among them.
struct Group {
    failed: Vec<Failed>,
    sent_with: usize,
}

impl Publisher {
    /// Runs until `stop`, and a little longer where something is left.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), PublishError> {
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST).await;
        };
        let result = tokio::select! {
            result = self.publish_all(&stop) => result,
            () = overdue => {
                tracing::warn!("kafka is behind; the rest is delivered after the next start");
                Ok(())
            }
        };
        self.spool.save().await;
        result
    }

    /// For ever; after `stop` until nothing is left.
    async fn publish_all(&mut self, stop: &CancellationToken) -> Result<(), PublishError> {
        self.make_topics_at_start().await;
        let mut pause = PAUSE.0;
        loop {
            let front = self.under_way.front().map(|sent| Arc::clone(&sent.flight));
            let bytes: u64 = self.under_way.iter().map(|sent| sent.bytes).sum();
            let is_last = stop.is_cancelled();
            let next = async {
                if is_last {
                    self.spool.next_ready(CHUNK_BYTES).await
                } else {
                    self.spool.next(CHUNK_BYTES).await
                }
            };
            let chunk = tokio::select! {
                biased;
                () = land(front.as_deref()) => {
                    self.settle().await?;
                    continue;
                }
                () = self.landed.due() => {
                    self.note().await;
                    continue;
                }
                chunk = next, if bytes < WINDOW_BYTES => chunk,
                () = stop.cancelled(), if !is_last => continue,
            };
            match chunk {
                Ok(chunk) if is_last && chunk == Chunk::default() => return self.settle_all().await,
                Ok(chunk) => {
                    self.send(&chunk);
                    pause = PAUSE.0;
                }
                Err(error) => {
                    tracing::error!(%error, "the spool cannot be read");
                    self.metrics.delivery_failures.inc();
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    fn send(&mut self, chunk: &Chunk) {
        self.metrics.records_damaged.inc_by(chunk.lost);
        let Some(last) = chunk.records.last().map(|record| record.position) else {
            return;
        };
        let flight = Flight::new();
        let (heads, checkpoints) = (BTreeMap::new(), Vec::new());
        let mut sent =
            Sent { flight, last, bytes: 0, events: 0, records: 0, heads, nanos: now(), checkpoints };
        for record in &chunk.records {
            sent.bytes += u64::try_from(record.payload.len()).unwrap_or(0);
            if let Err(error) = self.send_record(record.payload.clone(), &mut sent) {
                // Its checksum held, so another version wrote it; waiting would not help.
                tracing::error!(%error, record.position, "a record of the spool cannot be read and is passed over");
                self.metrics.records_damaged.inc();
            }
        }
        self.under_way.push_back(sent);
        self.observe();
    }

    fn send_record(&mut self, payload: bytes::Bytes, sent: &mut Sent) -> Result<(), Unreadable> {
        let spooled = Spooled::decode(payload)?;
        if let Some(checkpoint) = stored_checkpoint(&spooled.checkpoint) {
            let record = encode_checkpoint(&checkpoint);
            self.producer.send(&self.topics.checkpoints, &record, &sent.flight);
            sent.records += 1;
            sent.checkpoints.push(checkpoint);
            return Ok(());
        }
        sent.nanos = sent.nanos.min(spooled.nanos);
        let (chain, head) = (spooled.chain(), spooled.head());
        let (events, findings) = spooled.into_stored()?;
        self.stand(&mut sent.heads, &chain, head, &events);
        sent.events += u64::try_from(events.len()).unwrap_or(0);
        sent.records += events.len() + findings.len();
        let encoder = Encoder::of(&chain, self.format);
        let events = events.iter().map(|event| encoder.event(event));
        let findings = findings.iter().map(|finding| encoder.finding(finding));
        for record in events.chain(findings) {
            self.producer.send(&self.topics.events, &record, &sent.flight);
        }
        Ok(())
    }

    /// Remembers where a chain stands after these events of it.
    fn stand(&mut self, heads: &mut Stands, chain: &ChainName, head: Head, events: &[StoredEvent]) {
        let known = self.known.entry(chain.clone()).or_default();
        let new = events.iter().filter(|event| event.seq > *known).count();
        *known = (*known).max(head.seq);
        let stand = heads.entry(chain.clone()).or_insert((head, 0));
        *stand = (head, stand.1 + u64::try_from(new).unwrap_or(0));
    }

    /// The first flight has landed.
    async fn settle(&mut self) -> Result<(), PublishError> {
        let Some(first) = self.under_way.front() else {
            return Ok(());
        };
        let mut failed = first.flight.take_failed();
        if !failed.is_empty() {
            // The others come down first, so that what is tried again is alone and keeps its place.
            let mut sent_with = first.records;
            for sent in self.under_way.iter().skip(1) {
                sent.flight.land().await;
                failed.extend(sent.flight.take_failed());
                sent_with += sent.records;
            }
            self.mend(Group { failed, sent_with }).await?;
        }
        if let Some(sent) = self.under_way.pop_front() {
            self.metrics.delivered.inc_by(sent.events);
            self.landed.last = sent.last;
            self.landed.is_noted = false;
            self.landed.checkpoints.extend(sent.checkpoints);
            for (chain, (head, count)) in sent.heads {
                let stand = self.landed.heads.entry(chain).or_insert((head, 0));
                *stand = (head, stand.1 + count);
            }
        }
        self.observe();
        // Landings may leave no time for anything else.
        if self.landed.noted_at.elapsed() >= NOTE_EVERY {
            self.note().await;
        }
        Ok(())
    }

    async fn settle_all(&mut self) -> Result<(), PublishError> {
        while let Some(sent) = self.under_way.front() {
            sent.flight.land().await;
            self.settle().await?;
        }
        self.note().await;
        Ok(())
    }

    /// Frees what is delivered, after noting where its chains stand: the spool is what knew that until now.
    async fn note(&mut self) {
        if self.landed.is_noted {
            return;
        }
        let heads = self.landed.heads.iter().map(|(name, (head, count))| ChainHead {
            name: name.clone(),
            seq: head.seq,
            hash: head.hash,
            count: *count,
            floor: 0,
            removed: 0,
            nanos: 0,
        });
        match self.note_in_store(heads.collect()).await {
            Ok(()) => {
                self.landed.heads.clear();
                self.landed.is_noted = true;
                self.landed.checkpoints.clear();
                self.spool.delivered(self.landed.last);
                self.spool.save().await;
            }
            Err(error) => self.tell_unnoted(&error),
        }
        self.landed.noted_at = Instant::now();
    }

    async fn note_in_store(&self, heads: Vec<ChainHead>) -> Result<(), StoreError> {
        self.heads.note_heads(heads).await?;
        for checkpoint in &self.landed.checkpoints {
            self.heads.append_checkpoint(checkpoint.clone()).await?;
        }
        Ok(())
    }

    fn tell_unnoted(&self, error: &StoreError) {
        tracing::error!(%error, "where chains stand cannot be noted; the spool keeps what is delivered");
        self.metrics.delivery_failures.inc();
    }

    /// Sends again what failed until the brokers, or the dead topic, have it. A batch is refused whole for one of its
    /// records, so what is refused is halved until it is alone.
    async fn mend(&self, group: Group) -> Result<(), PublishError> {
        let mut pause = PAUSE.0;
        let mut work = vec![group];
        while let Some(Group { failed, sent_with }) = work.pop() {
            self.check()?;
            let (mut refused, later): (Vec<_>, Vec<_>) =
                failed.into_iter().partition(|failed| failed.class() == Class::Final);
            if !later.is_empty() {
                self.wait(&later, &mut pause).await;
                work.extend(self.resend(&later).await);
            }
            match refused.as_slice() {
                [] => {}
                [alone] if sent_with == 1 => self.bury(alone).await?,
                _ => {
                    let rest = refused.split_off(refused.len().div_ceil(2));
                    for half in [refused, rest].into_iter().filter(|half| !half.is_empty()) {
                        work.extend(self.resend(&half).await);
                    }
                }
            }
        }
        Ok(())
    }

    /// What failed again.
    async fn resend(&self, records: &[Failed]) -> Option<Group> {
        let flight = Flight::new();
        for record in records {
            self.producer.resend(record, &flight);
        }
        flight.land().await;
        let failed = flight.take_failed();
        (!failed.is_empty()).then_some(Group { failed, sent_with: records.len() })
    }

    /// After failures that may pass.
    async fn wait(&self, failed: &[Failed], pause: &mut Duration) {
        self.metrics.delivery_failures.inc();
        let reason = failed.first().map(Failed::reason).unwrap_or_default();
        tracing::error!(reason, events = failed.len(), "events cannot be delivered now");
        if failed.iter().any(Failed::lacks_topic)
            && let Err(error) = self.make_topics().await
        {
            tracing::error!(%error, "a topic is missing");
        }
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(PAUSE.1);
    }

    /// Brings a record that the broker refuses to the dead topic, without its value where that is refused as well.
    async fn bury(&self, refused: &Failed) -> Result<(), PublishError> {
        let bury = |with_value| {
            let dead = &self.topics.dead;
            self.insist(move |flight| self.producer.bury(dead, refused, with_value, flight))
        };
        let (record, reason) = (refused.name(), refused.reason());
        let with_value = bury(true).await?;
        if !with_value && !bury(false).await? {
            tracing::error!(record, "the dead topic refuses a record");
        }
        self.metrics.dead.inc();
        tracing::error!(record, reason, with_value, "kafka refuses a record; the dead topic has it");
        self.tell_refused(refused).await
    }

    /// Names the place in its chain that a refused event leaves empty in the store.
    async fn tell_refused(&self, refused: &Failed) -> Result<(), PublishError> {
        // What is no event, a checkpoint for one, leaves no place empty.
        let Ok(Entry::Event(stored)) = refused.entry() else { return Ok(()) };
        let StoredEvent { chain, seq, .. } = stored;
        let finding =
            Finding { chain: chain.clone(), event_type: "audit.refused", from: seq, to: seq, nanos: now() };
        let encoder = Encoder::of(&chain, self.format);
        let record = encoder.finding(&finding);
        if !self.insist(|flight| self.producer.send(&self.topics.events, &record, flight)).await? {
            tracing::error!(record = refused.name(), "kafka refuses to be told of a refused event");
        }
        Ok(())
    }

    /// Sends one record until the brokers have it; false: they refuse it.
    async fn insist(&self, send: impl Fn(&Arc<Flight>)) -> Result<bool, PublishError> {
        let mut pause = PAUSE.0;
        loop {
            self.check()?;
            let flight = Flight::new();
            send(&flight);
            flight.land().await;
            let failed = flight.take_failed();
            match failed.first().map(Failed::class) {
                None => return Ok(true),
                Some(Class::Final) => return Ok(false),
                Some(Class::Retriable | Class::Fatal) => self.wait(&failed, &mut pause).await,
            }
        }
    }

    /// Nothing is under way when it is called. A user that may not write is told and tried again with another client, since
    /// events can be taken meanwhile; any other end of a client is the process's.
    fn check(&self) -> Result<(), PublishError> {
        match self.producer.fatal() {
            None => Ok(()),
            Some(fatal) if fatal.is_forbidden => {
                tracing::error!(reason = fatal.reason, "kafka does not allow us to write; trying again");
                self.producer.renew().map_err(PublishError::from)
            }
            Some(fatal) => Err(PublishError::Fatal(fatal.reason)),
        }
    }

    async fn make_topics(&self) -> Result<(), TopicsError> {
        match &self.maker {
            Some(maker) => maker.make().await,
            None => Ok(()),
        }
    }

    /// Tries until the brokers are there. Those that refuse may have the topics already.
    async fn make_topics_at_start(&self) {
        let mut pause = PAUSE.0;
        while let Err(error) = self.make_topics().await {
            tracing::warn!(%error, "topics");
            if let TopicsError::Refused { .. } = error {
                return;
            }
            self.metrics.delivery_failures.inc();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn observe(&self) {
        self.metrics.set_waiting_since(self.under_way.front().map(|sent| sent.nanos));
    }
}

/// When a flight has landed; never, where there is none.
async fn land(flight: Option<&Flight>) {
    match flight {
        Some(flight) => flight.land().await,
        None => std::future::pending().await,
    }
}

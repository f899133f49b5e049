//! The loop around the consumer.
//!
//! Guarantees: one batch after the other is stored and then committed. Partitions are taken away only within `poll`, which is
//! not called while an insert is under way, so whoever takes over finds it ended. What was read and not stored is then dropped
//! here and read there. A topic that was deleted and made again is read from its beginning: librdkafka would go on where it
//! stood in the old one.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use sallyport_event_store::{ClickHouse, EventSink, StoreError};
use sallyport_event_stream::{Class, Flight, Producer, Topics, read, stored_checkpoint};
use sallyport_runtime::admin::Readiness;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, Bounds, Origin};
use crate::metrics::Metrics;
use crate::told::Told;

/// Longest wait for a record, after which the end of the process is looked for. Its last millisecond is spent asking again and
/// again, so a shorter one would cost an idle process more.
const POLL: Duration = Duration::from_millis(500);
/// Pause after a failure: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long it may take to go back to a topic's beginning.
const SEEK: Duration = Duration::from_secs(5);

/// Reads, stores, commits.
pub(crate) struct Loop {
    pub(crate) consumer: BaseConsumer<Told>,
    pub(crate) producer: Producer,
    pub(crate) store: ClickHouse,
    pub(crate) topics: Topics,
    pub(crate) bounds: Bounds,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) runtime: Handle,
    pub(crate) stop: CancellationToken,
    /// The assignment that the batch at hand was read under.
    pub(crate) generation: u64,
    /// How often a topic was made again, as far as that is looked after.
    pub(crate) remade: u64,
    /// Kafka cannot be read, and readiness says so.
    pub(crate) is_cut_off: bool,
}

/// What was read is not ours any more, or the process ends.
struct GivenUp;

impl Loop {
    /// Runs until `stop`. Blocks its thread.
    ///
    /// # Errors
    /// The consumer or the producer can do nothing any more.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        self.consumer
            .subscribe(&[&self.topics.events, &self.topics.checkpoints])
            .context("cannot subscribe")?;
        let mut batch = Batch::default();
        while !self.stop.is_cancelled() {
            let due = batch.due_in(self.bounds, Instant::now());
            if due == Some(Duration::ZERO) {
                batch = self.finish(batch)?;
            } else {
                self.poll(due.map_or(POLL, |due| due.min(POLL)), &mut batch)?;
            }
        }
        // What is not stored is read again after the next start.
        Ok(())
    }

    /// Waits for a record, and for what else librdkafka has to tell.
    fn poll(&mut self, wait: Duration, batch: &mut Batch) -> anyhow::Result<()> {
        self.tell_trouble();
        let polled = self.consumer.poll(wait);
        let generation = self.consumer.context().generation();
        if generation != self.generation {
            self.generation = generation;
            *batch = Batch::default();
            // Others may have written what we know.
            self.runtime.block_on(self.store.forget());
        }
        match polled {
            Some(Ok(message)) => self.take(&message, batch),
            Some(Err(error)) => complain(&error)?,
            None => {}
        }
        let remade = self.consumer.context().remade();
        if remade != self.remade && self.begin_again(batch) {
            self.remade = remade;
        }
        Ok(())
    }

    /// Goes back to the beginning of what is assigned. What was read stays, for perhaps nobody else has it; where it stood
    /// says nothing any more. What is known already is passed over. False: it is to be tried again.
    fn begin_again(&self, batch: &mut Batch) -> bool {
        batch.offsets.clear();
        let sought = self.consumer.assignment().and_then(|mut assigned| {
            if assigned.count() == 0 {
                return Ok(false);
            }
            assigned.set_all_offsets(Offset::Beginning)?;
            let answers = self.consumer.seek_partitions(assigned, SEEK)?;
            // Each partition has one of its own.
            answers.elements().iter().try_for_each(|partition| partition.error())?;
            Ok(true)
        });
        match sought {
            Ok(true) => {
                tracing::warn!("a topic was made again; it is read from its beginning");
                self.metrics.remade.inc();
                true
            }
            // It is done when something is assigned.
            Ok(false) => false,
            Err(error) => {
                tracing::warn!(%error, "a topic was made again, and cannot be read from its beginning now");
                false
            }
        }
    }

    fn tell_trouble(&mut self) {
        match self.consumer.context().trouble() {
            Some(trouble) => {
                self.readiness.refuse(format!("Kafka cannot be read: {trouble}"));
                self.is_cut_off = true;
            }
            None if self.is_cut_off => {
                self.readiness.set(true);
                self.is_cut_off = false;
            }
            None => {}
        }
    }

    fn take(&self, message: &BorrowedMessage<'_>, batch: &mut Batch) {
        let value = message.payload().unwrap_or_default();
        let is_checkpoint = message.topic() == self.topics.checkpoints;
        let origin = if is_checkpoint { Origin::Checkpoints } else { Origin::Events };
        batch.read((origin, message.partition()), message.offset(), value.len(), Instant::now());
        self.metrics.read.inc();
        let content_type = || {
            message
                .headers()?
                .iter()
                .find(|header| header.key == "content-type")
                .and_then(|header| header.value)
        };
        let refusal = if is_checkpoint {
            match stored_checkpoint(value) {
                Some(checkpoint) => {
                    batch.checkpoints.push(checkpoint);
                    return;
                }
                None => "value is no sallyport.audit.v1.SignedCheckpoint".to_string(),
            }
        } else {
            match read(content_type, value, |told| batch.push(told)) {
                Ok(()) => return,
                Err(error) => error.to_string(),
            }
        };
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        tracing::error!(
            refusal,
            topic,
            partition,
            offset,
            "a record cannot be read; it goes to the dead topic"
        );
        batch.dead.push((message.detach(), refusal));
    }

    /// Stores a batch and commits it; answers with what was read in between.
    fn finish(&mut self, mut batch: Batch) -> anyhow::Result<Batch> {
        let mut next = Batch::default();
        let (began, remade) = (Instant::now(), self.remade);
        if let Some(oldest) = batch.oldest() {
            self.metrics.age.set(age(oldest).as_secs_f64());
        }
        let stored = match self.bury(&batch, &mut next)? {
            Ok(()) => self.store(&mut batch, &mut next)?,
            Err(GivenUp) => Err(GivenUp),
        };
        if stored.is_ok() {
            // Offsets of a topic that is gone would be taken for those of the new one.
            if self.consumer.context().remade() == remade {
                self.commit(&batch);
            }
            self.metrics.batch_seconds.observe(began.elapsed().as_secs_f64());
            if batch.oldest().is_none() || self.metrics.waiting.get() == 0 {
                self.metrics.age.set(0.0);
            }
        }
        Ok(next)
    }

    /// Brings records that hold no event to the dead topic.
    fn bury(&mut self, batch: &Batch, next: &mut Batch) -> anyhow::Result<Result<(), GivenUp>> {
        if batch.dead.is_empty() {
            return Ok(Ok(()));
        }
        let flight = Flight::new();
        for (message, reason) in &batch.dead {
            self.producer.bury_read(&self.topics.dead, message, reason, &flight);
        }
        let mut pause = PAUSE.0;
        loop {
            self.runtime.block_on(flight.land());
            let failed = flight.take_failed();
            if failed.is_empty() {
                break;
            }
            match self.producer.fatal() {
                Some(fatal) if fatal.is_forbidden => self.producer.renew()?,
                Some(fatal) => anyhow::bail!("the producer can send nothing any more: {}", fatal.reason),
                None => {}
            }
            tracing::error!(records = failed.len(), "dead records cannot be brought to their topic now");
            if self.rest(pause, next)?.is_err() {
                return Ok(Err(GivenUp));
            }
            for failed in failed {
                match failed.class() {
                    Class::Final => self.producer.bury(&self.topics.dead, &failed, false, &flight),
                    Class::Retriable | Class::Fatal => self.producer.resend(&failed, &flight),
                }
            }
            pause = (pause * 2).min(PAUSE.1);
        }
        self.metrics.dead.inc_by(u64::try_from(batch.dead.len()).unwrap_or(0));
        Ok(Ok(()))
    }

    /// Stores the events and findings of a batch.
    fn store(&mut self, batch: &mut Batch, next: &mut Batch) -> anyhow::Result<Result<(), GivenUp>> {
        let mut pause = PAUSE.0;
        let (mut prepared, events) = (None, batch.block.len());
        loop {
            let attempt = self.runtime.block_on(async {
                let prepared = match &mut prepared {
                    Some(prepared) => prepared,
                    none => none.insert(self.store.prepare(&mut batch.block, &batch.findings).await?),
                };
                let rows = prepared.block.len();
                self.store.insert(prepared).await?;
                for checkpoint in &batch.checkpoints {
                    self.store.append_checkpoint(checkpoint.clone()).await?;
                }
                Ok::<_, StoreError>((rows, prepared.duplicates))
            });
            match attempt {
                Ok((rows, duplicates)) => {
                    self.metrics.stored.inc_by(u64::try_from(rows).unwrap_or(0));
                    self.metrics.duplicates.inc_by(u64::try_from(duplicates).unwrap_or(0));
                    self.readiness.set(true);
                    return Ok(Ok(()));
                }
                Err(error) => {
                    tracing::error!(%error, events, "events cannot be stored now");
                    self.metrics.failures.inc();
                    self.readiness.refuse(format!("ClickHouse does not take events: {error}"));
                    if self.rest(pause, next)?.is_err() {
                        self.runtime.block_on(self.store.forget());
                        return Ok(Err(GivenUp));
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    /// Waits, and stays a member of the group while it does.
    fn rest(&mut self, pause: Duration, next: &mut Batch) -> anyhow::Result<Result<(), GivenUp>> {
        let generation = self.generation;
        let assigned = self.consumer.assignment().context("assignment")?;
        self.consumer.pause(&assigned).context("cannot pause")?;
        let end = Instant::now() + pause;
        while Instant::now() < end && generation == self.generation && !self.stop.is_cancelled() {
            self.poll(end.saturating_duration_since(Instant::now()).min(POLL), next)?;
        }
        if generation != self.generation || self.stop.is_cancelled() {
            return Ok(Err(GivenUp));
        }
        self.consumer.resume(&assigned).context("cannot resume")?;
        Ok(Ok(()))
    }

    /// What is not committed is read again, and known.
    fn commit(&self, batch: &Batch) {
        let mut list = TopicPartitionList::with_capacity(batch.offsets.len());
        for ((origin, partition), offset) in &batch.offsets {
            let topic = match origin {
                Origin::Events => &self.topics.events,
                Origin::Checkpoints => &self.topics.checkpoints,
            };
            let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset));
            if let Err(error) = added {
                tracing::warn!(%error, partition, "offset cannot be committed");
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Sync) {
            tracing::warn!(%error, "offsets cannot be committed");
        }
    }
}

/// How long ago it was.
fn age(nanos: u64) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_nanos(nanos))
}

/// Errors of a consumer pass, but for those that end it.
fn complain(error: &KafkaError) -> anyhow::Result<()> {
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
        anyhow::bail!("the consumer can read nothing any more: {error}");
    }
    tracing::warn!(%error, "records cannot be read now");
    Ok(())
}

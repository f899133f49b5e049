//! Brings what the spool holds to the store, in order, again and again until it is there.

use std::time::Duration;

use prost::Message;
use sallyport_event_store::{EventSink, Finding, StoreError, StoredCheckpoint, StoredEvent};
use sallyport_event_stream::stored_checkpoint;
use sallyport_ingest_spool::{Chunk, Reader};
use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::metrics::Metrics;
use crate::spooled::{Spooled, Unreadable};

/// Bytes that are brought at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// Pause after a failure: the first, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long an end waits for what is still to be brought; the rest is brought after the next start.
const LAST: Duration = Duration::from_secs(2);

/// Brings events from the spool to the store.
#[derive(Debug)]
pub(crate) struct Delivery<S> {
    pub(crate) sink: S,
    pub(crate) spool: Reader,
    pub(crate) metrics: Metrics,
}

impl<S: EventSink> Delivery<S> {
    /// Runs until `stop`, and a little longer where something is left.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let stopped = stop.run_until_cancelled(self.deliver_all(false)).await;
        if stopped.is_none() {
            // A chunk that was under way is brought again; the store knows what it has.
            self.spool.rewind();
            if tokio::time::timeout(LAST, self.deliver_all(true)).await.is_err() {
                tracing::warn!("the store is behind; the rest is delivered after the next start");
            }
        }
        self.spool.save().await;
    }

    /// For ever, or until nothing is left.
    async fn deliver_all(&mut self, is_last: bool) {
        let mut pause = PAUSE.0;
        loop {
            let chunk = if is_last {
                self.spool.next_ready(CHUNK_BYTES).await
            } else {
                self.spool.next(CHUNK_BYTES).await
            };
            match chunk {
                Ok(chunk) if is_last && chunk == Chunk::default() => return,
                Ok(chunk) => {
                    self.deliver(&chunk).await;
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

    /// Returns when the store has all of a chunk.
    async fn deliver(&mut self, chunk: &Chunk) {
        self.metrics.records_damaged.inc_by(chunk.lost);
        let Some(last) = chunk.records.last().map(|record| record.position) else {
            return;
        };
        let mut pause = PAUSE.0;
        loop {
            let (events, findings, checkpoints) = self.decode(chunk);
            let count = events.len();
            match self.append(events, findings, checkpoints).await {
                Ok(()) => {
                    self.metrics.delivered.inc_by(u64::try_from(count).unwrap_or(0));
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, events = count, "events cannot be delivered now");
                    self.metrics.delivery_failures.inc();
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
        self.metrics.set_waiting_since(None);
        self.spool.delivered(last);
    }

    /// Checkpoints after the events that they seal.
    async fn append(
        &self,
        events: Vec<StoredEvent>,
        findings: Vec<Finding>,
        checkpoints: Vec<StoredCheckpoint>,
    ) -> Result<(), StoreError> {
        self.sink.append(events, findings).await?;
        for checkpoint in checkpoints {
            self.sink.append_checkpoint(checkpoint).await?;
        }
        Ok(())
    }

    fn decode(&self, chunk: &Chunk) -> (Vec<StoredEvent>, Vec<Finding>, Vec<StoredCheckpoint>) {
        let (mut events, mut findings, mut checkpoints) = (Vec::new(), Vec::new(), Vec::new());
        for record in &chunk.records {
            let spooled = Spooled::decode(record.payload.clone());
            if events.is_empty() {
                self.metrics.set_waiting_since(Some(
                    spooled.as_ref().map_or_else(|_| now(), |spooled| spooled.nanos),
                ));
            }
            if let Ok(Spooled { checkpoint, .. }) = &spooled
                && let Some(checkpoint) = stored_checkpoint(checkpoint)
            {
                checkpoints.push(checkpoint);
                continue;
            }
            match spooled.map_err(Unreadable::from).and_then(Spooled::into_stored) {
                Ok((more, found)) => {
                    events.extend(more);
                    findings.extend(found);
                }
                Err(error) => {
                    // Its checksum held, so another version wrote it; waiting would not help.
                    tracing::error!(%error, record.position, "a record of the spool cannot be read and is passed over");
                    self.metrics.records_damaged.inc();
                }
            }
        }
        (events, findings, checkpoints)
    }
}

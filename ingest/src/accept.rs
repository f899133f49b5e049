//! Takes batches: checks them against their chain, makes them durable in the spool, tells how far the chain is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message;
use sallyport_audit_proto::chain::{self, Head};
use sallyport_audit_proto::event_id;
use sallyport_audit_proto::v1::AuditEvent;
use sallyport_event_store::{ChainHead, ChainName, Finding};
use sallyport_ingest_spool::{AppendError, Health, Reader, Spool};
use sallyport_runtime::identity::Identity;
use tokio::sync::{Mutex, Semaphore, watch};
use tracing::Instrument;

use crate::check::{Checked, Defect, check};
use crate::metrics::Metrics;
use crate::spooled::Spooled;

/// Most bytes of batches that are at work at once.
const IN_FLIGHT: usize = 64 << 20;
/// Bytes that are read at once at a start.
const READ_BYTES: u64 = 4 << 20;

/// Events of one chain.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Who sends them.
    pub(crate) caller: Identity,
    pub(crate) chain: ChainName,
    pub(crate) events: Events,
}

#[derive(Clone, Debug)]
pub(crate) enum Events {
    /// Encoded, with their places in the chain.
    Chained(Vec<Vec<u8>>),
    /// Without a place: they follow the chain's end.
    Loose(Vec<AuditEvent>),
}

impl Events {
    fn bytes(&self) -> usize {
        match self {
            Self::Chained(events) => events.iter().map(Vec::len).sum(),
            Self::Loose(events) => events.iter().map(AuditEvent::encoded_len).sum(),
        }
    }

    /// As the chain that stands at `head` has them.
    fn encode(self, chain: &ChainName, head: Option<Head>) -> Vec<Vec<u8>> {
        let events = match self {
            Self::Chained(events) => return events,
            Self::Loose(events) => events,
        };
        let genesis = chain::genesis(&chain.proxy, chain.worker, chain.epoch);
        let mut head = head.unwrap_or(Head { seq: 0, hash: genesis });
        let place = |mut event: AuditEvent| {
            event.seq = head.seq + 1;
            event.prev_hash = head.hash.to_vec();
            event.event_id = event_id::bytes(event.time_unix_nanos / 1_000_000, &genesis, event.seq).to_vec();
            let bytes = event.encode_to_vec();
            head = Head { seq: event.seq, hash: chain::hash(&bytes) };
            bytes
        };
        events.into_iter().map(place).collect()
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Highest durable sequence of the chain.
    pub(crate) durable_seq: u64,
    /// Events that were known.
    pub(crate) duplicates: u32,
}

/// Why a batch is not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is not what it must be.
    #[error(transparent)]
    Defect(Arc<Defect>),
    /// There is no room now.
    #[error("the ingest is behind; send the batch again later")]
    Busy,
    /// The disk does not take it.
    #[error("events cannot be stored now; send the batch again")]
    Unwritable,
}

impl Refusal {
    /// When to try again; none: it would be refused again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Defect(_) => None,
            Self::Busy => Some(Duration::from_millis(500)),
            Self::Unwritable => Some(Duration::from_secs(1)),
        }
    }
}

type Entry = Arc<Mutex<Option<Head>>>;

/// Where each chain stands, the store's and what the spool still holds taken together.
#[derive(Debug, Default)]
pub(crate) struct Heads(BTreeMap<ChainName, Head>);

impl Heads {
    /// Reads the spool up to its end; the reader gives it again.
    pub(crate) async fn restore(stored: Vec<ChainHead>, spool: &mut Reader) -> std::io::Result<Self> {
        let mut heads = Self::default();
        for head in stored {
            heads.note(head.name, Head { seq: head.seq, hash: head.hash });
        }
        loop {
            let chunk = spool.next_ready(READ_BYTES).await?;
            if chunk.records.is_empty() && chunk.lost == 0 {
                break;
            }
            for record in chunk.records {
                // What cannot be read is told when it should be delivered.
                if let Ok(spooled) = Spooled::decode(record.payload) {
                    heads.note(spooled.chain(), spooled.head());
                }
            }
        }
        spool.rewind();
        Ok(heads)
    }

    fn note(&mut self, chain: ChainName, head: Head) {
        let known = self.0.entry(chain).or_insert(head);
        if head.seq > known.seq {
            *known = head;
        }
    }
}

/// Takes batches. Clones take for the same spool.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor {
    spool: Spool,
    health: watch::Receiver<Health>,
    metrics: Metrics,
    in_flight: Arc<Semaphore>,
    /// A chain's batches are taken one after the other.
    chains: Arc<Mutex<BTreeMap<ChainName, Entry>>>,
}

impl Acceptor {
    pub(crate) fn new(spool: Spool, heads: Heads, metrics: Metrics) -> Self {
        let chains =
            heads.0.into_iter().map(|(chain, head)| (chain, Arc::new(Mutex::new(Some(head))))).collect();
        Self {
            health: spool.health(),
            spool,
            metrics,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            chains: Arc::new(Mutex::new(chains)),
        }
    }

    /// Takes a batch; when this returns, it is durable. It goes on also when nobody waits any more, so that what the
    /// chain's head says is never behind the spool.
    pub(crate) async fn accept(&self, batch: Batch) -> Result<Accepted, Refusal> {
        let bytes = u32::try_from(batch.events.bytes()).unwrap_or(u32::MAX);
        let room =
            Arc::clone(&self.in_flight).try_acquire_many_owned(bytes).map_err(|_| self.refuse_busy())?;
        let acceptor = self.clone();
        let work = async move {
            let _room = room;
            acceptor.take(batch).await
        };
        tokio::spawn(work.in_current_span()).await.unwrap_or(Err(Refusal::Unwritable))
    }

    fn refuse_busy(&self) -> Refusal {
        self.metrics.pushed_back.inc();
        Refusal::Busy
    }

    async fn take(&self, batch: Batch) -> Result<Accepted, Refusal> {
        // Nothing is told before the spool is known to hold what was found in it.
        if let Health::Failing(_) = &*self.health.borrow() {
            self.metrics.failed.inc();
            return Err(Refusal::Unwritable);
        }
        let nanos = now();
        let Batch { caller, chain, events } = batch;
        let entry = Arc::clone(self.chains.lock().await.entry(chain.clone()).or_default());
        let mut head = entry.lock().await;
        let events = events.encode(&chain, *head);
        let checked = check(&chain, &caller, events, *head, nanos)
            .map_err(|defect| Refusal::Defect(Arc::new(defect)))?;
        let accepted = Accepted { durable_seq: checked.head.seq, duplicates: checked.duplicates };
        let (stored, new_head) = (checked.events.len(), checked.head);
        if stored > 0 {
            let findings = checked.findings.clone();
            self.append(&chain, checked, nanos).await?;
            self.tell(&findings);
        }
        *head = Some(new_head);
        self.metrics.stored.inc_by(u64::try_from(stored).unwrap_or(u64::MAX));
        self.metrics.duplicates.inc_by(u64::from(accepted.duplicates));
        Ok(accepted)
    }

    async fn append(&self, chain: &ChainName, checked: Checked, nanos: u64) -> Result<(), Refusal> {
        let record = Spooled::new(chain, checked, nanos).encode_to_vec();
        match self.spool.append(record).await {
            Ok(_) => Ok(()),
            Err(AppendError::Full | AppendError::Busy) => Err(self.refuse_busy()),
            Err(error @ (AppendError::Disk(_) | AppendError::Size | AppendError::Stopped)) => {
                tracing::error!(%error, "batch not stored");
                self.metrics.failed.inc();
                Err(Refusal::Unwritable)
            }
        }
    }

    fn tell(&self, findings: &[Finding]) {
        for Finding { chain, event_type: kind, from, to, .. } in findings {
            tracing::warn!(chain.proxy, chain.worker, from, to, kind, "chain does not hold");
            if *kind == "audit.broken" {
                self.metrics.broken.inc();
            } else {
                self.metrics.missing.inc_by(to - from + 1);
            }
        }
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    let since =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |duration| duration.as_nanos());
    u64::try_from(since).unwrap_or(u64::MAX)
}

//! Takes batches: checks them against their chain, makes them durable in the spool, tells how far the chain is.

use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use sallyport_audit_proto::chain::{self, Head};
use sallyport_audit_proto::event_id;
use sallyport_audit_proto::v1::AuditEvent;
use sallyport_event_store::{ChainName, Finding};
use sallyport_ingest_spool::{AppendError, Health, Spool};
use sallyport_runtime::identity::Identity;
use tokio::sync::{Semaphore, watch};
use tracing::Instrument;

use crate::check::{Checked, Defect, Word, check};
use crate::clock::{now, steady};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::spooled::Spooled;

/// Most bytes of batches that are at work at once.
const IN_FLIGHT: usize = 64 << 20;

/// Events of one chain.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Who sends them.
    pub(crate) caller: Identity,
    pub(crate) chain: ChainName,
    pub(crate) events: Events,
    pub(crate) word: Word,
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

/// Takes batches. Clones take for the same spool.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor {
    spool: Spool,
    health: watch::Receiver<Health>,
    metrics: Metrics,
    in_flight: Arc<Semaphore>,
    /// Where each chain stands; a chain's batches are taken one after the other.
    ledger: Ledger,
}

impl Acceptor {
    pub(crate) fn new(spool: Spool, ledger: Ledger, metrics: Metrics) -> Self {
        let (health, in_flight) = (spool.health(), Arc::new(Semaphore::new(IN_FLIGHT)));
        Self { health, spool, metrics, in_flight, ledger }
    }

    /// Takes a batch; when this returns, it is durable. It goes on also when nobody waits any more, so that what the
    /// chain's head says is never behind the spool.
    pub(crate) async fn accept(&self, batch: Batch) -> Result<Accepted, Refusal> {
        let bytes = u32::try_from(batch.events.bytes()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.in_flight).try_acquire_many_owned(bytes) else {
            self.ledger.spoke(&batch.chain, steady()).await;
            return Err(self.refuse_busy());
        };
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
        let is_failing = matches!(&*self.health.borrow(), Health::Failing(_));
        if is_failing {
            self.metrics.failed.inc();
            self.ledger.spoke(&batch.chain, steady()).await;
            return Err(Refusal::Unwritable);
        }
        let nanos = now();
        let Batch { caller, chain, events, word } = batch;
        let entry = self.ledger.entry(&chain, steady()).await;
        let mut standing = entry.lock().await;
        standing.spoke(steady());
        let events = events.encode(&chain, standing.head);
        let mut checked = check(&chain, &caller, events, (standing.head, standing.told()), nanos)
            .map_err(|defect| Refusal::Defect(Arc::new(defect)))?;
        let accepted = Accepted { durable_seq: checked.head.seq, duplicates: checked.duplicates };
        let (stored, new_head) = (checked.events.len(), checked.head);
        let count = standing.count.saturating_add(u64::try_from(stored).unwrap_or(u64::MAX));
        let announced = standing.announced.max(word.last_seq);
        if let Some((from, to)) = word.dropped_since(new_head, count, standing.told()) {
            let chain = chain.clone();
            checked.findings.push(Finding { chain, event_type: "audit.dropped", from, to, nanos });
        }
        if stored > 0 || !checked.findings.is_empty() {
            let findings = checked.findings.clone();
            let record = Spooled::new(&chain, checked, nanos).counted(count, announced);
            self.append(&record).await?;
            self.tell(&findings);
            standing.tell(&findings);
        }
        standing.heard(new_head, count, announced, steady());
        self.metrics.stored.inc_by(u64::try_from(stored).unwrap_or(u64::MAX));
        self.metrics.duplicates.inc_by(u64::from(accepted.duplicates));
        Ok(accepted)
    }

    /// Writes down what is missing of chains that have ended or fallen silent, as far as that is not done yet.
    pub(crate) async fn close_ended(&self) {
        let nanos = now();
        for (chain, entry, ending) in self.ledger.ended(steady()).await {
            let mut standing = entry.lock().await;
            let Some(lost) = standing.lost(&chain, ending, nanos) else { continue };
            if let Some(finding) = lost {
                let head = standing.head.unwrap_or(Head { seq: 0, hash: [0; 32] });
                let (findings, duplicates) = (vec![finding], 0);
                let checked = Checked { events: Vec::new(), findings: findings.clone(), duplicates, head };
                let (count, announced) = (standing.count, standing.announced);
                let record = Spooled::new(&chain, checked, nanos).counted(count, announced);
                if self.append(&record).await.is_err() {
                    // It stays open, and is tried again.
                    continue;
                }
                self.tell(&findings);
            }
            standing.close(&chain);
        }
    }

    /// Where the chains stand.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Makes a checkpoint durable, behind everything that it seals.
    pub(crate) async fn append_checkpoint(&self, signed: Vec<u8>, nanos: u64) -> Result<(), Refusal> {
        self.append(&Spooled::checkpoint(signed, nanos)).await
    }

    async fn append(&self, record: &Spooled) -> Result<(), Refusal> {
        match self.spool.append(record.encode_to_vec()).await {
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
        for finding in findings {
            let Finding { chain, event_type: kind, from, to, .. } = finding;
            tracing::warn!(chain.proxy, chain.worker, from, to, kind, "chain does not hold");
            match *kind {
                "audit.broken" => drop(self.metrics.broken.inc()),
                "audit.fork" => drop(self.metrics.forked.inc()),
                "audit.lost" | "audit.silent" => drop(self.metrics.cut_off.inc()),
                _ => {}
            }
            self.metrics.missing.inc_by(finding.missing());
        }
    }
}

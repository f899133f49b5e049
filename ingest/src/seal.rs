//! Seals where all chains stand into signed checkpoints.
//!
//! A checkpoint goes through the spool, behind the events that it seals, so no store has it before them. The last one is
//! kept in a file of its own as well, which is written first: a crash between the two loses no number.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sallyport_audit_proof::{Checkpoint, Sealer, SecretKey};
use sallyport_event_store::{ChainHead, ChainName, Embedded, EventSink, EventStore, StoredCheckpoint};
use sallyport_runtime::files::write_whole;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::accept::Acceptor;
use crate::clock::now;
use crate::ledger::chain_id;
use crate::metrics::Metrics;

/// How often chains are looked after.
const LOOK: Duration = Duration::from_secs(1);

/// How checkpoints are made.
#[derive(Debug)]
pub(crate) struct Settings<'s> {
    /// File of the private key.
    pub(crate) key: &'s Path,
    pub(crate) interval: Duration,
    /// How long events are kept, in nanoseconds.
    pub(crate) max_age: u64,
    /// File of the last checkpoint.
    pub(crate) state: PathBuf,
}

/// What is kept of the last checkpoint.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// Signed bytes, base64.
    last: String,
    /// Number and time of checkpoints that hold all heads.
    full: Vec<(u64, u64)>,
}

/// Looks after chains: tells of those that have ended, and seals all of them.
#[derive(Debug)]
pub(crate) struct Keeper {
    acceptor: Acceptor,
    metrics: Metrics,
    /// Knows what was removed for age or room.
    store: Embedded,
    sealing: Option<Sealing>,
}

#[derive(Debug)]
struct Sealing {
    sealer: Sealer,
    state: PathBuf,
    interval: Duration,
    max_age: u64,
    /// What was removed of all chains when the last one was made.
    removed: u64,
    last: Instant,
    /// A checkpoint that was made and is not in the spool yet.
    pending: Option<(Vec<u8>, Vec<ChainName>)>,
}

impl Keeper {
    /// Without `settings` nothing is sealed.
    ///
    /// # Errors
    /// The key or the last checkpoint cannot be read.
    pub(crate) async fn new(
        acceptor: Acceptor,
        metrics: Metrics,
        store: Embedded,
        settings: Option<Settings<'_>>,
    ) -> anyhow::Result<Self> {
        let Some(settings) = settings else {
            tracing::warn!(
                "no checkpoints are made: without --checkpoint-key nobody can prove that the record is whole"
            );
            return Ok(Self { acceptor, metrics, store, sealing: None });
        };
        let Settings { key, interval, max_age, state } = settings;
        let pem = std::fs::read(key).with_context(|| format!("cannot read {}", key.display()))?;
        let key = SecretKey::from_pem(&pem).with_context(|| format!("key {}", key.display()))?;
        let State { last, full } = read_state(&state)?;
        let kept = STANDARD.decode(&last).with_context(|| format!("{} is damaged", state.display()))?;
        let last = last_of(kept, store.last_checkpoint().await.context("cannot read the checkpoints")?)?;
        let sealer = Sealer::resume(key, last.as_deref(), full, max_age).context("last checkpoint")?;
        // It may not have reached the spool.
        let pending = last.map(|signed| (signed, Vec::new()));
        let (removed, last) = (0, Instant::now());
        let sealing = Some(Sealing { sealer, state, interval, max_age, removed, last, pending });
        Ok(Self { acceptor, metrics, store, sealing })
    }

    /// For ever.
    pub(crate) async fn run(&mut self) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.acceptor.close_ended().await;
            self.seal(false).await;
        }
    }

    /// Seals what is not sealed yet; to be called when no more batches are taken.
    pub(crate) async fn finish(mut self) {
        self.seal(true).await;
    }

    async fn seal(&mut self, is_last: bool) {
        let Some(sealing) = &mut self.sealing else { return };
        if let Err(error) = sealing.seal(&self.acceptor, &self.store, &self.metrics, is_last).await {
            tracing::error!(error = format!("{error:#}"), "no checkpoint could be made");
            self.metrics.checkpoint_failures.inc();
        }
    }
}

impl Sealing {
    async fn seal(
        &mut self,
        acceptor: &Acceptor,
        store: &Embedded,
        metrics: &Metrics,
        is_last: bool,
    ) -> anyhow::Result<()> {
        self.hand_over(acceptor).await?;
        let stored = store.heads().await.context("cannot read the chains")?;
        let removed: u64 = stored.iter().map(|head| head.removed).sum();
        // What was removed is told of at once: until then it looks like a theft.
        if !is_last && self.last.elapsed() < self.interval && removed == self.removed {
            return Ok(());
        }
        let heads = acceptor.ledger().sealed(&stored).await;
        let nanos = now();
        // All of it was removed, long ago, and nothing of it is on its way.
        let is_over = |head: &&ChainHead| {
            let stands = heads.get(&chain_id(head.name.clone())).is_some_and(|known| known.seq == head.seq);
            stands && head.floor >= head.seq && nanos.saturating_sub(head.nanos) > self.max_age
        };
        let retired: Vec<ChainName> = stored.iter().filter(is_over).map(|head| head.name.clone()).collect();
        self.last = Instant::now();
        if retired.is_empty() && !self.sealer.is_due(&heads) {
            return Ok(());
        }
        let ids: Vec<_> = retired.iter().cloned().map(chain_id).collect();
        let sealed = self.sealer.seal(nanos, heads, &ids);
        let state = State { last: STANDARD.encode(&sealed.bytes), full: self.sealer.full().to_vec() };
        // Made is made: whatever fails from here on, the next one names it.
        self.removed = removed;
        self.pending = Some((sealed.bytes, retired));
        metrics.checkpoints.inc();
        metrics.set_checkpoint(sealed.sequence, nanos);
        write_whole(&self.state, serde_json::to_string(&state)?.as_bytes(), false)
            .with_context(|| format!("cannot write {}", self.state.display()))?;
        self.hand_over(acceptor).await
    }

    /// Gives the spool what was made, before anything else is: a hole among checkpoints would look like a theft.
    async fn hand_over(&mut self, acceptor: &Acceptor) -> anyhow::Result<()> {
        let Some((signed, retired)) = &self.pending else { return Ok(()) };
        acceptor.append_checkpoint(signed.clone(), now()).await?;
        acceptor.ledger().forget(retired).await;
        self.pending = None;
        Ok(())
    }
}

/// The later one of the state's file and the store's: either may come from a backup.
fn last_of(kept: Vec<u8>, stored: Option<StoredCheckpoint>) -> anyhow::Result<Option<Vec<u8>>> {
    let kept = if kept.is_empty() {
        None
    } else {
        Some((Checkpoint::decode(&kept).context("last checkpoint")?.0.sequence, kept))
    };
    let stored = stored.map(|stored| (stored.sequence, stored.bytes));
    Ok(kept.into_iter().chain(stored).max_by_key(|(sequence, _)| *sequence).map(|(_, signed)| signed))
}

fn read_state(path: &Path) -> anyhow::Result<State> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

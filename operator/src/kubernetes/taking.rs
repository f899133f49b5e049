//! Takes in what the watches tell.

use std::collections::BTreeSet;
use std::time::Instant;

use sallyport_api::Kind;
use sallyport_operator_index::Key;
use sallyport_policy::ObjectId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Hub;
use super::metrics::WatchMetrics;
use super::source::{self, Note};
use crate::control::{Control, Delta};
use crate::digest_key::DigestKey;
use crate::lock::lock;
use crate::targets::Tracked;

/// Events that are taken in together at most: readers of the index wait no longer than for these.
const BATCH: usize = 1024;

/// Brings what the watches tell to the targets.
#[derive(Debug)]
pub(crate) struct Taking {
    hub: Hub,
    control: Control,
    digest_key: watch::Receiver<Option<DigestKey>>,
    metrics: WatchMetrics,
    /// Kinds that are not known as a whole yet.
    missing: BTreeSet<Kind>,
    /// Whether all servers are known: before that, whatever names one would be complained of in vain.
    servers: watch::Sender<bool>,
    complete: watch::Sender<bool>,
}

impl Taking {
    pub(crate) fn new(
        hub: &Hub,
        control: Control,
        digest_key: watch::Receiver<Option<DigestKey>>,
        complete: watch::Sender<bool>,
        metrics: WatchMetrics,
    ) -> Self {
        let (missing, servers) = (Kind::ALL.into_iter().collect(), watch::channel(false).0);
        Self { hub: hub.clone(), control, digest_key, metrics, missing, servers, complete }
    }

    /// Watches until the process ends.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        // No proxy is told anything without it.
        let mut digest_key = self.digest_key.clone();
        let first = digest_key.wait_for(Option::is_some).await?.clone();
        self.control.rekey(first.unwrap_or_default()).await;
        let (sender, mut notes) = mpsc::channel(BATCH);
        let mut watches = JoinSet::new();
        for kind in Kind::ALL {
            let mut servers = self.servers.subscribe();
            let follow = source::follow(self.hub.client.clone(), kind, sender.clone(), self.metrics.clone());
            watches.spawn(async move {
                if kind == Kind::Server || servers.wait_for(|known| *known).await.is_ok() {
                    follow.await;
                }
            });
        }
        drop(sender);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = notes.recv_many(&mut batch, BATCH) => if count == 0 { break },
                key = changed(&mut digest_key) => {
                    tracing::info!("another key of argument digests counts");
                    self.rekey(key).await;
                }
            }
            let mut deltas: Vec<(Delta, Instant)> = Vec::new();
            for note in batch.drain(..) {
                match note {
                    Note::Delta(delta, arrived) => deltas.push((delta, arrived)),
                    Note::Listed(kind, listed) => {
                        self.apply(std::mem::take(&mut deltas)).await;
                        let gone = self.gone(kind, &listed);
                        self.apply(gone).await;
                        self.listed(kind, listed.len());
                    }
                }
            }
            self.apply(deltas).await;
        }
        anyhow::bail!("the watches ended")
    }

    #[tracing::instrument(name = "operator.change", level = "debug", skip_all)]
    async fn rekey(&mut self, key: DigestKey) {
        for (server, tracked) in self.control.rekey(key).await {
            self.follow(server, tracked);
        }
    }

    /// Objects that we know and the list does not.
    fn gone(&self, kind: Kind, listed: &BTreeSet<ObjectId>) -> Vec<(Delta, Instant)> {
        let now = Instant::now();
        let index = lock(&self.control.index);
        let gone = index.keys().filter(|(known, id)| *known == kind && !listed.contains(id));
        gone.map(|key| (Delta::Remove(key), now)).collect()
    }

    fn listed(&mut self, kind: Kind, objects: usize) {
        tracing::info!(kind = kind.as_str(), objects, "list complete");
        self.missing.remove(&kind);
        if kind == Kind::Server {
            self.servers.send_replace(true);
        }
        if self.missing.is_empty() {
            self.complete.send_replace(true);
        }
    }

    #[tracing::instrument(name = "operator.change", level = "debug", skip_all, fields(changes = deltas.len()))]
    async fn apply(&mut self, deltas: Vec<(Delta, Instant)>) {
        if deltas.is_empty() {
            return;
        }
        let (deltas, arrivals): (Vec<Delta>, Vec<Instant>) = deltas.into_iter().unzip();
        let keys: Vec<Key> = deltas.iter().map(Delta::key).collect();
        for (server, tracked) in self.control.apply(deltas).await {
            self.follow(server, tracked);
        }
        for arrived in arrivals {
            self.metrics.lag.observe(arrived.elapsed().as_secs_f64());
        }
        self.hub.objects.publish(&keys);
    }

    /// Follows what the proxies of a new target do.
    fn follow(&self, server: ObjectId, tracked: Tracked) {
        let news = self.hub.proxies.clone();
        let Tracked { target, end, .. } = tracked;
        let answered = move || news.publish(std::slice::from_ref(&server));
        tokio::spawn(self.control.metrics.clone().follow(target, answered, end));
    }
}

/// Waits for another key.
async fn changed(key: &mut watch::Receiver<Option<DigestKey>>) -> DigestKey {
    if key.changed().await.is_err() {
        // A file's key stays what it is.
        std::future::pending::<()>().await;
    }
    key.borrow_and_update().clone().unwrap_or_default()
}

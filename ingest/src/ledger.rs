//! Where each chain stands: how far it came, what its proxy says it has given out, and whether it has ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use sallyport_audit_proof::{ChainId, End, SealedHead};
use sallyport_audit_proto::chain::Head;
use sallyport_event_store::{ChainHead, ChainName, Finding};
use sallyport_ingest_spool::Reader;
use tokio::sync::Mutex;

use crate::spooled::Spooled;

/// Bytes that are read at once at a start.
const READ_BYTES: u64 = 4 << 20;
/// A worker that tells what it has given out does so at least every four seconds; one that was not heard for so long is
/// gone, if its proxy lives: nanoseconds.
const SILENT: u64 = 8_000_000_000;
/// A worker's new chain is believed to end its old one when that is silent for so long beside it, in nanoseconds: two workers
/// that began in the same instant may bear one number.
const GRACE: u64 = 5_000_000_000;
/// What the names of chains begin with that the ingest makes itself.
const SOURCE: &str = "source:";

/// Where a chain stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// Its last event; none: there was none.
    pub(crate) head: Option<Head>,
    /// Events of it that arrived.
    pub(crate) count: u64,
    /// The highest sequence that its proxy said it had given out; 0: it said nothing.
    pub(crate) announced: u64,
    /// When it was first heard of since the start, nanoseconds since 1970.
    since: u64,
    /// When it was last heard of, nanoseconds since 1970.
    heard: u64,
    end: End,
}

impl Standing {
    /// A batch was taken.
    pub(crate) fn heard(&mut self, head: Head, count: u64, announced: u64, nanos: u64) {
        *self = Self {
            head: (head.seq > 0).then_some(head),
            count,
            announced,
            heard: nanos,
            since: self.since,
            // What was given up for dead and speaks is not.
            end: End::Open,
        };
    }

    /// What an ended chain lost, if that is not told yet. Whatever its worker had not sent is gone; how many that were beyond
    /// those that it announced nobody knows. The ingest's own chains lose nothing.
    pub(crate) fn lost(&self, chain: &ChainName, nanos: u64) -> Option<Option<Finding>> {
        if self.end != End::Open {
            return None;
        }
        let seq = self.head.map_or(0, |head| head.seq);
        if chain.proxy.starts_with(SOURCE) || (seq == 0 && self.announced == 0) {
            return Some(None);
        }
        let (chain, event_type) = (chain.clone(), "audit.lost");
        Some(Some(Finding { chain, event_type, from: seq + 1, to: self.announced.max(seq), nanos }))
    }

    pub(crate) fn end(&self) -> End {
        self.end
    }

    /// When it was last heard of, nanoseconds since 1970.
    pub(crate) fn last_heard(&self) -> u64 {
        self.heard
    }

    pub(crate) fn close(&mut self, chain: &ChainName) {
        self.end = if chain.proxy.starts_with(SOURCE) { End::Complete } else { End::CutOff };
    }
}

type Entry = Arc<Mutex<Standing>>;

/// Where all chains stand. Clones share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<BTreeMap<ChainName, Entry>>>);

impl Ledger {
    /// The store's and what the spool still holds taken together. Reads the spool up to its end; the reader gives it again.
    pub(crate) async fn restore(stored: Vec<ChainHead>, spool: &mut Reader) -> std::io::Result<Self> {
        let mut chains: BTreeMap<ChainName, Standing> = BTreeMap::new();
        for head in stored {
            let standing = Standing {
                head: Some(Head { seq: head.seq, hash: head.hash }),
                count: head.count,
                heard: head.nanos,
                since: head.nanos,
                ..Standing::default()
            };
            chains.insert(head.name, standing);
        }
        loop {
            let chunk = spool.next_ready(READ_BYTES).await?;
            if chunk.records.is_empty() && chunk.lost == 0 {
                break;
            }
            for record in chunk.records {
                // What cannot be read is told when it should be delivered.
                if let Ok(spooled) = Spooled::decode(record.payload)
                    && spooled.checkpoint.is_empty()
                {
                    note(chains.entry(spooled.chain()).or_default(), &spooled);
                }
            }
        }
        spool.rewind();
        close_followed(&mut chains);
        let chains = chains.into_iter().map(|(chain, standing)| (chain, Arc::new(Mutex::new(standing))));
        Ok(Self(Arc::new(Mutex::new(chains.collect()))))
    }

    /// A chain's standing, from now on if it is new.
    pub(crate) async fn entry(&self, chain: &ChainName, nanos: u64) -> Entry {
        let mut chains = self.0.lock().await;
        if let Some(entry) = chains.get(chain) {
            return Arc::clone(entry);
        }
        let standing = Standing { since: nanos, heard: nanos, ..Standing::default() };
        Arc::clone(chains.entry(chain.clone()).or_insert_with(|| Arc::new(Mutex::new(standing))))
    }

    /// All of them, as they stand.
    pub(crate) async fn all(&self) -> BTreeMap<ChainName, Standing> {
        let entries = self.0.lock().await.clone();
        let mut all = BTreeMap::new();
        for (chain, entry) in entries {
            all.insert(chain, *entry.lock().await);
        }
        all
    }

    /// Chains that have ended and are not closed yet: their worker began another one, or does not speak any more while its
    /// proxy has begun another one since.
    pub(crate) async fn ended(&self, nanos: u64) -> Vec<(ChainName, Entry)> {
        let all = self.all().await;
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for (chain, standing) in &all {
            let since = newest.entry(&chain.proxy).or_default();
            *since = (*since).max(standing.since);
        }
        let mut names = Vec::new();
        let mut following: Option<(&ChainName, &Standing)> = None;
        for (chain, standing) in all.iter().rev() {
            let is_followed = following.is_some_and(|(next, began)| {
                (&next.proxy, next.worker) == (&chain.proxy, chain.worker)
                    && began.since >= standing.heard
                    && nanos.saturating_sub(began.since) >= GRACE
            });
            following = Some((chain, standing));
            let is_silent = standing.announced > 0
                && nanos.saturating_sub(standing.heard) > SILENT
                && newest.get(chain.proxy.as_str()).is_some_and(|since| *since > standing.heard);
            if standing.end == End::Open && (is_followed || is_silent) {
                names.push(chain.clone());
            }
        }
        let chains = self.0.lock().await;
        names
            .into_iter()
            .filter_map(|name| chains.get(&name).map(|entry| (name, Arc::clone(entry))))
            .collect()
    }

    /// Forgets chains.
    pub(crate) async fn forget(&self, names: &[ChainName]) {
        let mut chains = self.0.lock().await;
        for name in names {
            chains.remove(name);
        }
    }

    /// What a checkpoint seals; `stored` tells what was removed for age or room.
    pub(crate) async fn sealed(&self, stored: &[ChainHead]) -> BTreeMap<ChainId, SealedHead> {
        let stored: BTreeMap<&ChainName, &ChainHead> = stored.iter().map(|head| (&head.name, head)).collect();
        let mut heads = BTreeMap::new();
        for (chain, standing) in self.all().await {
            let Some(head) = standing.head else { continue };
            let kept = stored.get(&chain);
            let id = chain_id(chain);
            let sealed = SealedHead {
                chain: id.clone(),
                seq: head.seq,
                hash: head.hash,
                count: standing.count,
                floor: kept.map_or(0, |kept| kept.floor),
                removed: kept.map_or(0, |kept| kept.removed),
                // While it lives, what it has given out is only its haste.
                announced: if standing.end == End::Open { 0 } else { standing.announced },
                end: standing.end,
            };
            heads.insert(id, sealed);
        }
        heads
    }
}

/// A chain's name as a checkpoint has it.
pub(crate) fn chain_id(chain: ChainName) -> ChainId {
    ChainId { proxy: chain.proxy, worker: chain.worker, epoch: chain.epoch }
}

fn note(standing: &mut Standing, spooled: &Spooled) {
    let head = spooled.head();
    if standing.head.is_none_or(|known| head.seq > known.seq) && head.seq > 0 {
        // A record of an earlier version does not count; it is as if nothing were missing before it.
        let more = u64::try_from(spooled.events.len()).unwrap_or(u64::MAX);
        let count = if spooled.count > 0 { spooled.count } else { standing.count.saturating_add(more) };
        (standing.head, standing.count) = (Some(head), count);
    }
    standing.announced = standing.announced.max(spooled.announced);
    standing.heard = standing.heard.max(spooled.nanos);
}

/// Chains that had a follower before this start: what they lost was told then.
fn close_followed(chains: &mut BTreeMap<ChainName, Standing>) {
    let mut following: Option<(String, u32)> = None;
    for (chain, standing) in chains.iter_mut().rev() {
        let name = (chain.proxy.clone(), chain.worker);
        if following.as_ref() == Some(&name) {
            standing.close(chain);
        }
        following = Some(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn chain(worker: u32, epoch: u64) -> ChainName {
        ChainName { proxy: "edge".into(), worker, epoch }
    }

    async fn hear(ledger: &Ledger, chain: &ChainName, seq: u64, announced: u64, at: u64) {
        let entry = ledger.entry(chain, at).await;
        entry.lock().await.heard(Head { seq, hash: [1; 32] }, seq, announced, at);
    }

    async fn ended(ledger: &Ledger, at: u64) -> Vec<ChainName> {
        ledger.ended(at).await.into_iter().map(|(chain, _)| chain).collect()
    }

    #[tokio::test]
    async fn a_chain_has_ended_when_its_worker_began_another_or_is_silent_while_its_proxy_goes_on() {
        let ledger = Ledger::default();
        for worker in [1, 2] {
            hear(&ledger, &chain(worker, 5), 10, 14, 0).await;
        }
        assert_eq!(ended(&ledger, 100 * SECOND).await, [], "silence of a whole proxy may be the network's");
        hear(&ledger, &chain(1, 5), 10, 14, 100 * SECOND).await;
        assert_eq!(ended(&ledger, 101 * SECOND).await, [], "nobody took its place");
        hear(&ledger, &chain(3, 9), 0, 0, 102 * SECOND).await;
        assert_eq!(ended(&ledger, 103 * SECOND).await, [chain(2, 5)]);
        hear(&ledger, &chain(1, 9), 0, 0, 103 * SECOND).await;
        assert_eq!(ended(&ledger, 107 * SECOND).await, [chain(2, 5)], "it may be a twin");
        assert_eq!(ended(&ledger, 108 * SECOND).await, [chain(2, 5), chain(1, 5)]);
        hear(&ledger, &chain(1, 5), 11, 14, 109 * SECOND).await;
        assert_eq!(ended(&ledger, 110 * SECOND).await, [chain(2, 5)], "it was one");
    }

    #[tokio::test]
    async fn what_a_chain_lost_is_told_once_and_not_when_it_speaks_again() {
        let ledger = Ledger::default();
        hear(&ledger, &chain(1, 5), 10, 14, 0).await;
        let entry = ledger.entry(&chain(1, 5), 1).await;
        let mut standing = entry.lock().await;
        let lost = standing.lost(&chain(1, 5), 7).unwrap().unwrap();
        assert_eq!((lost.event_type, lost.from, lost.to, lost.missing()), ("audit.lost", 11, 14, 4));
        standing.close(&chain(1, 5));
        assert_eq!(standing.lost(&chain(1, 5), 8), None);
        drop(standing);
        let sealed = ledger.sealed(&[]).await.into_values().next().unwrap();
        assert_eq!((sealed.end, sealed.announced, sealed.count), (End::CutOff, 14, 10));
        hear(&ledger, &chain(1, 5), 12, 14, 9).await;
        let sealed = ledger.sealed(&[]).await.into_values().next().unwrap();
        assert_eq!((sealed.end, sealed.announced), (End::Open, 0));
    }

    #[tokio::test]
    async fn the_ingests_own_chains_lose_nothing() {
        let ledger = Ledger::default();
        let own = |epoch| ChainName { proxy: "source:billing".into(), worker: 0, epoch };
        hear(&ledger, &own(1), 3, 0, 0).await;
        hear(&ledger, &own(2), 3, 0, 1).await;
        let (name, entry) = ledger.ended(6 * SECOND).await.remove(0);
        assert_eq!(entry.lock().await.lost(&name, 2), Some(None));
        let idle = Standing::default();
        assert_eq!(idle.lost(&chain(1, 1), 2), Some(None), "nor does a worker that gave out nothing");
    }
}

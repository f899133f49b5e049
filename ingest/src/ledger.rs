//! Where each chain stands: how far it came, what its proxy says it has given out, and whether it has ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use sallyport_audit_proof::{ChainId, End, SealedHead};
use sallyport_audit_proto::chain::Head;
use sallyport_event_store::{ChainHead, ChainName, Finding};
use sallyport_ingest_spool::Reader;
use tokio::sync::Mutex;

use crate::clock::steady;
use crate::spooled::Spooled;

/// Bytes that are read at once at a start.
const READ_BYTES: u64 = 4 << 20;
/// A worker that tells what it has given out does so at least every four seconds; one that was not heard for so long is
/// gone, or cannot reach us: nanoseconds.
const SILENT: u64 = 8_000_000_000;
/// A worker's new chain is believed to end its old one when that is silent for so long beside it, in nanoseconds: two workers
/// that began in the same instant may bear one number.
const GRACE: u64 = 5_000_000_000;
/// What the names of chains begin with that the ingest makes itself.
const SOURCE: &str = "source:";

/// How a chain came to its end, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Its proxy began another one: nothing more comes.
    Followed,
    /// Nothing is heard of its proxy: what it announced is missing, and may still come.
    Silent,
}

/// Where a chain stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    /// Its last event; none: there was none.
    pub(crate) head: Option<Head>,
    /// Events of it that arrived.
    pub(crate) count: u64,
    /// The highest sequence that its proxy said it had given out; 0: it said nothing.
    pub(crate) announced: u64,
    /// Up to this sequence it is told what was dropped; 0: nothing was, as far as is known.
    told: u64,
    /// When it was first heard of since the start, by the steady clock.
    since: u64,
    /// When it was last heard of, by the steady clock.
    heard: u64,
    end: End,
}

impl Standing {
    /// Its worker spoke at `nanos` of the steady clock; what it said may not have been taken.
    pub(crate) fn spoke(&mut self, nanos: u64) {
        self.heard = nanos;
    }

    /// A batch was taken.
    pub(crate) fn heard(&mut self, head: Head, count: u64, announced: u64, nanos: u64) {
        *self = Self {
            head: (head.seq > 0).then_some(head),
            count,
            announced,
            heard: nanos,
            told: self.told,
            since: self.since,
            // What was given up for dead and speaks is not.
            end: End::Open,
        };
    }

    /// Up to which sequence it is told what was dropped.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    /// These findings are told.
    pub(crate) fn tell(&mut self, findings: &[Finding]) {
        let dropped = findings.iter().filter(|finding| finding.event_type == "audit.dropped");
        self.told = dropped.map(|finding| finding.to).fold(self.told, u64::max);
    }

    /// What an ended chain lost, if that is not told yet. Whatever its worker had not sent is gone; how many that were beyond
    /// those that it announced nobody knows. The ingest's own chains lose nothing.
    pub(crate) fn lost(&self, chain: &ChainName, ending: Ending, nanos: u64) -> Option<Option<Finding>> {
        if self.end != End::Open {
            return None;
        }
        let seq = self.head.map_or(0, |head| head.seq);
        if chain.proxy.starts_with(SOURCE) || (seq == 0 && self.announced == 0) {
            return Some(None);
        }
        let event_type = match ending {
            Ending::Followed => "audit.lost",
            Ending::Silent => "audit.silent",
        };
        let chain = chain.clone();
        // What it dropped is not lost again.
        let seq = seq.max(self.told);
        Some(Some(Finding { chain, event_type, from: seq + 1, to: self.announced.max(seq), nanos }))
    }

    /// Whether it announced more than has come.
    fn is_owing(&self) -> bool {
        self.announced > self.head.map_or(0, |head| head.seq).max(self.told)
    }

    pub(crate) fn end(&self) -> End {
        self.end
    }

    /// When it was last heard of, by the steady clock.
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
pub(crate) struct Ledger {
    chains: Arc<Mutex<BTreeMap<ChainName, Entry>>>,
    /// Since when proxies can be heard, by the steady clock.
    listens: u64,
}

impl Ledger {
    /// The store's and what the spool still holds taken together. Reads the spool up to its end; the reader gives it again.
    pub(crate) async fn restore(stored: Vec<ChainHead>, spool: &mut Reader) -> std::io::Result<Self> {
        let mut chains: BTreeMap<ChainName, Standing> = BTreeMap::new();
        let listens = steady();
        for head in stored {
            // The clock may have been set back since.
            let heard = head.nanos.min(listens);
            let standing = Standing {
                head: Some(Head { seq: head.seq, hash: head.hash }),
                count: head.count,
                heard,
                since: heard,
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
        Ok(Self { chains: Arc::new(Mutex::new(chains.collect())), listens })
    }

    /// A chain's standing, from `nanos` of the steady clock on if it is new.
    pub(crate) async fn entry(&self, chain: &ChainName, nanos: u64) -> Entry {
        let mut chains = self.chains.lock().await;
        if let Some(entry) = chains.get(chain) {
            return Arc::clone(entry);
        }
        let standing = Standing { since: nanos, heard: nanos, ..Standing::default() };
        Arc::clone(chains.entry(chain.clone()).or_insert_with(|| Arc::new(Mutex::new(standing))))
    }

    /// A chain's worker spoke, and what it said is not taken: it lives all the same. Never waits for a batch that is at work,
    /// which tells so itself.
    pub(crate) async fn spoke(&self, chain: &ChainName, nanos: u64) {
        if let Ok(mut standing) = self.entry(chain, nanos).await.try_lock() {
            standing.spoke(nanos);
        }
    }

    /// All of them, as they stand.
    pub(crate) async fn all(&self) -> BTreeMap<ChainName, Standing> {
        let entries = self.chains.lock().await.clone();
        let mut all = BTreeMap::new();
        for (chain, entry) in entries {
            all.insert(chain, *entry.lock().await);
        }
        all
    }

    /// Chains that have ended at `nanos` of the steady clock and are not closed yet: their worker began another one, or does
    /// not speak any more while its proxy has begun another one since; and those that are silent, with their whole proxy,
    /// though they have announced more than has come.
    pub(crate) async fn ended(&self, nanos: u64) -> Vec<(ChainName, Entry, Ending)> {
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
            if standing.end != End::Open {
                continue;
            }
            let is_alone = newest.get(chain.proxy.as_str()).is_none_or(|since| *since <= standing.heard);
            // Before the start it could not be heard.
            let is_silent = |heard: u64| standing.announced > 0 && nanos.saturating_sub(heard) > SILENT;
            if is_followed || (is_silent(standing.heard) && !is_alone) {
                names.push((chain.clone(), Ending::Followed));
            } else if is_silent(standing.heard.max(self.listens)) && standing.is_owing() {
                names.push((chain.clone(), Ending::Silent));
            }
        }
        let chains = self.chains.lock().await;
        let found = |(name, ending)| chains.get(&name).map(|entry| (name, Arc::clone(entry), ending));
        names.into_iter().filter_map(found).collect()
    }

    /// Forgets chains.
    pub(crate) async fn forget(&self, names: &[ChainName]) {
        let mut chains = self.chains.lock().await;
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
    standing.told = standing.told.max(spooled.dropped_to());
    standing.heard = standing.heard.max(spooled.nanos.min(steady()));
    // What was said of its end is said; what spoke since is open.
    if spooled.tells_end() {
        standing.close(&spooled.chain());
    } else {
        standing.end = End::Open;
    }
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
        ledger.ended(at).await.into_iter().map(|(chain, ..)| chain).collect()
    }

    #[tokio::test]
    async fn a_chain_has_ended_when_its_worker_began_another_or_is_silent_while_its_proxy_goes_on() {
        let ledger = Ledger::default();
        for worker in [1, 2] {
            hear(&ledger, &chain(worker, 5), 10, 10, 0).await;
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
        let lost = standing.lost(&chain(1, 5), Ending::Followed, 7).unwrap().unwrap();
        assert_eq!((lost.event_type, lost.from, lost.to, lost.missing()), ("audit.lost", 11, 14, 4));
        standing.close(&chain(1, 5));
        assert_eq!(standing.lost(&chain(1, 5), Ending::Followed, 8), None);
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
        let (name, entry, ending) = ledger.ended(6 * SECOND).await.remove(0);
        assert_eq!(entry.lock().await.lost(&name, ending, 2), Some(None));
        let idle = Standing::default();
        assert_eq!(idle.lost(&chain(1, 1), ending, 2), Some(None), "nor does a worker that gave out nothing");
    }

    #[tokio::test]
    async fn a_proxy_that_falls_silent_with_events_that_it_announced_is_told_of_within_nine_seconds_and_may_return()
     {
        let ledger = Ledger { listens: 50 * SECOND, ..Ledger::default() };
        hear(&ledger, &chain(1, 5), 10, 14, 49 * SECOND).await;
        hear(&ledger, &chain(2, 5), 10, 10, 49 * SECOND).await;
        assert_eq!(ended(&ledger, 58 * SECOND).await, [], "before the start nobody could hear it");
        let (name, entry, ending) = ledger.ended(59 * SECOND).await.remove(0);
        assert_eq!((&name, ending), (&chain(1, 5), Ending::Silent));
        let mut standing = entry.lock().await;
        let lost = standing.lost(&name, ending, 7).unwrap().unwrap();
        assert_eq!((lost.event_type, lost.from, lost.to, lost.missing()), ("audit.silent", 11, 14, 4));
        standing.close(&name);
        drop(standing);
        assert_eq!(ended(&ledger, 70 * SECOND).await, [], "once");
        hear(&ledger, &chain(1, 5), 14, 14, 71 * SECOND).await;
        assert_eq!(entry.lock().await.end(), End::Open);
        assert_eq!(ended(&ledger, 90 * SECOND).await, [], "it owes nothing");
        hear(&ledger, &chain(1, 5), 14, 20, 91 * SECOND).await;
        entry.lock().await.spoke(99 * SECOND);
        assert_eq!(ended(&ledger, 100 * SECOND).await, [], "it was pushed back, and lives");
    }
}

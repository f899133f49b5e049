//! Where the record is read: a store's file, or the control API.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sallyport_audit_proof::{ChainId, Checkpoint, Covered, Covers, Verifier};
use sallyport_event_store::{
    ChainName, ChainedEvent, Depth, Embedded, EventStore, Position, Selection, Span, StoredCheckpoint,
};
use serde_json::Value;
use tokio::time::Instant;

use crate::client::Client;

/// Events of one page.
const PAGE: u32 = 1000;
/// Checkpoints of one page.
const CHECKPOINTS: u32 = 500;
/// The ingest looks for what retention removed each second, and what it seals is stored a moment later.
const TOLD: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

/// A record that can be read.
pub(crate) enum Source {
    Store(Embedded),
    Api(Client),
}

/// Which events.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Which {
    /// From this time on, as `2030-12-31T23:59:00Z`.
    #[arg(long)]
    pub(crate) since: Option<jiff::Timestamp>,
    /// Before this time.
    #[arg(long)]
    pub(crate) until: Option<jiff::Timestamp>,
    /// Chains with events of this server, as `name` or `namespace/name`.
    #[arg(long)]
    pub(crate) server: Option<String>,
}

impl Which {
    fn is_all(&self) -> bool {
        self.since.is_none() && self.until.is_none() && self.server.is_none()
    }

    fn selection(&self) -> Selection {
        let nanos =
            |time: Option<jiff::Timestamp>| time.map(|time| u64::try_from(time.as_nanosecond()).unwrap_or(0));
        let (namespace, server) = match self.server.as_deref().map(|server| server.split_once('/')) {
            Some(Some((namespace, name))) => (Some(namespace.to_string()), Some(name.to_string())),
            Some(None) => (None, self.server.clone()),
            None => (None, None),
        };
        Selection { since: nanos(self.since), until: nanos(self.until), namespace, server }
    }
}

impl Source {
    pub(crate) fn store(path: &Path) -> anyhow::Result<Self> {
        anyhow::ensure!(
            path.is_file(),
            "{} is not there; --store names the file of an event store",
            path.display()
        );
        Ok(Self::Store(Embedded::reader(path)))
    }

    /// All checkpoints, signed.
    pub(crate) async fn checkpoints(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut tries = 0;
        loop {
            let all = self.checkpoints_after(0).await?;
            // Old ones may have been removed between two pages.
            let is_whole = all.windows(2).all(|pair| matches!(pair, [one, next] if one.0 + 1 == next.0));
            tries += 1;
            if is_whole || tries > 2 {
                return Ok(all.into_iter().map(|(_, signed)| signed).collect());
            }
        }
    }

    /// Checkpoints after this sequence: their own, and the signed bytes.
    async fn checkpoints_after(&self, mut after: u64) -> anyhow::Result<Vec<(u64, Vec<u8>)>> {
        let mut all = Vec::new();
        loop {
            let page = match self {
                Self::Store(store) => store.checkpoints(after, CHECKPOINTS).await?,
                Self::Api(client) => fetch_checkpoints(client, after).await?,
            };
            let Some(last) = page.last() else { return Ok(all) };
            after = last.sequence;
            all.extend(page.into_iter().map(|checkpoint| (checkpoint.sequence, checkpoint.bytes)));
        }
    }

    /// Gives a verifier that has read all events what was sealed since the checkpoint `after`, until nothing is in doubt:
    /// retention may have removed events while they were read, and the ingest tells of that a moment later. Answers with what
    /// was given.
    pub(crate) async fn settle(&self, verifier: &mut Verifier, after: u64) -> anyhow::Result<Vec<Vec<u8>>> {
        let (mut after, mut given) = (after, Vec::new());
        let until = Instant::now() + TOLD;
        // Without a checkpoint nobody tells.
        while after > 0 && verifier.is_in_doubt() {
            let later = self.checkpoints_after(after).await?;
            if later.is_empty() && Instant::now() >= until {
                break;
            }
            if later.is_empty() {
                tokio::time::sleep(LOOK).await;
            }
            for (sequence, signed) in later {
                verifier.checkpoint(&signed);
                after = sequence;
                given.push(signed);
            }
        }
        Ok(given)
    }

    /// What `which` selects of a record with these checkpoints.
    pub(crate) async fn covers(&self, which: &Which, checkpoints: &[Vec<u8>]) -> anyhow::Result<Covers> {
        if which.is_all() {
            return Ok(Covers::default());
        }
        let selection = which.selection();
        let (since, until) = (selection.since, selection.until);
        let spans = match self {
            Self::Store(store) => store.spans(selection).await?,
            Self::Api(client) => fetch_spans(client, &selection).await?,
        };
        let text = |time: Option<jiff::Timestamp>| time.map(|time| time.to_string());
        let covers = Covers {
            since: text(which.since),
            until: text(which.until),
            server: which.server.clone(),
            parts: None,
        };
        let spans = spans.into_iter().map(|span| {
            let (first, last) = (span.first, span.last);
            Covered { chain: id(span.chain), first, last }
        });
        Ok(covers.with_parts(spans, checkpoints.iter().map(Vec::as_slice), since, until))
    }

    /// Hands over the events that are covered, in order.
    pub(crate) async fn events(
        &self,
        covers: &Covers,
        depth: Depth,
        mut take: impl FnMut(ChainedEvent) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Some(parts) = &covers.parts else {
            return self.walk(None, None, depth, &mut take).await;
        };
        for part in parts {
            let chain = name(&part.chain);
            let before = Position { chain, seq: part.first.saturating_sub(1) };
            self.walk(Some(before), Some(part.last), depth, &mut take).await?;
        }
        Ok(())
    }

    /// From `after` on to the end, or in its chain to the sequence `last`.
    async fn walk(
        &self,
        mut after: Option<Position>,
        last: Option<u64>,
        depth: Depth,
        take: &mut impl FnMut(ChainedEvent) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let chain = after.as_ref().map(|position| position.chain.clone());
        loop {
            let seq = after.as_ref().map_or(0, |position| position.seq);
            let limit =
                last.map_or(PAGE, |last| u32::try_from(last.saturating_sub(seq)).unwrap_or(PAGE).min(PAGE));
            if limit == 0 {
                return Ok(());
            }
            let page = match self {
                Self::Store(store) => store.scan(after.clone(), limit, depth).await?,
                Self::Api(client) => fetch_events(client, after.as_ref(), limit, depth).await?,
            };
            let Some(end) = page.last() else { return Ok(()) };
            after = Some(Position { chain: end.chain.clone(), seq: end.seq });
            for event in page {
                if let Some(last) = last
                    && (Some(&event.chain) != chain.as_ref() || event.seq > last)
                {
                    return Ok(());
                }
                take(event)?;
            }
        }
    }
}

/// Number of the last of some checkpoints; 0: there is none, or it cannot be read.
pub(crate) fn last_of(checkpoints: &[Vec<u8>]) -> u64 {
    let last = checkpoints.last().and_then(|signed| Checkpoint::decode(signed).ok());
    last.map_or(0, |(checkpoint, _)| checkpoint.sequence)
}

/// A chain as a proof names it.
pub(crate) fn id(chain: ChainName) -> ChainId {
    ChainId { proxy: chain.proxy, worker: chain.worker, epoch: chain.epoch }
}

/// A chain as a store names it.
pub(crate) fn name(chain: &ChainId) -> ChainName {
    ChainName { proxy: chain.proxy.clone(), worker: chain.worker, epoch: chain.epoch }
}

async fn fetch_checkpoints(client: &Client, after: u64) -> anyhow::Result<Vec<StoredCheckpoint>> {
    let (after, limit) = (after.to_string(), CHECKPOINTS.to_string());
    let page = client.get("audit/checkpoints", &[("after", &after), ("limit", &limit)]).await?;
    let read = |item: &Value| {
        let sequence = item.get("sequence")?.as_u64()?;
        let bytes = decode(item, "signed")?;
        Some(StoredCheckpoint { sequence, bytes, ..StoredCheckpoint::default() })
    };
    items(&page, "checkpoints", read)
}

async fn fetch_spans(client: &Client, selection: &Selection) -> anyhow::Result<Vec<Span>> {
    let Selection { since, until, namespace, server } = selection;
    let texts = [
        ("since_nanos", since.map(|nanos| nanos.to_string())),
        ("until_nanos", until.map(|nanos| nanos.to_string())),
        ("namespace", namespace.clone()),
        ("server", server.clone()),
    ];
    let query: Vec<_> = texts.iter().filter_map(|(name, text)| Some((*name, text.as_deref()?))).collect();
    let page = client.get("audit/spans", &query).await?;
    let read = |item: &Value| {
        let number = |name: &str| item.get(name)?.as_u64();
        Some(Span {
            chain: chain(item)?,
            first: number("first")?,
            last: number("last")?,
            events: number("events")?,
        })
    };
    items(&page, "spans", read)
}

async fn fetch_events(
    client: &Client,
    after: Option<&Position>,
    limit: u32,
    depth: Depth,
) -> anyhow::Result<Vec<ChainedEvent>> {
    let mut query = vec![("limit", limit.to_string()), ("columns", (depth == Depth::Columns).to_string())];
    if let Some(Position { chain, seq }) = after {
        query.extend([
            ("proxy", chain.proxy.clone()),
            ("worker", chain.worker.to_string()),
            ("epoch", chain.epoch.to_string()),
            ("seq", seq.to_string()),
        ]);
    }
    let query: Vec<_> = query.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let page = client.get("audit/chains", &query).await?;
    let read = |item: &Value| {
        Some(ChainedEvent {
            chain: chain(item)?,
            seq: item.get("seq")?.as_u64()?,
            hash: decode(item, "hash")?.try_into().ok()?,
            bytes: decode(item, "bytes")?,
            // The name itself is the store's to know.
            differs: item.get("differs").and_then(Value::as_str).map(|_| "stored description"),
        })
    };
    items(&page, "events", read)
}

fn chain(item: &Value) -> Option<ChainName> {
    Some(ChainName {
        proxy: item.get("proxy")?.as_str()?.into(),
        worker: u32::try_from(item.get("worker")?.as_u64()?).ok()?,
        epoch: item.get("epoch")?.as_str()?.parse().ok()?,
    })
}

fn decode(item: &Value, name: &str) -> Option<Vec<u8>> {
    STANDARD.decode(item.get(name)?.as_str()?).ok()
}

fn items<T>(page: &Value, name: &str, read: impl Fn(&Value) -> Option<T>) -> anyhow::Result<Vec<T>> {
    let list = page.get(name).and_then(Value::as_array);
    let list = list.with_context(|| format!("the control API's answer has no `{name}`"))?;
    list.iter()
        .map(|item| read(item).with_context(|| format!("an item of `{name}` is not of its form")))
        .collect()
}

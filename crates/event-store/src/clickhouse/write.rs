//! Writing: what is there already is passed over; a block whose outcome is not known is sent again.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;
use clickhouse::Row;
use serde::Deserialize;

use super::ClickHouse;
use super::block::{Block, COLUMNS};
use super::known::{Known, Ranges};
use crate::model::{ChainHead, ChainName, Finding, StoredEvent};
use crate::proof::StoredCheckpoint;
use crate::{EventSink, StoreError};

/// Bytes that are compressed and sent at once.
const FRAME: usize = 1 << 20;
/// Beyond this many rows ClickHouse would make two blocks of one.
const MOST_ROWS: &str = "1048576";

/// What is left of a batch, ready to be inserted.
#[derive(Debug)]
pub struct Prepared {
    /// The rows.
    pub block: Block,
    /// Events and findings of the batch that were stored already.
    pub duplicates: usize,
    /// An insert was tried, and its outcome is not known.
    is_tried: bool,
}

#[derive(Row, Deserialize)]
struct RangeRow {
    proxy: String,
    worker: u32,
    epoch: u64,
    first: u64,
    last: u64,
    count: u64,
}

#[derive(Row, Deserialize)]
struct FindingRow {
    proxy: String,
    worker: u32,
    epoch: u64,
    from: u64,
    event_type: String,
}

impl ClickHouse {
    /// Takes what of a block is not stored yet, and of the findings, which come after it; at most a million of both. From then on
    /// it counts as stored: insert it, or [`ClickHouse::forget`].
    ///
    /// # Errors
    /// ClickHouse does not tell what it has; then the block is as it was.
    pub async fn prepare(&self, block: &mut Block, findings: &[Finding]) -> Result<Prepared, StoreError> {
        let mut known = self.known.lock().await;
        if known.arrived == 0 {
            known.arrived = self.last_arrival().await?;
        }
        known.bound();
        let asked: Vec<&ChainName> = block.chains().iter().filter(|chain| !known.has(chain)).collect();
        let mut stored = self.ranges(&asked).await?;
        for chain in asked {
            *known.of(chain) = stored.remove(chain).unwrap_or_default();
        }
        let mut told = self.findings_of(findings).await?;
        let mut block = std::mem::take(block);
        let before = block.len() + findings.len();
        let is_new = take_in(&block, &mut known);
        if is_new.contains(&false) {
            block.retain(&is_new);
        }
        for finding in findings.iter().filter(|finding| told.insert(finding_key(finding))) {
            block.push_finding(finding);
        }
        known.arrived = block.stamp(known.arrived.saturating_add(1).max(now()));
        let duplicates = before - block.len();
        Ok(Prepared { block, duplicates, is_tried: false })
    }

    /// Inserts what was prepared; when this returns it is stored, once. After an error try again with the same.
    ///
    /// # Errors
    /// ClickHouse does not answer, or refuses. It may have stored everything all the same, or a part.
    pub async fn insert(&self, prepared: &mut Prepared) -> Result<(), StoreError> {
        if std::mem::replace(&mut prepared.is_tried, true) {
            let chains: Vec<&ChainName> = prepared.block.chains().iter().collect();
            let stored = self.ranges(&chains).await?;
            let is_there = |chain, seq| stored.get(chain).is_some_and(|ranges: &Ranges| ranges.has(seq));
            let lacks: Vec<bool> = prepared
                .block
                .keys()
                .map(|key| key.is_none_or(|(chain, seq)| !is_there(chain, seq)))
                .collect();
            // With all of it there, it is sent again under its name: ClickHouse passes it over, but for the rollups that
            // have not had it.
            if lacks.contains(&true) {
                prepared.block.retain(&lacks);
            }
        }
        if prepared.block.is_empty() {
            return Ok(());
        }
        self.send(&prepared.block).await
    }

    /// Forgets what is stored, so that it is asked for again: when another may have written, or something prepared is
    /// given up.
    pub async fn forget(&self) {
        self.known.lock().await.forget();
    }

    async fn send(&self, block: &Block) -> Result<(), StoreError> {
        let within = self.insert_within;
        let sql = format!("INSERT INTO mcp.events ({COLUMNS}) FORMAT RowBinary");
        let mut insert = self
            .client
            .insert_formatted_with(sql)
            .with_setting("insert_deduplication_token", block.token())
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
            .with_setting("max_insert_block_size", MOST_ROWS)
            .with_setting("async_insert", "0")
            .with_setting("max_execution_time", within.as_secs().max(1).to_string())
            .with_timeouts(Some(within), Some(within));
        for frame in block.data().chunks(FRAME) {
            insert.send(Bytes::copy_from_slice(frame)).await?;
        }
        Ok(insert.end().await?)
    }

    /// The greatest `arrived` there is, from the projection; 0: there is none.
    pub(super) async fn last_arrival(&self) -> Result<u64, StoreError> {
        Ok(self.ask("SELECT max(arrived) FROM mcp.events").fetch_one().await?)
    }

    /// The stored sequences of chains.
    async fn ranges(&self, chains: &[&ChainName]) -> Result<BTreeMap<ChainName, Ranges>, StoreError> {
        if chains.is_empty() {
            return Ok(BTreeMap::new());
        }
        // Answered from the projection `chain_ranges`.
        let rows: Vec<RangeRow> = self
            .ask(
                "SELECT proxy, worker, epoch, min(seq) AS first, max(seq) AS last, count() AS count FROM mcp.events
                 WHERE NOT finding AND proxy IN {proxies:Array(String)} AND epoch IN {epochs:Array(UInt64)}
                 GROUP BY proxy, worker, epoch",
            )
            .param("proxies", distinct(chains.iter().map(|chain| &chain.proxy)))
            .param("epochs", distinct(chains.iter().map(|chain| &chain.epoch)))
            .fetch_all()
            .await?;
        let mut found = BTreeMap::new();
        for row in rows {
            let chain = ChainName { proxy: row.proxy, worker: row.worker, epoch: row.epoch };
            let mut ranges = Ranges::default();
            if row.count == row.last.saturating_sub(row.first).saturating_add(1) {
                ranges.add(row.first, row.last);
            } else {
                ranges = self.islands(&chain).await?;
            }
            found.insert(chain, ranges);
        }
        Ok(found)
    }

    /// The stored sequences of a chain that has holes.
    async fn islands(&self, chain: &ChainName) -> Result<Ranges, StoreError> {
        let rows: Vec<(u64, u64)> = self
            .ask(
                "SELECT min(seq) AS first, max(seq) AS last FROM (
                     SELECT seq, seq - row_number() OVER (ORDER BY seq) AS island FROM (
                         SELECT DISTINCT seq FROM mcp.events WHERE NOT finding
                         AND proxy = {proxy:String} AND worker = {worker:UInt32} AND epoch = {epoch:UInt64}))
                 GROUP BY island",
            )
            .param("proxy", &chain.proxy)
            .param("worker", chain.worker)
            .param("epoch", chain.epoch)
            .fetch_all()
            .await?;
        let mut ranges = Ranges::default();
        for (first, last) in rows {
            ranges.add(first, last);
        }
        Ok(ranges)
    }

    /// Findings that are stored about the chains of these.
    async fn findings_of(&self, findings: &[Finding]) -> Result<BTreeSet<FindingKey>, StoreError> {
        if findings.is_empty() {
            return Ok(BTreeSet::new());
        }
        let rows: Vec<FindingRow> = self
            .ask(
                "SELECT proxy, worker, epoch, seq AS from, event_type FROM mcp.events
                 WHERE finding AND proxy IN {proxies:Array(String)} AND epoch IN {epochs:Array(UInt64)}",
            )
            .param("proxies", distinct(findings.iter().map(|finding| &finding.chain.proxy)))
            .param("epochs", distinct(findings.iter().map(|finding| &finding.chain.epoch)))
            .fetch_all()
            .await?;
        let key = |row: FindingRow| {
            let chain = ChainName { proxy: row.proxy, worker: row.worker, epoch: row.epoch };
            (chain, row.event_type, row.from)
        };
        Ok(rows.into_iter().map(key).collect())
    }
}

#[async_trait]
impl EventSink for ClickHouse {
    async fn append(&self, events: Vec<StoredEvent>, findings: Vec<Finding>) -> Result<(), StoreError> {
        let mut prepared = self.prepare(&mut Block::of(&events), &findings).await?;
        let result = self.insert(&mut prepared).await;
        if result.is_err() {
            self.forget().await;
        }
        result
    }

    async fn heads(&self) -> Result<Vec<ChainHead>, StoreError> {
        self.chain_heads().await
    }

    async fn append_checkpoint(&self, checkpoint: StoredCheckpoint) -> Result<(), StoreError> {
        self.keep_checkpoint(&checkpoint).await
    }
}

/// Which of a block's rows are not known yet, by their order. They are known from then on.
fn take_in(block: &Block, known: &mut Known) -> Vec<bool> {
    let mut is_new = Vec::with_capacity(block.len());
    // Events of a chain come together.
    let mut last: Option<(&ChainName, &mut Ranges)> = None;
    for key in block.keys() {
        is_new.push(match (key, &mut last) {
            (None, _) => true,
            (Some((chain, seq)), Some((same, ranges))) if chain == *same => ranges.insert(seq),
            (Some((chain, seq)), _) => {
                let ranges = known.of(chain);
                let is_new = ranges.insert(seq);
                last = Some((chain, ranges));
                is_new
            }
        });
    }
    is_new
}

type FindingKey = (ChainName, String, u64);

fn finding_key(finding: &Finding) -> FindingKey {
    (finding.chain.clone(), finding.event_type.to_string(), finding.from)
}

fn distinct<'a, T: Ord + 'a>(values: impl Iterator<Item = &'a T>) -> Vec<&'a T> {
    values.collect::<BTreeSet<_>>().into_iter().collect()
}

fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0)
}

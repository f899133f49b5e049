//! Checkpoints, and events in the order of their chains.

use std::fmt::Write;

use bytes::Bytes;
use clickhouse::Row;
use sallyport_audit_proto::view::EventView;
use serde::Deserialize;

use super::ClickHouse;
use crate::StoreError;
use crate::envelope::{columns, source};
use crate::model::{ChainHead, ChainName};
use crate::proof::{ChainedEvent, Depth, Position, Selection, Span, StoredCheckpoint};

/// Checkpoints that no longer count are removed when there are so many: each removal writes parts anew.
const STALE: u64 = 1000;
/// Chains that a scan looks up at once.
const CHAINS: u32 = 256;

#[derive(Row, Deserialize)]
struct HeadRow {
    proxy: String,
    worker: u32,
    epoch: u64,
    seq: u64,
    hash: [u8; 32],
    count: u64,
    nanos: u64,
    present: u64,
    first: u64,
}

impl HeadRow {
    fn into_head(self) -> ChainHead {
        let removed = self.count.saturating_sub(self.present);
        let floor = match (removed, self.present) {
            (0, _) => 0,
            (_, 0) => self.seq,
            _ => self.first.saturating_sub(1),
        };
        ChainHead {
            name: ChainName { proxy: self.proxy, worker: self.worker, epoch: self.epoch },
            seq: self.seq,
            hash: self.hash,
            count: self.count,
            floor,
            removed,
            nanos: self.nanos,
        }
    }
}

#[derive(Row, Deserialize)]
struct CheckpointRow {
    sequence: u64,
    nanos: i64,
    first: u64,
    bytes: Bytes,
}

impl CheckpointRow {
    fn into_checkpoint(self) -> StoredCheckpoint {
        StoredCheckpoint {
            sequence: self.sequence,
            nanos: u64::try_from(self.nanos).unwrap_or(0),
            first: self.first,
            bytes: self.bytes.into(),
            retired: Vec::new(),
        }
    }
}

#[derive(Row, Deserialize)]
struct SpanRow {
    proxy: String,
    worker: u32,
    epoch: u64,
    first: u64,
    last: u64,
    events: u64,
}

impl SpanRow {
    fn into_span(self) -> Span {
        let chain = ChainName { proxy: self.proxy, worker: self.worker, epoch: self.epoch };
        Span { chain, first: self.first, last: self.last, events: self.events }
    }
}

#[derive(Row, Deserialize)]
struct EventRow {
    seq: u64,
    hash: [u8; 32],
    bytes: Bytes,
    nanos: i64,
    columns: Vec<String>,
}

/// The columns that a question can be about, in the order of [`columns`].
const DERIVED: &str = "[source, event_type, trace_id, server, namespace, team_id, cluster, human_id, agent_id, session_id, \
     decision, reason, tool_name, rpc_method]::Array(String)";

impl EventRow {
    fn into_event(self, chain: ChainName, depth: Depth) -> ChainedEvent {
        let differs = if depth == Depth::Columns { self.difference() } else { None };
        ChainedEvent { chain, seq: self.seq, hash: self.hash, bytes: self.bytes.into(), differs }
    }

    /// The first column that does not say what the event's bytes say.
    fn difference(&self) -> Option<&'static str> {
        let Ok(event) = EventView::read(&self.bytes) else {
            return Some("bytes");
        };
        if self.nanos != i64::try_from(event.time_unix_nanos).unwrap_or(i64::MAX) {
            return Some("time");
        }
        let source = source(&event);
        let said = columns(&event, &source);
        let mut pairs = said.into_iter().zip(&self.columns);
        pairs.find(|((_, expected), stored)| expected != stored).map(|((column, _), _)| column)
    }
}

impl ClickHouse {
    pub(super) async fn chain_heads(&self) -> Result<Vec<ChainHead>, StoreError> {
        let rows: Vec<HeadRow> = self
            .ask(
                "SELECT proxy, worker, epoch, seq, hash, count, nanos, present, first FROM (
                     SELECT proxy, worker, epoch, max(last_seq) AS seq, argMaxMerge(chains.hash) AS hash,
                         sum(events) AS count, max(last_arrived) AS nanos
                     FROM mcp.chains AS chains GROUP BY proxy, worker, epoch) AS heads
                 LEFT JOIN (
                     SELECT toString(proxy) AS proxy, worker, epoch, count() AS present, min(seq) AS first
                     FROM mcp.events WHERE NOT finding GROUP BY proxy, worker, epoch) AS rows
                 USING (proxy, worker, epoch) ORDER BY proxy, worker, epoch",
            )
            .fetch_all()
            .await?;
        Ok(rows.into_iter().map(HeadRow::into_head).collect())
    }

    pub(super) async fn keep_checkpoint(&self, checkpoint: &StoredCheckpoint) -> Result<(), StoreError> {
        let StoredCheckpoint { sequence, nanos, first, bytes, retired } = checkpoint;
        let known: u64 = self
            .ask("SELECT count() FROM mcp.checkpoints WHERE sequence = {sequence:UInt64}")
            .param("sequence", sequence)
            .fetch_one()
            .await?;
        if known == 0 {
            let mut row = Vec::with_capacity(bytes.len() + 32);
            for value in [*sequence, (*nanos).min(i64::MAX.unsigned_abs()), *first] {
                row.extend_from_slice(&value.to_le_bytes());
            }
            super::block::put_bytes(&mut row, bytes);
            let sql = "INSERT INTO mcp.checkpoints (sequence, time, first, bytes) FORMAT RowBinary";
            let mut insert = self.client.insert_formatted_with(sql).with_setting("async_insert", "0");
            insert.send(row.into()).await?;
            insert.end().await?;
        }
        let stale: u64 = self
            .ask("SELECT count() FROM mcp.checkpoints WHERE sequence < {first:UInt64}")
            .param("first", first)
            .fetch_one()
            .await?;
        if stale > STALE {
            let sql = "DELETE FROM mcp.checkpoints WHERE sequence < {first:UInt64}";
            self.ask(sql).param("first", first).execute().await?;
        }
        for chain in retired {
            self.retire(chain).await?;
        }
        Ok(())
    }

    /// Forgets a chain whose events were all removed.
    async fn retire(&self, chain: &ChainName) -> Result<(), StoreError> {
        const WHICH: &str = "proxy = {proxy:String} AND worker = {worker:UInt32} AND epoch = {epoch:UInt64}";
        let present: u64 = self
            .ask(&format!("SELECT count() FROM mcp.events WHERE NOT finding AND {WHICH}"))
            .param("proxy", &chain.proxy)
            .param("worker", chain.worker)
            .param("epoch", chain.epoch)
            .fetch_one()
            .await?;
        if present == 0 {
            self.ask(&format!("DELETE FROM mcp.chains WHERE {WHICH}"))
                .param("proxy", &chain.proxy)
                .param("worker", chain.worker)
                .param("epoch", chain.epoch)
                .execute()
                .await?;
        }
        Ok(())
    }

    pub(super) async fn kept_checkpoints(
        &self,
        after: u64,
        limit: u32,
    ) -> Result<Vec<StoredCheckpoint>, StoreError> {
        let rows: Vec<CheckpointRow> = self
            .ask(
                "SELECT sequence, toUnixTimestamp64Nano(time) AS nanos, first, bytes FROM mcp.checkpoints
                 WHERE sequence > {after:UInt64}
                 AND sequence >= (SELECT argMax(first, sequence) FROM mcp.checkpoints)
                 ORDER BY sequence LIMIT 1 BY sequence LIMIT {limit:UInt32}",
            )
            .param("after", after)
            .param("limit", limit)
            .fetch_all()
            .await?;
        Ok(rows.into_iter().map(CheckpointRow::into_checkpoint).collect())
    }

    pub(super) async fn newest_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        let row: Option<CheckpointRow> = self
            .ask(
                "SELECT sequence, toUnixTimestamp64Nano(time) AS nanos, first, bytes FROM mcp.checkpoints
                 ORDER BY sequence DESC LIMIT 1",
            )
            .fetch_optional()
            .await?;
        Ok(row.map(CheckpointRow::into_checkpoint))
    }

    pub(super) async fn selected(&self, selection: &Selection) -> Result<Vec<Span>, StoreError> {
        let mut sql = String::from(
            "SELECT proxy, worker, epoch, min(seq) AS first, max(seq) AS last, count() AS events FROM mcp.events
             WHERE NOT finding AND time >= fromUnixTimestamp64Nano({since:Int64})
             AND time < fromUnixTimestamp64Nano({until:Int64})",
        );
        let wanted = [("namespace", &selection.namespace), ("server", &selection.server)];
        for (column, _) in wanted.iter().filter(|(_, value)| value.is_some()) {
            let _ = write!(sql, " AND {column} = {{{column}:String}}");
        }
        sql.push_str(" GROUP BY proxy, worker, epoch ORDER BY proxy, worker, epoch");
        let nanos = |value: Option<u64>, without| {
            value.map_or(without, |value| i64::try_from(value).unwrap_or(i64::MAX))
        };
        let mut query = self
            .ask(&sql)
            .param("since", nanos(selection.since, 0))
            .param("until", nanos(selection.until, i64::MAX));
        for (column, value) in wanted {
            if let Some(value) = value {
                query = query.param(column, value);
            }
        }
        let rows: Vec<SpanRow> = query.fetch_all().await?;
        Ok(rows.into_iter().map(SpanRow::into_span).collect())
    }

    /// Events after a position. Which chains there are, and from where to where, is told by the projection `chain_ranges`,
    /// so each question is about a short part of one chain.
    pub(super) async fn chained(
        &self,
        after: Position,
        limit: u32,
        depth: Depth,
    ) -> Result<Vec<ChainedEvent>, StoreError> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (mut found, mut after) = (Vec::new(), after);
        while found.len() < limit {
            let chains: Vec<SpanRow> = self
                .ask(
                    "SELECT proxy, worker, epoch, min(seq) AS first, max(seq) AS last, count() AS events FROM mcp.events
                     WHERE NOT finding
                     AND (proxy, worker, epoch) >= ({proxy:String}, {worker:UInt32}, {epoch:UInt64})
                     GROUP BY proxy, worker, epoch ORDER BY proxy, worker, epoch LIMIT {chains:UInt32}",
                )
                .param("proxy", &after.chain.proxy)
                .param("worker", after.chain.worker)
                .param("epoch", after.chain.epoch)
                .param("chains", CHAINS)
                .fetch_all()
                .await?;
            let is_last = chains.len() < usize::try_from(CHAINS).unwrap_or(usize::MAX);
            for span in chains.into_iter().map(SpanRow::into_span) {
                let mut place = if span.chain == after.chain { after.seq } else { 0 };
                place = place.max(span.first.saturating_sub(1));
                while place < span.last && found.len() < limit {
                    let room = limit - found.len();
                    let end = place.saturating_add(u64::try_from(room).unwrap_or(u64::MAX)).min(span.last);
                    found.extend(self.part(&span.chain, (place, end), depth).await?);
                    place = end;
                }
                after = Position { chain: span.chain, seq: place };
                if found.len() >= limit {
                    break;
                }
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    /// The events of a chain after one sequence up to another.
    async fn part(
        &self,
        chain: &ChainName,
        (after, end): (u64, u64),
        depth: Depth,
    ) -> Result<Vec<ChainedEvent>, StoreError> {
        // What is derived is read only where it is asked for.
        let derived = match depth {
            Depth::Chain => "[]::Array(String)",
            Depth::Columns => DERIVED,
        };
        let sql = format!(
            "SELECT seq, hash, bytes, toUnixTimestamp64Nano(time) AS nanos, {derived} AS columns FROM mcp.events
             WHERE NOT finding AND proxy = {{proxy:String}} AND worker = {{worker:UInt32}} AND epoch = {{epoch:UInt64}}
             AND seq > {{after:UInt64}} AND seq <= {{end:UInt64}} ORDER BY seq LIMIT 1 BY seq"
        );
        let rows: Vec<EventRow> = self
            .ask(&sql)
            .param("proxy", &chain.proxy)
            .param("worker", chain.worker)
            .param("epoch", chain.epoch)
            .param("after", after)
            .param("end", end)
            .fetch_all()
            .await?;
        Ok(rows.into_iter().map(|row| row.into_event(chain.clone(), depth)).collect())
    }
}

//! Reading.

use std::fmt::Write;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clickhouse::Row;
use sallyport_audit_proto::view::EventView;
use serde::Deserialize;
use serde_json::Value;

use super::ClickHouse;
use crate::envelope::{envelope, finding_envelope, timestamp};
use crate::model::{ChainName, Finding};
use crate::proof::{ChainedEvent, Depth, Position, Selection, Span, StoredCheckpoint};
use crate::query::{Filter, Page, Stats, Summary, Tail, Usage, UsageQuery, base36, from_base36};
use crate::{EventStore, StoreError};

/// How far a page looks back at first, and then, before it looks at everything: pages are of the newest, most of the time.
const LOOK_BACK: [Duration; 3] =
    [Duration::from_secs(600), Duration::from_secs(6 * 3600), Duration::from_secs(7 * 86_400)];
/// Later than everything.
const END: u64 = i64::MAX.unsigned_abs();

/// Which events come first.
#[derive(Clone, Copy, Debug)]
enum Order {
    NewestFirst,
    OldestFirst,
}

/// What an envelope is made of.
#[derive(Row, Deserialize)]
struct Found {
    arrived: u64,
    finding: bool,
    proxy: String,
    worker: u32,
    epoch: u64,
    seq: u64,
    seq_to: u64,
    source: String,
    event_type: String,
    nanos: i64,
    hash: [u8; 32],
    bytes: Bytes,
}

const FOUND: &str = "arrived, finding, proxy, worker, epoch, seq, seq_to, source, event_type, \
     toUnixTimestamp64Nano(time) AS nanos, hash, bytes";

impl Found {
    fn nanos(&self) -> u64 {
        u64::try_from(self.nanos).unwrap_or(0)
    }

    fn envelope(self) -> Value {
        let nanos = self.nanos();
        let chain = ChainName { proxy: self.proxy, worker: self.worker, epoch: self.epoch };
        if self.finding {
            let event_type = Finding::TYPES.into_iter().find(|known| *known == self.event_type);
            let (from, to) = (self.seq, self.seq_to);
            return event_type.map_or(Value::Null, |event_type| {
                finding_envelope(&Finding { chain, event_type, from, to, nanos })
            });
        }
        EventView::read(&self.bytes).map_or(Value::Null, |event| envelope(&chain, &self.hash, &event))
    }
}

impl ClickHouse {
    /// Events that match and arrived from `from` on and before `before`, in that order of arrival.
    async fn found(
        &self,
        filter: &Filter,
        (from, before): (u64, u64),
        order: Order,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let mut sql = format!(
            "SELECT {FOUND} FROM mcp.events WHERE arrived >= {{from:UInt64}} AND arrived < {{before:UInt64}}"
        );
        for (column, value) in filter.conditions() {
            // The column is a name of ours. Where the embedded store has nothing, this one has an empty text.
            let _ = write!(sql, " AND {column} = {{{column}:String}}");
            if value.is_empty() {
                sql.push_str(if column == "decision" { " AND false" } else { " AND NOT finding" });
            }
        }
        sql.push_str(match order {
            Order::NewestFirst => " ORDER BY arrived DESC",
            Order::OldestFirst => " ORDER BY arrived",
        });
        sql.push_str(" LIMIT 1 BY proxy, worker, epoch, seq, event_type LIMIT {limit:UInt64}");
        let mut query = self.ask(&sql).param("from", from).param("before", before).param("limit", limit);
        for (column, value) in filter.conditions() {
            query = query.param(column, value);
        }
        Ok(query.fetch_all().await?)
    }

    async fn counts(&self, sql: &str) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(self.ask(sql).fetch_all().await?)
    }

    /// The newest events that match before a moment of arrival.
    async fn newest(&self, filter: &Filter, before: u64, limit: usize) -> Result<Vec<Found>, StoreError> {
        let latest = before.min(u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(END));
        let mut found: Vec<Found> = Vec::new();
        let mut end = before;
        let looks = LOOK_BACK.map(|back| u64::try_from(back.as_nanos()).unwrap_or(END));
        for from in looks.into_iter().map(|back| latest.saturating_sub(back)).chain([0]) {
            found.extend(self.found(filter, (from, end), Order::NewestFirst, limit - found.len()).await?);
            if found.len() >= limit {
                break;
            }
            end = from;
        }
        Ok(found)
    }
}

#[async_trait]
impl EventStore for ClickHouse {
    async fn events(&self, filter: Filter, limit: u32, cursor: Option<String>) -> Result<Page, StoreError> {
        let before = cursor.map_or(Ok(END), |cursor| from_base36(&cursor))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let found = self.newest(&filter, before, limit).await?;
        let next = found.last().filter(|_| found.len() == limit).map(|last| base36(last.arrived));
        Ok(Page { events: found.into_iter().map(Found::envelope).collect(), next })
    }

    async fn end(&self) -> Result<String, StoreError> {
        Ok(base36(self.last_arrival().await?))
    }

    async fn after(&self, filter: Filter, position: String, limit: u32) -> Result<Tail, StoreError> {
        let after = from_base36(&position)?;
        // Asked first, so that what is stored meanwhile is behind the position that is given.
        let end = self.last_arrival().await?.max(after);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let range = (after.saturating_add(1), end.saturating_add(1));
        let found = self.found(&filter, range, Order::OldestFirst, limit).await?;
        let position = found.last().filter(|_| found.len() == limit).map_or(end, |last| last.arrived);
        let events = found.into_iter().map(|found| (base36(found.arrived), found.envelope())).collect();
        Ok(Tail { events, position: base36(position) })
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let rows: u64 = self.ask("SELECT count() FROM mcp.events").fetch_one().await?;
        let (events, allowed, denied, missing): (u64, u64, u64, u64) = self
            .ask("SELECT sum(events), sum(allowed), sum(denied), sum(missing) FROM mcp.usage_hourly")
            .fetch_one()
            .await?;
        Ok(Stats { events_total: rows, allowed, denied, missing, pruned: events.saturating_sub(rows) })
    }

    async fn sources(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.counts("SELECT source, count() FROM mcp.events GROUP BY source ORDER BY 2 DESC, 1").await
    }

    async fn event_types(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.counts("SELECT event_type, count() FROM mcp.events GROUP BY event_type ORDER BY 2 DESC, 1").await
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        let total_events = self.ask("SELECT count() FROM mcp.events").fetch_one().await?;
        let newest = self.newest(&Filter::default(), END, 1).await?.into_iter().next();
        Ok(newest.map_or(Summary { total_events, ..Summary::default() }, |newest| Summary {
            total_events,
            last_event_time: Some(timestamp(newest.nanos())),
            latest_source: Some(newest.source),
            last_event_type: Some(newest.event_type),
        }))
    }

    async fn usage(&self, wanted: UsageQuery) -> Result<Vec<Usage>, StoreError> {
        let mut sql = String::from(
            "SELECT toUnixTimestamp(hour) AS hour, namespace, server, team_id, tool_name, sum(events) AS events,
             sum(allowed) AS allowed, sum(denied) AS denied FROM mcp.usage_hourly
             WHERE NOT finding AND hour >= fromUnixTimestamp({since:Int64}) AND hour < fromUnixTimestamp({until:Int64})",
        );
        for (column, _) in wanted.conditions() {
            let _ = write!(sql, " AND {column} = {{{column}:String}}");
        }
        sql.push_str(
            " GROUP BY hour, namespace, server, team_id, tool_name
              ORDER BY hour, namespace, server, team_id, tool_name LIMIT {limit:UInt32}",
        );
        let hours = wanted.hours();
        let mut query = self
            .ask(&sql)
            .param("since", hours.start.saturating_mul(3600))
            .param("until", hours.end.saturating_mul(3600))
            .param("limit", wanted.limit);
        for (column, value) in wanted.conditions() {
            query = query.param(column, value);
        }
        let rows: Vec<UsageRow> = query.fetch_all().await?;
        Ok(rows.into_iter().map(UsageRow::into_usage).collect())
    }

    async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.kept_checkpoints(after, limit).await
    }

    async fn last_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        self.newest_checkpoint().await
    }

    async fn scan(
        &self,
        after: Option<Position>,
        limit: u32,
        depth: Depth,
    ) -> Result<Vec<ChainedEvent>, StoreError> {
        self.chained(after.unwrap_or_default(), limit, depth).await
    }

    async fn spans(&self, selection: Selection) -> Result<Vec<Span>, StoreError> {
        self.selected(&selection).await
    }
}

#[derive(Row, Deserialize)]
struct UsageRow {
    hour: u32,
    namespace: String,
    server: String,
    team_id: String,
    tool_name: String,
    events: u64,
    allowed: u64,
    denied: u64,
}

impl UsageRow {
    fn into_usage(self) -> Usage {
        let Self { hour, namespace, server, team_id, tool_name, events, allowed, denied } = self;
        let hour = crate::query::hour_text(i64::from(hour / 3600));
        Usage { hour, namespace, server, team_id, tool_name, events, allowed, denied }
    }
}

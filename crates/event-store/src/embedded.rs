//! The embedded store: one SQLite file, written by one thread, read by any process.
//!
//! A write is durable when it is acknowledged (`synchronous=FULL`); writes that wait together share one commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params, params_from_iter};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::envelope::{decision, envelope, event_type, source, timestamp};
use crate::model::{ChainHead, ChainName, Finding, StoredEvent};
use crate::query::{Filter, Page, Stats, Summary};
use crate::{EventSink, EventStore, StoreError};

/// Version of the schema, in the file's `user_version`.
const SCHEMA: i64 = 1;
const CREATE: &str = "
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY,
  time INTEGER NOT NULL, proxy TEXT NOT NULL, worker INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
  source TEXT NOT NULL, event_type TEXT NOT NULL, trace_id TEXT, server TEXT, namespace TEXT, team_id TEXT,
  cluster TEXT, human_id TEXT, agent_id TEXT, session_id TEXT, decision TEXT, reason TEXT, tool_name TEXT,
  rpc_method TEXT, bytes BLOB, hash BLOB, envelope TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS events_chain ON events (proxy, worker, epoch, seq) WHERE bytes IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_server ON events (namespace, server, id);
CREATE TABLE IF NOT EXISTS chains (
  proxy TEXT NOT NULL, worker INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
  PRIMARY KEY (proxy, worker, epoch)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";
/// Rows removed at once when the store is too large or too old.
const PRUNE_ROWS: u32 = 5000;
/// Requests that wait for the writer.
const QUEUE: usize = 256;

/// Bounds of the store; beyond them the oldest events go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the file.
    pub max_bytes: u64,
    /// Age of an event.
    pub max_age: Duration,
}

enum Request {
    Append(Vec<StoredEvent>, Vec<Finding>, oneshot::Sender<Result<(), StoreError>>),
    Heads(oneshot::Sender<Result<Vec<ChainHead>, StoreError>>),
}

/// The store. Writing needs [`Embedded::open`]; [`Embedded::reader`] only asks.
#[derive(Clone, Debug)]
pub struct Embedded {
    path: PathBuf,
    writer: Option<mpsc::Sender<Request>>,
}

impl Embedded {
    /// Opens the file at `path` for writing and reading, making it if it is missing.
    ///
    /// # Errors
    /// It cannot be opened, or is not ours.
    pub fn open(path: &Path, limits: Limits) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.busy_timeout(Duration::from_secs(5))?;
        check_schema(path, &connection)?;
        connection.execute_batch(CREATE)?;
        connection.pragma_update(None, "user_version", SCHEMA)?;
        let (writer, requests) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("event-store".into())
            .spawn(move || write(connection, requests, limits))
            .map_err(|_| StoreError::Stopped)?;
        Ok(Self { path: path.to_path_buf(), writer: Some(writer) })
    }

    /// A store that only answers; another process writes the file, and may not have made it yet.
    pub fn reader(path: &Path) -> Self {
        Self { path: path.to_path_buf(), writer: None }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            check_schema(&path, &connection)?;
            question(&connection)
        });
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

fn check_schema(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > SCHEMA {
        return Err(StoreError::Schema { path: path.display().to_string(), found, known: SCHEMA });
    }
    Ok(())
}

#[async_trait]
impl EventSink for Embedded {
    async fn append(&self, events: Vec<StoredEvent>, findings: Vec<Finding>) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let writer = self.writer.as_ref().ok_or(StoreError::Stopped)?;
        writer.send(Request::Append(events, findings, answer)).await.map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }

    async fn heads(&self) -> Result<Vec<ChainHead>, StoreError> {
        let (answer, answered) = oneshot::channel();
        let writer = self.writer.as_ref().ok_or(StoreError::Stopped)?;
        writer.send(Request::Heads(answer)).await.map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }
}

/// The writer's thread: takes what waits, commits it as one, tells everyone.
fn write(mut connection: Connection, mut requests: mpsc::Receiver<Request>, limits: Limits) {
    while let Some(first) = requests.blocking_recv() {
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Append(events, findings, answer) => waiting.push((events, findings, answer)),
                Request::Heads(answer) => {
                    // Nobody waits any more: fine.
                    let _ = answer.send(heads(&connection));
                }
            }
            next = requests.try_recv().ok();
        }
        if waiting.is_empty() {
            continue;
        }
        let result = append_all(&mut connection, &waiting, limits);
        if let Err(error) = &result {
            tracing::error!(%error, "events could not be stored");
        }
        for (_, _, answer) in waiting {
            let _ = answer.send(match &result {
                Ok(()) => Ok(()),
                Err(_) => Err(StoreError::Stopped),
            });
        }
    }
}

type Waiting = (Vec<StoredEvent>, Vec<Finding>, oneshot::Sender<Result<(), StoreError>>);

fn append_all(connection: &mut Connection, waiting: &[Waiting], limits: Limits) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    let mut totals = Totals::new();
    for (events, findings, _) in waiting {
        // What is told again is known by where its chain stands, so also when it was pruned since.
        let mut stood = BTreeMap::new();
        for chain in
            events.iter().map(|event| &event.chain).chain(findings.iter().map(|finding| &finding.chain))
        {
            if !stood.contains_key(chain) {
                stood.insert(chain, head_of(&transaction, chain)?);
            }
        }
        let is_new = |chain: &ChainName, seq: u64| stood.get(chain).is_none_or(|head| seq > *head);
        let mut last: BTreeMap<&ChainName, &StoredEvent> = BTreeMap::new();
        for event in events.iter().filter(|event| is_new(&event.chain, event.event.seq)) {
            insert_event(&transaction, event, &mut totals)?;
            let head = last.entry(&event.chain).or_insert(event);
            if event.event.seq > head.event.seq {
                *head = event;
            }
        }
        for event in last.into_values() {
            set_head(&transaction, event)?;
        }
        for finding in findings.iter().filter(|finding| is_new(&finding.chain, finding.to)) {
            insert_finding(&transaction, finding, &mut totals)?;
        }
    }
    prune(&transaction, limits, &mut totals)?;
    for (name, count) in totals {
        add(&transaction, name, count)?;
    }
    transaction.commit()?;
    Ok(())
}

/// What a commit adds to the totals, by name.
type Totals = BTreeMap<&'static str, u64>;

fn note(totals: &mut Totals, name: &'static str, count: u64) {
    let total = totals.entry(name).or_default();
    *total = total.saturating_add(count);
}

fn insert_event(
    connection: &Connection,
    stored: &StoredEvent,
    totals: &mut Totals,
) -> Result<(), StoreError> {
    let (event, chain) = (&stored.event, &stored.chain);
    let envelope = envelope(chain, &stored.hash, event).to_string();
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO events (time, proxy, worker, epoch, seq, source, event_type, trace_id, server, namespace,
           team_id, cluster, human_id, agent_id, session_id, decision, reason, tool_name, rpc_method, bytes, hash, envelope)
         VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22)",
    )?;
    let decision = decision(event);
    let inserted = insert.execute(params![
        signed(event.time_unix_nanos),
        chain.proxy,
        chain.worker,
        signed(chain.epoch),
        signed(event.seq),
        source(event),
        event_type(event),
        event.trace_id,
        event.server,
        event.namespace,
        event.team_id,
        event.cluster,
        event.human_id,
        event.agent_id,
        event.session_id,
        decision,
        event.reason,
        event.tool_name,
        event.rpc_method,
        stored.bytes,
        stored.hash,
        envelope
    ])?;
    if inserted > 0 {
        note(totals, "events", 1);
        if let Some(decision) = decision {
            note(totals, decision, 1);
        }
    }
    Ok(())
}

/// The last stored sequence of a chain; 0: none.
fn head_of(connection: &Connection, chain: &ChainName) -> Result<u64, StoreError> {
    let sql = "SELECT seq FROM chains WHERE proxy = ?1 AND worker = ?2 AND epoch = ?3";
    let mut select = connection.prepare_cached(sql)?;
    let head = select.query_row(params![chain.proxy, chain.worker, signed(chain.epoch)], |row| row.get(0));
    Ok(head.optional()?.map_or(0, unsigned))
}

/// Where a chain stands, after this event of it.
fn set_head(connection: &Connection, stored: &StoredEvent) -> Result<(), StoreError> {
    let (event, chain) = (&stored.event, &stored.chain);
    let mut head = connection.prepare_cached(
        "INSERT INTO chains (proxy, worker, epoch, seq, hash) VALUES (?1,?2,?3,?4,?5)
         ON CONFLICT DO UPDATE SET seq = excluded.seq, hash = excluded.hash WHERE excluded.seq > seq",
    )?;
    head.execute(params![chain.proxy, chain.worker, signed(chain.epoch), signed(event.seq), stored.hash])?;
    Ok(())
}

fn insert_finding(connection: &Connection, finding: &Finding, totals: &mut Totals) -> Result<(), StoreError> {
    let chain = &finding.chain;
    let envelope = json!({
        "timestamp": timestamp(finding.nanos), "source": "ingest", "event_type": finding.event_type,
        "payload": { "chain": { "proxy": chain.proxy, "worker": chain.worker, "epoch": chain.epoch.to_string(),
                                "from": finding.from, "to": finding.to } },
    });
    connection.execute(
        "INSERT INTO events (time, proxy, worker, epoch, seq, source, event_type, envelope) VALUES (?1,?2,?3,?4,?5,'ingest',?6,?7)",
        params![signed(finding.nanos), chain.proxy, chain.worker, signed(chain.epoch), signed(finding.from), finding.event_type, envelope.to_string()],
    )?;
    note(totals, "events", 1);
    if finding.event_type != "audit.broken" {
        note(totals, "missing", finding.to.saturating_sub(finding.from).saturating_add(1));
    }
    Ok(())
}

fn add(connection: &Connection, name: &str, count: u64) -> Result<(), StoreError> {
    let mut add = connection.prepare_cached(
        "INSERT INTO totals (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = value + excluded.value",
    )?;
    add.execute(params![name, signed(count)])?;
    Ok(())
}

/// Removes the oldest rows where the store is beyond its bounds. Where a chain stands is kept, so that what was
/// pruned is no gap.
fn prune(connection: &Connection, limits: Limits, totals: &mut Totals) -> Result<(), StoreError> {
    let value = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let used =
        value("page_size")?.saturating_mul(value("page_count")?.saturating_sub(value("freelist_count")?));
    let removed = if used > i64::try_from(limits.max_bytes).unwrap_or(i64::MAX) {
        // A tenth at most, so that a small store keeps what was just acknowledged.
        let sql = "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id
                   LIMIT min(?1, (SELECT 1 + (max(id) - min(id)) / 10 FROM events)))";
        connection.execute(sql, [PRUNE_ROWS])?
    } else {
        // Rows stand in the order of their arrival, so both ends are found without a search; this runs at every commit.
        let end = |order: &str| {
            let sql = format!("SELECT time FROM events ORDER BY id {order} LIMIT 1");
            connection.prepare_cached(&sql)?.query_row([], |row| row.get::<_, i64>(0)).optional()
        };
        let age = i64::try_from(limits.max_age.as_nanos()).unwrap_or(i64::MAX);
        match (end("ASC")?, end("DESC")?) {
            (Some(oldest), Some(newest)) if newest.saturating_sub(age) > oldest => {
                let sql = "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT ?1) AND time < ?2";
                connection.execute(sql, params![PRUNE_ROWS, newest.saturating_sub(age)])?
            }
            _ => 0,
        }
    };
    if removed > 0 {
        note(totals, "pruned", u64::try_from(removed).unwrap_or(0));
        connection.execute_batch("PRAGMA incremental_vacuum")?;
    }
    Ok(())
}

fn heads(connection: &Connection) -> Result<Vec<ChainHead>, StoreError> {
    let mut select = connection.prepare("SELECT proxy, worker, epoch, seq, hash FROM chains")?;
    let rows = select.query_map([], |row| {
        let name = ChainName { proxy: row.get(0)?, worker: row.get(1)?, epoch: unsigned(row.get(2)?) };
        Ok(ChainHead { name, seq: unsigned(row.get(3)?), hash: row.get(4)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[async_trait]
impl EventStore for Embedded {
    async fn events(&self, filter: Filter, limit: u32, cursor: Option<String>) -> Result<Page, StoreError> {
        let before = match cursor {
            Some(cursor) => i64::from_str_radix(&cursor, 36).map_err(|_| StoreError::Cursor)?,
            None => i64::MAX,
        };
        self.ask(move |connection| {
            let conditions = filter.conditions();
            let mut sql = String::from("SELECT id, envelope FROM events WHERE id < ?");
            for (column, _) in &conditions {
                sql.push_str(" AND ");
                sql.push_str(column);
                sql.push_str(" = ?");
            }
            sql.push_str(" ORDER BY id DESC LIMIT ?");
            let values = [before.to_string()]
                .into_iter()
                .chain(conditions.iter().map(|(_, value)| (*value).to_string()))
                .chain([limit.to_string()]);
            let mut select = connection.prepare(&sql)?;
            let rows = select.query_map(params_from_iter(values), |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })?;
            let rows: Vec<(i64, String)> = rows.collect::<Result<_, _>>()?;
            let full = rows.len() == usize::try_from(limit).unwrap_or(usize::MAX);
            let next = rows.last().filter(|_| full).map(|(id, _)| base36(*id));
            let events = rows
                .into_iter()
                .map(|(_, text)| serde_json::from_str(&text).unwrap_or(Value::Null))
                .collect();
            Ok(Page { events, next })
        })
        .await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.ask(|connection| {
            let total = |name: &str| -> Result<u64, StoreError> {
                let sql = "SELECT value FROM totals WHERE name = ?1";
                Ok(connection.query_row(sql, [name], |row| row.get(0)).optional()?.map_or(0, unsigned))
            };
            Ok(Stats {
                events_total: total("events")?.saturating_sub(total("pruned")?),
                allowed: total("allow")?,
                denied: total("deny")?,
                missing: total("missing")?,
                pruned: total("pruned")?,
            })
        })
        .await
    }

    async fn sources(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.ask(|connection| counts(connection, "source")).await
    }

    async fn event_types(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.ask(|connection| counts(connection, "event_type")).await
    }

    async fn summary(&self) -> Result<Summary, StoreError> {
        let total_events = self.stats().await?.events_total;
        self.ask(move |connection| {
            let sql = "SELECT source, event_type, time FROM events ORDER BY id DESC LIMIT 1";
            let newest = connection
                .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)))
                .optional()?;
            Ok(newest.map_or(Summary { total_events, ..Summary::default() }, |(source, event_type, time)| {
                Summary {
                    total_events,
                    latest_source: Some(source),
                    last_event_type: Some(event_type),
                    last_event_time: Some(timestamp(unsigned(time))),
                }
            }))
        })
        .await
    }
}

fn counts(connection: &Connection, column: &str) -> Result<Vec<(String, u64)>, StoreError> {
    let sql = format!("SELECT {column}, count(*) FROM events GROUP BY {column} ORDER BY 2 DESC, 1");
    let mut select = connection.prepare(&sql)?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// SQLite's integers are signed; ours fit until the year 2262.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn base36(value: i64) -> String {
    let mut rest = unsigned(value);
    let mut digits = Vec::new();
    while rest > 0 || digits.is_empty() {
        digits.push(char::from_digit(u32::try_from(rest % 36).unwrap_or(0), 36).unwrap_or('0'));
        rest /= 36;
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests;

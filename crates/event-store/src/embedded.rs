//! The embedded store: one SQLite file, written by one thread, read by any process.
//!
//! A write is durable when it is acknowledged (`synchronous=FULL`); writes that wait together share one commit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params, params_from_iter};
use sallyport_audit_proto::view::EventView;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::envelope::{decision, envelope_text, event_type, finding_envelope, source, timestamp};
use crate::model::{ChainHead, ChainName, Finding, StoredEvent};
use crate::proof::{ChainedEvent, Depth, Position, Selection, Span, StoredCheckpoint};
use crate::query::{Filter, Page, Stats, Summary, Tail, Usage, UsageQuery, base36, from_base36};
use crate::{EventSink, EventStore, StoreError};
use schema::{check_schema, migrate};

mod proof;
mod prune;
mod schema;
mod tail;
mod usage;

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
    Checkpoint(StoredCheckpoint, oneshot::Sender<Result<(), StoreError>>),
    NoteHeads(Vec<ChainHead>, oneshot::Sender<Result<(), StoreError>>),
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
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.busy_timeout(Duration::from_secs(5))?;
        check_schema(path, &connection)?;
        migrate(&mut connection)?;
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

    /// Remembers where chains stand whose events are kept elsewhere; durable when this returns. `count` of each is how many
    /// events came to it since, and `nanos` is not used: it is now.
    ///
    /// # Errors
    /// They cannot be written.
    pub async fn note_heads(&self, heads: Vec<ChainHead>) -> Result<(), StoreError> {
        self.tell(|answer| Request::NoteHeads(heads, answer)).await
    }

    /// Has the writer's thread do something.
    async fn tell<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request + Send,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let writer = self.writer.as_ref().ok_or(StoreError::Stopped)?;
        writer.send(request(answer)).await.map_err(|_| StoreError::Stopped)?;
        answered.await.map_err(|_| StoreError::Stopped)?
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let answer = tokio::task::spawn_blocking(move || {
            // One thread has it at a time, so that it needs no locks of its own: they are a seventh of what reading costs.
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(Duration::from_secs(5))?;
            check_schema(&path, &connection)?;
            question(&connection)
        });
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

#[async_trait]
impl EventSink for Embedded {
    async fn append(&self, events: Vec<StoredEvent>, findings: Vec<Finding>) -> Result<(), StoreError> {
        self.tell(|answer| Request::Append(events, findings, answer)).await
    }

    async fn heads(&self) -> Result<Vec<ChainHead>, StoreError> {
        self.tell(Request::Heads).await
    }

    async fn append_checkpoint(&self, checkpoint: StoredCheckpoint) -> Result<(), StoreError> {
        self.tell(|answer| Request::Checkpoint(checkpoint, answer)).await
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
                Request::Checkpoint(checkpoint, answer) => {
                    let _ = answer.send(proof::append_checkpoint(&mut connection, &checkpoint));
                }
                Request::NoteHeads(heads, answer) => {
                    let _ = answer.send(note_heads(&mut connection, &heads, now()));
                }
            }
            next = requests.try_recv().ok();
        }
        if waiting.is_empty() {
            continue;
        }
        let result = append_all(&mut connection, &waiting, limits, now());
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

/// `now` in nanoseconds since 1970.
fn append_all(
    connection: &mut Connection,
    waiting: &[Waiting],
    limits: Limits,
    now: u64,
) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    let mut totals = Totals::new();
    let mut used = usage::Hours::new();
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
        let mut last: BTreeMap<&ChainName, (&StoredEvent, u64)> = BTreeMap::new();
        for event in events.iter().filter(|event| is_new(&event.chain, event.seq)) {
            let view = event.view();
            let inserted = insert_event(&transaction, event, &view, &mut totals)?;
            let (head, count) = last.entry(&event.chain).or_insert((event, 0));
            *count += inserted;
            if inserted > 0 {
                usage::note(&mut used, &view);
            }
            if event.seq > head.seq {
                *head = event;
            }
        }
        for (event, count) in last.into_values() {
            set_head(&transaction, &event.chain, (event.seq, event.hash), count, now)?;
        }
        for finding in findings
            .iter()
            .filter(|finding| !finding.is_about_arrival() || is_new(&finding.chain, finding.to))
        {
            insert_finding(&transaction, finding, &mut totals)?;
        }
    }
    prune::prune(&transaction, limits, now, &mut totals)?;
    usage::add(&transaction, used)?;
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

/// Answers with how many rows that made: one, or none where it was there.
fn insert_event(
    connection: &Connection,
    stored: &StoredEvent,
    event: &EventView<'_>,
    totals: &mut Totals,
) -> Result<u64, StoreError> {
    let chain = &stored.chain;
    let envelope = envelope_text(chain, &stored.hash, event);
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
        source(event).as_ref(),
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
    Ok(u64::try_from(inserted).unwrap_or(0))
}

/// The last stored sequence of a chain; 0: none.
fn head_of(connection: &Connection, chain: &ChainName) -> Result<u64, StoreError> {
    let sql = "SELECT seq FROM chains WHERE proxy = ?1 AND worker = ?2 AND epoch = ?3";
    let mut select = connection.prepare_cached(sql)?;
    let head = select.query_row(params![chain.proxy, chain.worker, signed(chain.epoch)], |row| row.get(0));
    Ok(head.optional()?.map_or(0, unsigned))
}

fn note_heads(connection: &mut Connection, heads: &[ChainHead], now: u64) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for ChainHead { name, seq, hash, count, .. } in heads {
        set_head(&transaction, name, (*seq, *hash), *count, now)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Where a chain stands, after an event of it and as many as `count` that are new.
fn set_head(
    connection: &Connection,
    chain: &ChainName,
    (seq, hash): (u64, [u8; 32]),
    count: u64,
    now: u64,
) -> Result<(), StoreError> {
    let mut head = connection.prepare_cached(
        "INSERT INTO chains (proxy, worker, epoch, seq, hash, count, time) VALUES (?1,?2,?3,?4,?5,?6,?7)
         ON CONFLICT DO UPDATE SET seq = excluded.seq, hash = excluded.hash, count = count + excluded.count,
           time = excluded.time WHERE excluded.seq > seq",
    )?;
    let (epoch, seq) = (signed(chain.epoch), signed(seq));
    let values = params![chain.proxy, chain.worker, epoch, seq, hash, signed(count), signed(now)];
    head.execute(values)?;
    Ok(())
}

fn insert_finding(connection: &Connection, finding: &Finding, totals: &mut Totals) -> Result<(), StoreError> {
    let chain = &finding.chain;
    let envelope = finding_envelope(finding);
    let inserted = connection.execute(
        "INSERT OR IGNORE INTO events (time, proxy, worker, epoch, seq, source, event_type, envelope) VALUES (?1,?2,?3,?4,?5,'ingest',?6,?7)",
        params![signed(finding.nanos), chain.proxy, chain.worker, signed(chain.epoch), signed(finding.from), finding.event_type, envelope.to_string()],
    )?;
    if inserted > 0 {
        note(totals, "events", 1);
        note(totals, "missing", finding.missing());
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

fn heads(connection: &Connection) -> Result<Vec<ChainHead>, StoreError> {
    let mut select = connection
        .prepare("SELECT proxy, worker, epoch, seq, hash, count, floor, removed, time FROM chains")?;
    let rows = select.query_map([], |row| {
        Ok(ChainHead {
            name: ChainName { proxy: row.get(0)?, worker: row.get(1)?, epoch: unsigned(row.get(2)?) },
            seq: unsigned(row.get(3)?),
            hash: row.get(4)?,
            count: unsigned(row.get(5)?),
            floor: unsigned(row.get(6)?),
            removed: unsigned(row.get(7)?),
            nanos: unsigned(row.get(8)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[async_trait]
impl EventStore for Embedded {
    async fn events(&self, filter: Filter, limit: u32, cursor: Option<String>) -> Result<Page, StoreError> {
        let before = match cursor {
            Some(cursor) => signed(from_base36(&cursor)?),
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
            let next = rows.last().filter(|_| full).map(|(id, _)| base36(unsigned(*id)));
            let events = rows
                .into_iter()
                .map(|(_, text)| serde_json::from_str(&text).unwrap_or(Value::Null))
                .collect();
            Ok(Page { events, next })
        })
        .await
    }

    async fn end(&self) -> Result<String, StoreError> {
        self.ask(|connection| Ok(base36(unsigned(tail::end(connection)?)))).await
    }

    async fn after(&self, filter: Filter, position: String, limit: u32) -> Result<Tail, StoreError> {
        let after = signed(from_base36(&position)?);
        self.ask(move |connection| tail::after(connection, &filter, after, limit)).await
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

    async fn usage(&self, wanted: UsageQuery) -> Result<Vec<Usage>, StoreError> {
        self.ask(move |connection| usage::of(connection, &wanted)).await
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

    async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.ask(move |connection| proof::checkpoints(connection, after, limit)).await
    }

    async fn last_checkpoint(&self) -> Result<Option<StoredCheckpoint>, StoreError> {
        self.ask(proof::last_checkpoint).await
    }

    async fn scan(
        &self,
        after: Option<Position>,
        limit: u32,
        depth: Depth,
    ) -> Result<Vec<ChainedEvent>, StoreError> {
        self.ask(move |connection| proof::scan(connection, after.as_ref(), limit, depth)).await
    }

    async fn spans(&self, selection: Selection) -> Result<Vec<Span>, StoreError> {
        self.ask(move |connection| proof::spans(connection, &selection)).await
    }
}

fn counts(connection: &Connection, column: &str) -> Result<Vec<(String, u64)>, StoreError> {
    let sql = format!("SELECT {column}, count(*) FROM events GROUP BY {column} ORDER BY 2 DESC, 1");
    let mut select = connection.prepare(&sql)?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.map_or(0, |since| since.as_nanos())).unwrap_or(u64::MAX)
}

/// SQLite's integers are signed; ours fit until the year 2262.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests;

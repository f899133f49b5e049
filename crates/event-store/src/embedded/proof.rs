//! Checkpoints, and events in the order of their chains.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sallyport_audit_proto::view::EventView;

use super::{signed, unsigned};
use crate::StoreError;
use crate::envelope::{columns, envelope, envelope_text, source};
use crate::model::ChainName;
use crate::proof::{ChainedEvent, Depth, Position, Selection, Span, StoredCheckpoint};

/// Stores a checkpoint, and does what it says.
pub(super) fn append_checkpoint(
    connection: &mut Connection,
    checkpoint: &StoredCheckpoint,
) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    let StoredCheckpoint { sequence, nanos, first, bytes, retired } = checkpoint;
    let values = params![signed(*sequence), signed(*nanos), signed(*first), bytes];
    transaction.execute(
        "INSERT OR IGNORE INTO checkpoints (sequence, time, first, bytes) VALUES (?1,?2,?3,?4)",
        values,
    )?;
    transaction.execute("DELETE FROM checkpoints WHERE sequence < ?1", [signed(*first)])?;
    for chain in retired {
        let sql = "DELETE FROM chains WHERE proxy = ?1 AND worker = ?2 AND epoch = ?3 AND floor = seq";
        transaction.execute(sql, params![chain.proxy, chain.worker, signed(chain.epoch)])?;
    }
    transaction.commit()?;
    Ok(())
}

pub(super) fn checkpoints(
    connection: &Connection,
    after: u64,
    limit: u32,
) -> Result<Vec<StoredCheckpoint>, StoreError> {
    let sql =
        "SELECT sequence, time, first, bytes FROM checkpoints WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
    let mut select = connection.prepare(sql)?;
    let rows = select.query_map(params![signed(after), limit], checkpoint)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn last_checkpoint(connection: &Connection) -> Result<Option<StoredCheckpoint>, StoreError> {
    let sql = "SELECT sequence, time, first, bytes FROM checkpoints ORDER BY sequence DESC LIMIT 1";
    Ok(connection.query_row(sql, [], checkpoint).optional()?)
}

fn checkpoint(row: &Row<'_>) -> rusqlite::Result<StoredCheckpoint> {
    let (sequence, nanos, first) = (unsigned(row.get(0)?), unsigned(row.get(1)?), unsigned(row.get(2)?));
    Ok(StoredCheckpoint { sequence, nanos, first, bytes: row.get(3)?, retired: Vec::new() })
}

pub(super) fn scan(
    connection: &Connection,
    after: Option<&Position>,
    limit: u32,
    depth: Depth,
) -> Result<Vec<ChainedEvent>, StoreError> {
    // What is derived is read only where it is asked for: it is most of a row.
    let derived = match depth {
        Depth::Chain => String::new(),
        Depth::Columns => {
            let names = columns(&EventView::default(), "").map(|(name, _)| name).join(", ");
            format!(", time, envelope, {names}")
        }
    };
    let sql = format!(
        "SELECT proxy, worker, epoch, seq, hash, bytes{derived} FROM events
         WHERE bytes IS NOT NULL AND (proxy, worker, epoch, seq) > (?1, ?2, ?3, ?4)
         ORDER BY proxy, worker, epoch, seq LIMIT ?5"
    );
    let mut select = connection.prepare_cached(&sql)?;
    let first = Position::default();
    let Position { chain, seq } = after.unwrap_or(&first);
    let values = params![chain.proxy, chain.worker, signed(chain.epoch), signed(*seq), limit];
    let rows = select.query_map(values, |row| {
        let hash: Vec<u8> = row.get(4)?;
        let event = ChainedEvent {
            chain: ChainName { proxy: row.get(0)?, worker: row.get(1)?, epoch: unsigned(row.get(2)?) },
            seq: unsigned(row.get(3)?),
            // Another length is an alteration, and so is no hash at all.
            hash: hash.try_into().unwrap_or_default(),
            bytes: row.get(5)?,
            differs: None,
        };
        let differs = if depth == Depth::Columns { difference(&event, row)? } else { None };
        Ok(ChainedEvent { differs, ..event })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Places of what is derived in a row of [`scan`]; those of [`columns`] follow. By name each is searched for.
const TIME: usize = 6;
const ENVELOPE: usize = 7;

/// The first column that does not say what the event's bytes say.
fn difference(stored: &ChainedEvent, row: &Row<'_>) -> rusqlite::Result<Option<&'static str>> {
    let Ok(event) = EventView::read(&stored.bytes) else {
        return Ok(Some("bytes"));
    };
    if row.get::<_, i64>(TIME)? != signed(event.time_unix_nanos) {
        return Ok(Some("time"));
    }
    let source = source(&event);
    for (place, (column, expected)) in columns(&event, &source).into_iter().enumerate() {
        if row.get_ref(ENVELOPE + 1 + place)?.as_str_or_null()?.unwrap_or_default() != expected {
            return Ok(Some(column));
        }
    }
    let said = row.get_ref(ENVELOPE)?.as_str().unwrap_or_default();
    // As values where the text is another: a row of an earlier version may lack what was added since, and then says nothing else.
    let agrees = said == envelope_text(&stored.chain, &stored.hash, &event)
        || serde_json::from_str(said).is_ok_and(|said: serde_json::Value| {
            is_within(&said, &envelope(&stored.chain, &stored.hash, &event))
        });
    Ok((!agrees).then_some("envelope"))
}

/// Whether all that `part` says, `whole` says too.
fn is_within(part: &serde_json::Value, whole: &serde_json::Value) -> bool {
    match (part, whole) {
        (serde_json::Value::Object(part), serde_json::Value::Object(whole)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|other| is_within(value, other)))
        }
        (part, whole) => part == whole,
    }
}

pub(super) fn spans(connection: &Connection, selection: &Selection) -> Result<Vec<Span>, StoreError> {
    let sql = "SELECT proxy, worker, epoch, min(seq), max(seq), count(*) FROM events
        WHERE bytes IS NOT NULL AND time >= ?1 AND time < ?2 AND (?3 IS NULL OR namespace = ?3)
          AND (?4 IS NULL OR server = ?4)
        GROUP BY proxy, worker, epoch ORDER BY proxy, worker, epoch";
    let mut select = connection.prepare_cached(sql)?;
    let until = selection.until.map_or(i64::MAX, signed);
    let values = params![signed(selection.since.unwrap_or(0)), until, selection.namespace, selection.server];
    let rows = select.query_map(values, |row| {
        Ok(Span {
            chain: ChainName { proxy: row.get(0)?, worker: row.get(1)?, epoch: unsigned(row.get(2)?) },
            first: unsigned(row.get(3)?),
            last: unsigned(row.get(4)?),
            events: unsigned(row.get(5)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

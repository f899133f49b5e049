//! What was stored after a row. One thread writes, so rows become visible in the order of their ids.

use rusqlite::{Connection, params_from_iter};
use serde_json::Value;

use super::unsigned;
use crate::StoreError;
use crate::query::{Filter, Tail, base36};

/// Most rows that are looked through at once.
const WINDOW: i64 = 50_000;

/// The newest row's id; 0: there is none.
pub(super) fn end(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.query_row("SELECT coalesce(max(id), 0) FROM events", [], |row| row.get(0))?)
}

pub(super) fn after(
    connection: &Connection,
    filter: &Filter,
    after: i64,
    limit: u32,
) -> Result<Tail, StoreError> {
    let first: Option<i64> = connection.query_row("SELECT min(id) FROM events", [], |row| row.get(0))?;
    // What was pruned since need not be looked through.
    let after = after.max(first.unwrap_or(0).saturating_sub(1));
    let last = end(connection)?.min(after.saturating_add(WINDOW));
    let conditions = filter.conditions();
    let mut sql = String::from("SELECT id, envelope FROM events WHERE id > ? AND id <= ?");
    for (column, _) in &conditions {
        // The sign keeps SQLite from any other index than the one of ids, which the window is cut from.
        sql.push_str(&format!(" AND +{column} = ?"));
    }
    sql.push_str(" ORDER BY id LIMIT ?");
    let values = [after.to_string(), last.to_string()]
        .into_iter()
        .chain(conditions.iter().map(|(_, value)| (*value).to_string()))
        .chain([limit.to_string()]);
    let mut select = connection.prepare(&sql)?;
    let rows = select
        .query_map(params_from_iter(values), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let rows: Vec<(i64, String)> = rows.collect::<Result<_, _>>()?;
    let full = rows.len() == usize::try_from(limit).unwrap_or(usize::MAX);
    let position = rows.last().filter(|_| full).map_or(last, |(id, _)| *id);
    let events = rows
        .into_iter()
        .map(|(id, text)| (base36(unsigned(id)), serde_json::from_str(&text).unwrap_or(Value::Null)))
        .collect();
    Ok(Tail { events, position: base36(unsigned(position)) })
}

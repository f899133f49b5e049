//! Removes the oldest rows where the store is beyond its bounds.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::{Limits, Totals, note, signed, unsigned};
use crate::StoreError;
use crate::model::ChainName;

/// Rows removed at once when the store is too large or too old.
const PRUNE_ROWS: u32 = 5000;

/// Removes rows. Where a chain stands is kept, so that what was pruned is no gap, and how far it was pruned, so that a
/// checkpoint can say so. `now` in nanoseconds since 1970.
pub(super) fn prune(
    connection: &Connection,
    limits: Limits,
    now: u64,
    totals: &mut Totals,
) -> Result<(), StoreError> {
    let value = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let used =
        value("page_size")?.saturating_mul(value("page_count")?.saturating_sub(value("freelist_count")?));
    let removed = if used > i64::try_from(limits.max_bytes).unwrap_or(i64::MAX) {
        // A tenth at most, so that a small store keeps what was just acknowledged.
        let sql = "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id
                   LIMIT min(?1, (SELECT 1 + (max(id) - min(id)) / 10 FROM events)))
                   RETURNING proxy, worker, epoch, seq, bytes IS NOT NULL";
        remove(connection, sql, &[i64::from(PRUNE_ROWS)])?
    } else {
        // Rows stand in the order of their arrival, so both ends are found without a search; this runs at every commit.
        let end = |order: &str| {
            let sql = format!("SELECT time FROM events ORDER BY id {order} LIMIT 1");
            connection.prepare_cached(&sql)?.query_row([], |row| row.get::<_, i64>(0)).optional()
        };
        let age = i64::try_from(limits.max_age.as_nanos()).unwrap_or(i64::MAX);
        // A proxy that dates an event into the future makes nothing older.
        let newest = end("DESC")?.unwrap_or(0).min(signed(now));
        match end("ASC")? {
            // Up to the first that is young enough, so that a chain never loses a middle.
            Some(oldest) if newest.saturating_sub(age) > oldest => {
                let sql = "DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT ?1) AND id < coalesce(
                           (SELECT min(id) FROM (SELECT id, time FROM events ORDER BY id LIMIT ?1) WHERE time >= ?2),
                           9223372036854775807)
                           RETURNING proxy, worker, epoch, seq, bytes IS NOT NULL";
                remove(connection, sql, &[i64::from(PRUNE_ROWS), newest.saturating_sub(age)])?
            }
            _ => 0,
        }
    };
    if removed > 0 {
        note(totals, "pruned", removed);
        connection.execute_batch("PRAGMA incremental_vacuum")?;
    }
    Ok(())
}

/// Removes what `sql` says, and notes how far each chain lost its events; answers with the number of rows.
fn remove(connection: &Connection, sql: &str, values: &[i64]) -> Result<u64, StoreError> {
    let mut floors: BTreeMap<ChainName, (u64, u64)> = BTreeMap::new();
    let mut removed = 0;
    let mut delete = connection.prepare_cached(sql)?;
    let mut rows = delete.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        removed += 1;
        if row.get::<_, bool>(4)? {
            let chain = ChainName { proxy: row.get(0)?, worker: row.get(1)?, epoch: unsigned(row.get(2)?) };
            let (floor, count) = floors.entry(chain).or_default();
            *floor = (*floor).max(unsigned(row.get(3)?));
            *count += 1;
        }
    }
    let sql = "UPDATE chains SET floor = max(floor, ?4), removed = removed + ?5 WHERE proxy = ?1 AND worker = ?2 AND epoch = ?3";
    let mut update = connection.prepare_cached(sql)?;
    for (chain, (floor, count)) in floors {
        let (epoch, floor) = (signed(chain.epoch), signed(floor));
        update.execute(params![chain.proxy, chain.worker, epoch, floor, signed(count)])?;
    }
    Ok(removed)
}

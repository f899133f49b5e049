//! The file's tables, and how those of earlier versions become today's.

use std::path::Path;

use rusqlite::Connection;

use crate::StoreError;

/// Version of the schema, in the file's `user_version`.
const SCHEMA: i64 = 3;

/// Version 1.
const EVENTS: &str = "
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

/// Version 2: checkpoints, and what they seal of a chain. Of a chain that is older, what is gone counts as removed for age or
/// room. A finding is stored once.
const PROOF: &str = "
CREATE TABLE checkpoints (sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL, first INTEGER NOT NULL, bytes BLOB NOT NULL);
ALTER TABLE chains ADD COLUMN count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chains ADD COLUMN floor INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chains ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chains ADD COLUMN time INTEGER NOT NULL DEFAULT 0;
UPDATE chains SET floor = coalesce((SELECT min(e.seq) - 1 FROM events e WHERE e.bytes IS NOT NULL AND
  e.proxy = chains.proxy AND e.worker = chains.worker AND e.epoch = chains.epoch), seq);
UPDATE chains SET removed = floor, count = floor + (SELECT count(*) FROM events e WHERE e.bytes IS NOT NULL AND
  e.proxy = chains.proxy AND e.worker = chains.worker AND e.epoch = chains.epoch);
UPDATE chains SET time = coalesce((SELECT e.time FROM events e WHERE e.bytes IS NOT NULL AND
  e.proxy = chains.proxy AND e.worker = chains.worker AND e.epoch = chains.epoch AND e.seq = chains.seq), 0);
DELETE FROM events WHERE bytes IS NULL AND id NOT IN (SELECT min(id) FROM events WHERE bytes IS NULL
  GROUP BY proxy, worker, epoch, seq, event_type);
CREATE UNIQUE INDEX events_finding ON events (proxy, worker, epoch, seq, event_type) WHERE bytes IS NULL;
";

/// Refuses a file of a newer version.
pub(super) fn check_schema(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let found = version(connection)?;
    if found > SCHEMA {
        return Err(StoreError::Schema { path: path.display().to_string(), found, known: SCHEMA });
    }
    Ok(())
}

/// Brings a file to today's version, whole or not at all.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    let found = version(&transaction)?;
    for (step, change) in [(1, EVENTS), (2, PROOF), (3, super::usage::CREATE)] {
        if found < step {
            transaction.execute_batch(change)?;
        }
    }
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()?;
    Ok(())
}

fn version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_first_version_is_read_on_and_its_chains_get_count_and_floor() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(EVENTS).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let events = "INSERT INTO events (time, proxy, worker, epoch, seq, source, event_type, bytes, hash, envelope)
            VALUES (30, 'p', 1, 2, 4, 's', 't', x'01', x'02', '{}'), (40, 'p', 1, 2, 5, 's', 't', x'01', x'02', '{}'),
            (40, 'p', 1, 2, 2, 'ingest', 'audit.gap', NULL, NULL, '{}'), (41, 'p', 1, 2, 2, 'ingest', 'audit.gap', NULL, NULL, '{}')";
        connection.execute(events, []).unwrap();
        connection
            .execute("INSERT INTO chains VALUES ('p', 1, 2, 5, x'02'), ('q', 1, 2, 7, x'02')", [])
            .unwrap();
        for _ in 0..2 {
            migrate(&mut connection).unwrap();
        }
        let chain = |proxy: &str| {
            let sql = "SELECT count, removed, time FROM chains WHERE proxy = ?1";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            connection.query_row::<(i64, i64, i64), _, _>(sql, [proxy], read).unwrap()
        };
        assert_eq!([chain("p"), chain("q")], [(5, 3, 40), (7, 7, 0)]);
        let rows: i64 = connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 3, "a finding that was stored twice is there once");
    }
}

//! Usage by the hour, counted as events come.

use std::collections::BTreeMap;

use rusqlite::{Connection, params, params_from_iter};
use sallyport_audit_proto::view::EventView;

use super::{signed, unsigned};
use crate::StoreError;
use crate::envelope::decision;
use crate::query::{Usage, UsageQuery, hour_of, hour_text};

/// Version 3 of the schema: the table, and what is stored already counted.
pub(super) const CREATE: &str = "
CREATE TABLE usage (
  hour INTEGER NOT NULL, namespace TEXT NOT NULL, server TEXT NOT NULL, team_id TEXT NOT NULL, tool_name TEXT NOT NULL,
  events INTEGER NOT NULL, allowed INTEGER NOT NULL, denied INTEGER NOT NULL,
  PRIMARY KEY (hour, namespace, server, team_id, tool_name)) WITHOUT ROWID;
INSERT INTO usage SELECT time / 3600000000000, coalesce(namespace, ''), coalesce(server, ''), coalesce(team_id, ''),
  coalesce(tool_name, ''), count(*),
  coalesce(sum(decision = 'allow'), 0), coalesce(sum(decision = 'deny'), 0)
  FROM events WHERE bytes IS NOT NULL GROUP BY 1, 2, 3, 4, 5;
";

/// Hour, namespace, server, team, tool.
type Key = (i64, String, String, String, String);
/// Events, allowed, denied.
pub(super) type Hours = BTreeMap<Key, [u64; 3]>;

/// Counts an event.
pub(super) fn note(hours: &mut Hours, event: &EventView<'_>) {
    let [namespace, server, team_id, tool_name] =
        [event.namespace, event.server, event.team_id, event.tool_name].map(String::from);
    let key = (hour_of(event.time_unix_nanos), namespace, server, team_id, tool_name);
    let [events, allowed, denied] = hours.entry(key).or_default();
    *events += 1;
    match decision(event) {
        Some("allow") => *allowed += 1,
        Some(_) => *denied += 1,
        None => {}
    }
}

/// Adds what was counted.
pub(super) fn add(connection: &Connection, hours: Hours) -> Result<(), StoreError> {
    let mut add = connection.prepare_cached(
        "INSERT INTO usage VALUES (?1,?2,?3,?4,?5,?6,?7,?8) ON CONFLICT DO UPDATE SET events = events + excluded.events,
           allowed = allowed + excluded.allowed, denied = denied + excluded.denied",
    )?;
    for ((hour, namespace, server, team_id, tool_name), [events, allowed, denied]) in hours {
        let (events, allowed, denied) = (signed(events), signed(allowed), signed(denied));
        add.execute(params![hour, namespace, server, team_id, tool_name, events, allowed, denied])?;
    }
    Ok(())
}

/// What was used.
pub(super) fn of(connection: &Connection, wanted: &UsageQuery) -> Result<Vec<Usage>, StoreError> {
    let mut sql = String::from(
        "SELECT hour, namespace, server, team_id, tool_name, events, allowed, denied FROM usage
         WHERE hour >= CAST(? AS INTEGER) AND hour < CAST(? AS INTEGER)",
    );
    let conditions = wanted.conditions();
    for (column, _) in &conditions {
        sql.push_str(" AND ");
        sql.push_str(column);
        sql.push_str(" = ?");
    }
    sql.push_str(" ORDER BY hour, namespace, server, team_id, tool_name LIMIT ?");
    let hours = wanted.hours();
    let values = [hours.start.to_string(), hours.end.to_string()]
        .into_iter()
        .chain(conditions.iter().map(|(_, value)| (*value).to_string()))
        .chain([wanted.limit.to_string()]);
    let mut select = connection.prepare(&sql)?;
    let rows = select.query_map(params_from_iter(values), |row| {
        Ok(Usage {
            hour: hour_text(row.get(0)?),
            namespace: row.get(1)?,
            server: row.get(2)?,
            team_id: row.get(3)?,
            tool_name: row.get(4)?,
            events: unsigned(row.get(5)?),
            allowed: unsigned(row.get(6)?),
            denied: unsigned(row.get(7)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

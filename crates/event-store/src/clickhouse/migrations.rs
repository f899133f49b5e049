//! The schema, by versions, each applied once.

use super::ClickHouse;
use crate::StoreError;

/// Versions from 1 on, with what each adds: statements that do no harm when they run again, each ended by `;`.
const MIGRATIONS: &[(u32, &str)] = &[(1, include_str!("../../migrations/0001-events.sql"))];

const BEGIN: &[&str] = &[
    "CREATE DATABASE IF NOT EXISTS mcp",
    "CREATE TABLE IF NOT EXISTS mcp.schema_migrations (
         version UInt32, applied DateTime64(3, 'UTC') DEFAULT now64(3)
     ) ENGINE = MergeTree ORDER BY version",
];

impl ClickHouse {
    /// Brings the schema to this program's version, and keeps events for `max_days`.
    ///
    /// # Errors
    /// ClickHouse refuses, or its schema is of a newer version.
    pub async fn migrate(&self, max_days: u32) -> Result<(), StoreError> {
        for statement in BEGIN {
            self.client.query_raw(statement).execute().await?;
        }
        let found = self.schema().await?;
        let known = MIGRATIONS.last().map_or(0, |(version, _)| *version);
        if found > known {
            return Err(StoreError::Schema {
                path: self.url.clone(),
                found: found.into(),
                known: known.into(),
            });
        }
        for (version, sql) in MIGRATIONS.iter().filter(|(version, _)| *version > found) {
            for statement in statements(sql) {
                self.client.query_raw(statement).execute().await?;
            }
            // A number of ours.
            let done = format!("INSERT INTO mcp.schema_migrations (version) VALUES ({version})");
            self.client.query_raw(&done).execute().await?;
            tracing::info!(version, "schema of the event store migrated");
        }
        self.keep_for(max_days).await
    }

    /// The version of the schema; 0: there is none.
    async fn schema(&self) -> Result<u32, StoreError> {
        Ok(self.client.query_raw("SELECT max(version) FROM mcp.schema_migrations").fetch_one().await?)
    }

    /// Sets the age at which events go.
    async fn keep_for(&self, max_days: u32) -> Result<(), StoreError> {
        let lasts = format!("toDateTime(time) + toIntervalDay({max_days})");
        let table: String = self
            .client
            .query_raw(
                "SELECT create_table_query FROM system.tables WHERE database = 'mcp' AND name = 'events'",
            )
            .fetch_one()
            .await?;
        // To set it again would have every part looked at again.
        if !table.contains(&lasts) {
            let sql = format!("ALTER TABLE mcp.events MODIFY TTL {lasts}");
            self.client.query_raw(&sql).execute().await?;
        }
        Ok(())
    }
}

/// The statements of a file, without comments.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split_terminator(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_ascend_by_one_and_none_is_empty() {
        for (place, (version, sql)) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(*version).unwrap(), place + 1);
            assert!(statements(sql).count() > 0);
            assert!(statements(sql).all(|statement| statement.contains("IF NOT EXISTS")), "can run again");
        }
    }
}

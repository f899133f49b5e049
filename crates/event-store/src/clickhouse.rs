//! The store in ClickHouse, over its HTTP interface, with TLS or without: database `mcp`.
//!
//! An event is there once. Whoever writes asks first which of the sequences are there; a batch is one block and one part, so it
//! is stored whole or not at all; one whose outcome is not known is sent again under the same deduplication token.
//!
//! Failure: a writer that was replaced by another while its insert was under way must not go on with it. Inserts end
//! within the time of [`ClickHouse::insert_within`], and whoever takes over waits longer than that.

mod args;
mod block;
mod known;
mod migrations;
mod proof;
mod read;
mod tls;
mod write;

use std::time::Duration;

use clickhouse::{Client, Compression};
use tokio::sync::Mutex;

use crate::StoreError;
pub use args::{ArgsError, ClickHouseArgs};
pub use block::Block;
use known::Known;
pub(crate) use tls::told;
pub use tls::{Tls, TlsError};
pub use write::Prepared;

/// An insert that takes longer is given up, on both sides, unless something else is set.
const INSERT_WITHIN: Duration = Duration::from_secs(20);
/// A question that takes longer is given up, on both sides.
const ANSWER_WITHIN: &str = "30";

/// Where ClickHouse is, and who asks.
#[derive(Clone)]
pub struct Access {
    /// As `http://127.0.0.1:8123`, or `https://` with [`Access::tls`].
    pub url: String,
    /// User; none: ClickHouse's default.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Whom we trust; none: no TLS.
    pub tls: Option<Tls>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("url", &self.url).field("user", &self.user).finish_non_exhaustive()
    }
}

/// The store. Reading needs no rights but `SELECT` on `mcp`; [`ClickHouse::migrate`] makes what is written to.
pub struct ClickHouse {
    client: Client,
    url: String,
    insert_within: Duration,
    known: Mutex<Known>,
}

impl std::fmt::Debug for ClickHouse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouse").field("url", &self.url).finish_non_exhaustive()
    }
}

impl ClickHouse {
    /// A store at that place; nothing is asked yet.
    pub fn new(access: Access) -> Self {
        let client = access.tls.as_ref().map_or_else(Client::default, Tls::client);
        let mut client = client.with_url(&access.url).with_compression(Compression::Lz4);
        if let Some(user) = access.user {
            client = client.with_user(user);
        }
        if let Some(password) = access.password {
            client = client.with_password(password);
        }
        Self { client, url: access.url, insert_within: INSERT_WITHIN, known: Mutex::default() }
    }

    /// Gives up inserts that take longer, in whole seconds. Whoever takes over from a writer that died waits longer.
    #[must_use]
    pub fn insert_within(mut self, longest: Duration) -> Self {
        self.insert_within = longest;
        self
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        Ok(self.client.query_raw("SELECT 1").execute().await?)
    }

    /// A question about events, bounded in time.
    fn ask(&self, sql: &str) -> clickhouse::query::Query {
        self.client.query_raw(sql).with_setting("max_execution_time", ANSWER_WITHIN)
    }
}

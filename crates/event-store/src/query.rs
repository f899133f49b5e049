//! Questions and answers.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::StoreError;

/// Nanoseconds of an hour.
const HOUR: u64 = 3_600_000_000_000;
/// The last hour that a store can tell, in the year 2106.
const LAST_HOUR: u64 = 1_193_046;

/// Which events; empty fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// Source, as `payments-gateway`.
    pub source: Option<String>,
    /// Type, as `mcp.request`.
    pub event_type: Option<String>,
    /// Server's name.
    pub server: Option<String>,
    /// Server's namespace.
    pub namespace: Option<String>,
    /// Server's team.
    pub team_id: Option<String>,
    /// Cluster.
    pub cluster: Option<String>,
    /// The person who called.
    pub human_id: Option<String>,
    /// The agent that called.
    pub agent_id: Option<String>,
    /// The session presented.
    pub session_id: Option<String>,
    /// `allow` or `deny`.
    pub decision: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Tool.
    pub tool_name: Option<String>,
    /// JSON-RPC method.
    pub rpc_method: Option<String>,
    /// W3C trace id.
    pub trace_id: Option<String>,
}

impl Filter {
    /// Column and wanted value of each field that is set.
    pub(crate) fn conditions(&self) -> Vec<(&'static str, &str)> {
        let fields = [
            ("source", &self.source),
            ("event_type", &self.event_type),
            ("server", &self.server),
            ("namespace", &self.namespace),
            ("team_id", &self.team_id),
            ("cluster", &self.cluster),
            ("human_id", &self.human_id),
            ("agent_id", &self.agent_id),
            ("session_id", &self.session_id),
            ("decision", &self.decision),
            ("reason", &self.reason),
            ("tool_name", &self.tool_name),
            ("rpc_method", &self.rpc_method),
            ("trace_id", &self.trace_id),
        ];
        fields.into_iter().filter_map(|(column, value)| Some((column, value.as_deref()?))).collect()
    }
}

/// Some events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    /// Envelopes, newest first.
    pub events: Vec<Value>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<String>,
}

/// What was stored after a position. Positions are opaque, and valid for as long as the store lives.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tail {
    /// Each with its own position, oldest first.
    pub events: Vec<(String, Value)>,
    /// Up to where events were looked for: where to go on.
    pub position: String,
}

/// Totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Rows.
    pub events_total: u64,
    /// Verdicts that allowed.
    pub allowed: u64,
    /// Verdicts that denied.
    pub denied: u64,
    /// Events found missing, known drops among them.
    pub missing: u64,
    /// Rows removed for age or room.
    pub pruned: u64,
}

/// The newest event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Rows.
    pub total_events: u64,
    /// Its source.
    pub latest_source: Option<String>,
    /// Its type.
    pub last_event_type: Option<String>,
    /// Its time, RFC 3339.
    pub last_event_time: Option<String>,
}

/// What usage to tell: by the hour, of hours that begin from `since` on and before `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageQuery {
    /// Nanoseconds since 1970; the hour that it is in counts.
    pub since: u64,
    /// Nanoseconds since 1970; none: to the end.
    pub until: Option<u64>,
    /// Server's namespace.
    pub namespace: Option<String>,
    /// Server's name.
    pub server: Option<String>,
    /// Server's team.
    pub team_id: Option<String>,
    /// Most rows; the earliest come first.
    pub limit: u32,
}

impl UsageQuery {
    /// Column and wanted value of each field that is set.
    pub(crate) fn conditions(&self) -> Vec<(&'static str, &str)> {
        let fields = [("namespace", &self.namespace), ("server", &self.server), ("team_id", &self.team_id)];
        fields.into_iter().filter_map(|(column, value)| Some((column, value.as_deref()?))).collect()
    }

    /// The wanted hours since 1970.
    pub(crate) fn hours(&self) -> Range<i64> {
        let end = self.until.map_or(LAST_HOUR, |until| until.div_ceil(HOUR).min(LAST_HOUR));
        let hour = |value| i64::try_from(value).unwrap_or(i64::MAX);
        hour((self.since / HOUR).min(LAST_HOUR))..hour(end)
    }
}

/// What one tool of a server was used in one hour. Kept when the events are gone for age or room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Its beginning, RFC 3339.
    pub hour: String,
    /// Server's namespace.
    pub namespace: String,
    /// Server's name.
    pub server: String,
    /// Server's team.
    pub team_id: String,
    /// Tool; empty: requests that call none.
    pub tool_name: String,
    /// Events, of which some are outcomes of verdicts told before.
    pub events: u64,
    /// Verdicts that allowed.
    pub allowed: u64,
    /// Verdicts that denied.
    pub denied: u64,
}

/// The hour that a moment is in, since 1970.
pub(crate) fn hour_of(nanos: u64) -> i64 {
    i64::try_from(nanos / HOUR).unwrap_or(i64::MAX)
}

/// An hour since 1970, as RFC 3339.
pub(crate) fn hour_text(hour: i64) -> String {
    jiff::Timestamp::from_second(hour.saturating_mul(3600)).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// A cursor's text.
pub(crate) fn base36(value: u64) -> String {
    let mut rest = value;
    let mut digits = Vec::new();
    while rest > 0 || digits.is_empty() {
        digits.push(char::from_digit(u32::try_from(rest % 36).unwrap_or(0), 36).unwrap_or('0'));
        rest /= 36;
    }
    digits.iter().rev().collect()
}

/// What a cursor's text says.
pub(crate) fn from_base36(text: &str) -> Result<u64, StoreError> {
    let value = i64::from_str_radix(text, 36).map_err(|_| StoreError::Cursor)?;
    u64::try_from(value).map_err(|_| StoreError::Cursor)
}

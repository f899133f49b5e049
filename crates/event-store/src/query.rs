//! Questions and answers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

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

//! What a client asks, and the request that it stands for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sallyport_policy::Auth;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{ApiError, Code};

/// The revision whose clients mirror method and name in headers.
const MODERN: &str = "2026-07-28";
/// Where a request names its revision.
const META_VERSION: &str = "/params/_meta/io.modelcontextprotocol~1protocolVersion";

/// Who calls.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Identity {
    #[serde(rename = "humanID")]
    human_id: String,
    #[serde(rename = "agentID")]
    agent_id: String,
    #[serde(rename = "teamID")]
    team_id: String,
    #[serde(rename = "sessionID")]
    session_id: String,
}

/// A header's value, or values; null: it is not sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Header {
    One(String),
    Many(Vec<String>),
    Absent(()),
}

/// A question.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// The server's namespace.
    pub(super) namespace: String,
    /// The server.
    pub(super) server: String,
    #[serde(default)]
    identity: Identity,
    /// A JSON-RPC message; the headers are those that a correct client sends with it.
    request: Option<Value>,
    /// The exact body, in place of `request`.
    body: Option<String>,
    /// Headers that take the place of those that are sent by default.
    #[serde(default)]
    headers: BTreeMap<String, Header>,
    /// When.
    pub(super) at: Option<Timestamp>,
    /// When the proxy last saw the session used.
    pub(super) last_used: Option<Timestamp>,
}

impl Question {
    /// The body to judge.
    pub(super) fn body(&self) -> Result<String, ApiError> {
        match (&self.request, &self.body) {
            (Some(request), None) => Ok(request.to_string()),
            (None, Some(body)) => Ok(body.clone()),
            (None, None) | (Some(_), Some(_)) => {
                let message = "give the message either as `request` (JSON) or as `body` (the exact text)";
                Err(ApiError::new(Code::InvalidBody, message))
            }
        }
    }

    /// The headers to judge: what a correct client sends, changed as the question says.
    pub(super) fn headers(&self, auth: &Auth, path: &str) -> Result<Vec<(String, String)>, ApiError> {
        let mut pairs = vec![
            (":method".to_string(), "POST".to_string()),
            (":path".into(), path.into()),
            (":authority".into(), "gateway".into()),
            ("content-type".into(), "application/json".into()),
            ("accept".into(), "application/json, text/event-stream".into()),
        ];
        let identity = &self.identity;
        let named = [
            (&auth.human_header, &identity.human_id),
            (&auth.agent_header, &identity.agent_id),
            (&auth.team_header, &identity.team_id),
            (&auth.session_header, &identity.session_id),
        ];
        let named = named.into_iter().filter(|(_, value)| !value.is_empty());
        pairs.extend(named.map(|(name, value)| (name.clone(), value.clone())));
        pairs.extend(self.mirrored());
        for (name, value) in &self.headers {
            let name = name.to_ascii_lowercase();
            pairs.retain(|(known, _)| *known != name);
            match value {
                Header::One(value) => pairs.push((name, value.clone())),
                Header::Many(values) => {
                    pairs.extend(values.iter().map(|value| (name.clone(), value.clone())));
                }
                Header::Absent(()) => {}
            }
        }
        let is_sendable = |text: &String| !text.contains(['\0', '\r', '\n']);
        match pairs.iter().find(|(name, value)| !is_sendable(name) || !is_sendable(value)) {
            Some((name, _)) => {
                let message = format!("header {name:?} has a line break or NUL, which HTTP cannot send");
                Err(ApiError::new(Code::InvalidBody, message))
            }
            None => Ok(pairs),
        }
    }

    /// What a client of the modern revision mirrors of its message.
    fn mirrored(&self) -> Vec<(String, String)> {
        let text =
            |pointer: &str| self.request.as_ref().and_then(|request| request.pointer(pointer)?.as_str());
        if text(META_VERSION) != Some(MODERN) {
            return Vec::new();
        }
        let method = text("/method").unwrap_or_default();
        let name = match method {
            "tools/call" | "prompts/get" => text("/params/name"),
            "resources/read" => text("/params/uri"),
            _ => None,
        };
        let mut pairs =
            vec![("mcp-protocol-version".into(), MODERN.into()), ("mcp-method".into(), method.into())];
        pairs.extend(name.map(|name| ("mcp-name".into(), name.into())));
        pairs
    }
}

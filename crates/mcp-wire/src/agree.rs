//! Agreement of headers and body on protocol era, method and name.
//!
//! Servers differ in where they look for the era (header, body, both), so all of it must tell one story before the
//! rules of either era apply. Sources: MCP 2026-07-28, Streamable HTTP, "server validation"; SEP-2243.

use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::fault::Fault;
use crate::headers::RequestHeaders;
use crate::message::{Kind, Message};
use crate::method::Method;
use crate::text::Text;

/// The revision without sessions.
pub(crate) const MODERN: &str = "2026-07-28";

/// Revisions that are understood, newest first.
pub const SUPPORTED_VERSIONS: &[&str] = &[MODERN, "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Those of them without sessions.
pub const MODERN_VERSIONS: &[&str] = &[MODERN];

/// The two protocols behind the one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// 2024-11-05 to 2025-11-25: `initialize`, sessions, streams.
    Legacy,
    /// 2026-07-28: one request, one answer, mirrored headers.
    Modern,
}

impl Era {
    /// The word for records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// What headers and body agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement<'a> {
    /// The era.
    pub era: Era,
    /// The revision as the header says; a legacy request may have none.
    pub version: Option<&'a str>,
}

/// Checks that headers and body tell one story.
///
/// # Errors
/// They do not, or the revision is unknown or lacks the method.
pub fn agree<'a>(headers: &RequestHeaders<'a>, message: &Message<'_>) -> Result<Agreement<'a>, Fault> {
    let version = headers.protocol_version();
    if version.is_some_and(|version| !SUPPORTED_VERSIONS.contains(&version)) {
        return Err(Fault::UnsupportedVersion);
    }
    let era = if version == Some(MODERN) { Era::Modern } else { Era::Legacy };
    match era {
        Era::Modern => check_modern(headers, message)?,
        Era::Legacy => check_legacy(headers, message)?,
    }
    Ok(Agreement { era, version })
}

fn check_modern(headers: &RequestHeaders<'_>, message: &Message<'_>) -> Result<(), Fault> {
    if message.kind == Kind::Response {
        return Err(Fault::InvalidShape);
    }
    let named = headers.mcp_method();
    if named.is_some_and(|named| named != message.method_name.as_str())
        || (named.is_none() && message.kind == Kind::Request)
    {
        return Err(Fault::HeaderMismatch);
    }
    check_name(headers, message, message.kind == Kind::Request)?;
    match message.meta_version.as_ref().map(Text::as_str) {
        Some(version) if Some(version) != headers.protocol_version() => return Err(Fault::HeaderMismatch),
        None if message.kind == Kind::Request => return Err(Fault::MissingMeta),
        Some(_) | None => {}
    }
    if message.kind == Kind::Request && !message.has_client_capabilities {
        return Err(Fault::MissingMeta);
    }
    if message.method.is_modern() { Ok(()) } else { Err(Fault::MethodRemoved) }
}

fn check_legacy(headers: &RequestHeaders<'_>, message: &Message<'_>) -> Result<(), Fault> {
    // Only within a session can a server have asked for anything.
    if message.kind == Kind::Response && headers.mcp_session_id().is_none() {
        return Err(Fault::InvalidShape);
    }
    let meta = message.meta_version.as_ref().map(Text::as_str);
    if meta.is_some_and(|meta| Some(meta) != headers.protocol_version()) {
        return Err(Fault::HeaderMismatch);
    }
    if headers.mcp_method().is_some_and(|named| named != message.method_name.as_str()) {
        return Err(Fault::HeaderMismatch);
    }
    check_name(headers, message, false)?;
    if !message.method.is_legacy() {
        return Err(Fault::MethodRemoved);
    }
    if has_its_object(message) { Ok(()) } else { Err(Fault::InvalidParams) }
}

/// Whether a method of the legacy era alone names what it acts on. Reading does not demand it, because to a modern
/// request for such a method the answer is that there is none.
fn has_its_object(message: &Message<'_>) -> bool {
    match message.method {
        Method::Initialize => message.proposed_version.is_some(),
        Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => message.uri.is_some(),
        Method::TasksResult => message.task_id.is_some(),
        _ => true,
    }
}

/// `Mcp-Name` against what it mirrors; `required`: where the revision demands it.
fn check_name(headers: &RequestHeaders<'_>, message: &Message<'_>, required: bool) -> Result<(), Fault> {
    let (source, required) = match message.method {
        Method::ToolsCall | Method::PromptsGet => (message.name.as_ref(), required),
        Method::ResourcesRead => (message.uri.as_ref(), required),
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel => (message.task_id.as_ref(), false),
        _ => (None, false),
    };
    let agrees = match (headers.mcp_name(), source) {
        (None, _) => !required,
        // A name that mirrors nothing.
        (Some(_), None) => false,
        (Some(sent), Some(source)) => names(sent, source.as_str()),
    };
    if agrees { Ok(()) } else { Err(Fault::HeaderMismatch) }
}

/// Whether a header's value stands for `name`: as it is, or in base64 between the exact markers.
fn names(sent: &str, name: &str) -> bool {
    match sent.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => STANDARD.decode(encoded).is_ok_and(|decoded: Vec<u8>| decoded == name.as_bytes()),
        None => sent == name && sent.bytes().all(|b| b == b' ' || b == b'\t' || b.is_ascii_graphic()),
    }
}

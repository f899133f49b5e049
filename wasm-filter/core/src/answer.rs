//! What a caller is told: denials, faults and readiness.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use sallyport_audit_proto::event_id;
use sallyport_mcp_wire::{Fault, Kind, MODERN_VERSIONS, SUPPORTED_VERSIONS};
use sallyport_policy::{DenyResponse, Reason};

use crate::host::Answer;
use crate::judge::{Judgement, Ruling};

/// Header that names the reason, for logs along the way.
const REASON_HEADER: &str = "x-sallyport-reason";

/// The answer to a judged request; none: it goes on. `id` is the event's, by which the record is found.
pub fn to(judgement: &Judgement<'_>, id: &[u8; 16]) -> Option<Answer> {
    match &judgement.ruling {
        Ruling::Verdict(verdict) if verdict.allowed => None,
        Ruling::Verdict(verdict) => Some(denial(judgement, verdict.reason, id)),
        Ruling::Fault(fault) => Some(refusal(judgement, *fault, id)),
    }
}

/// The answer when nothing could be read at all.
pub fn unavailable(reason: Reason) -> Answer {
    let (code, message) = (reason.json_rpc_code(), text_of(reason));
    json(
        reason.http_status(),
        reason.as_str(),
        error_body(None, code, &message, &data(reason.as_str(), None)),
    )
}

/// The answer to the readiness probe; `missing`: why the worker cannot decide yet.
pub fn readiness(missing: Option<Reason>) -> Answer {
    match missing {
        None => json(200, "ready", String::from("{\"ready\":true}")),
        Some(reason) => {
            json(503, reason.as_str(), format!("{{\"ready\":false,\"reason\":\"{}\"}}", reason.as_str()))
        }
    }
}

fn denial(judgement: &Judgement<'_>, reason: Reason, id: &[u8; 16]) -> Answer {
    let kind = judgement.message.as_ref().map(|message| message.kind);
    if matches!(kind, Some(Kind::Notification | Kind::Response)) {
        // Nobody waits for an answer, and an error would end some clients' sessions: it is dropped, and recorded.
        return Answer {
            status: 202,
            headers: vec![(REASON_HEADER, reason.as_str().to_string())],
            body: Vec::new(),
        };
    }
    let form = judgement.server.map_or(DenyResponse::Http, |(_, server)| server.policy().deny_response);
    let as_result = kind.is_some()
        && match form {
            // Whoever speaks in another's session has none to lose, and 404 tells a client to begin its own.
            DenyResponse::Auto => judgement.in_legacy_session() && reason != Reason::McpSessionOfAnother,
            DenyResponse::Http => false,
            DenyResponse::Jsonrpc => true,
        };
    let status = if as_result { 200 } else { reason.http_status() };
    let request = judgement.message.as_ref().and_then(|message| message.id);
    let body =
        error_body(request, reason.json_rpc_code(), &text_of(reason), &data(reason.as_str(), Some(id)));
    json(status, reason.as_str(), body)
}

fn refusal(judgement: &Judgement<'_>, fault: Fault, id: &[u8; 16]) -> Answer {
    let mut data = data(fault.as_str(), Some(id));
    if fault == Fault::UnsupportedVersion {
        data.push_str(",\"supported\":[");
        let modern = judgement.message.as_ref().is_some_and(|message| message.meta_version.is_some());
        for (index, version) in supported(modern).iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(data, "{}\"{version}\"", if index == 0 { "" } else { "," });
        }
        data.push_str("],\"requested\":");
        quote(judgement.headers.protocol_version().unwrap_or_default(), &mut data);
    }
    let body = error_body(judgement.fault_id, fault.json_rpc_code(), fault.message(), &data);
    json(fault.http_status(), fault.as_str(), body)
}

/// What a caller could speak instead. One that names its revision in `_meta` knows no handshake, and so none of the
/// revisions that begin with one.
fn supported(modern: bool) -> &'static [&'static str] {
    if modern { MODERN_VERSIONS } else { SUPPORTED_VERSIONS }
}

fn text_of(reason: Reason) -> String {
    format!("denied ({}): {}", reason.as_str(), reason.remedy())
}

/// Members of the error's `data`.
fn data(reason: &str, id: Option<&[u8; 16]>) -> String {
    let mut data = format!("\"reason\":\"{reason}\"");
    if let Some(id) = id.filter(|id| **id != [0; 16]) {
        let _ = write!(data, ",\"eventId\":\"{}\"", event_id::text(id));
    }
    data
}

fn error_body(id: Option<&str>, code: i32, message: &str, data: &str) -> String {
    let id = id.unwrap_or("null");
    let mut body = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":{code},\"message\":");
    quote(message, &mut body);
    body.push_str(",\"data\":{");
    body.push_str(data);
    body.push_str("}}}");
    body
}

fn json(status: u16, reason: &str, body: String) -> Answer {
    let mut headers =
        vec![("content-type", "application/json".to_string()), (REASON_HEADER, reason.to_string())];
    if status == 405 {
        headers.push(("allow", "POST, GET, DELETE".to_string()));
    }
    Answer { status, headers, body: body.into_bytes() }
}

/// A JSON string.
fn quote(text: &str, to: &mut String) {
    to.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                to.push('\\');
                to.push(c);
            }
            c if c.is_control() => {
                let _ = write!(to, "\\u{:04x}", u32::from(c));
            }
            c => to.push(c),
        }
    }
    to.push('"');
}

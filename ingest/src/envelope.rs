//! JSON envelopes of other programs: `timestamp, trace_id, source, event_type, payload`. Pure.

use sallyport_audit_proto::v1::AuditEvent;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Largest envelope, in bytes.
const MAX_ENVELOPE: usize = 1 << 20;

/// An envelope as it comes.
#[derive(Debug, Deserialize)]
struct Envelope<'a> {
    timestamp: Option<String>,
    trace_id: Option<String>,
    source: Option<String>,
    event_type: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

/// Why envelopes are refused; none of them is taken. Places count from 0.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvelopeError {
    /// Not JSON, or a field is of the wrong type.
    #[error("event {index} is no JSON envelope: {reason}")]
    Json {
        /// Its place in the body.
        index: usize,
        /// Why.
        reason: String,
    },
    /// There is none.
    #[error("the body has no event")]
    Empty,
    /// A field is missing.
    #[error("event {index} lacks {field}")]
    Missing {
        /// Its place in the body.
        index: usize,
        /// The field.
        field: &'static str,
    },
    /// It is too large.
    #[error("event {index} is larger than {MAX_ENVELOPE} bytes")]
    Large {
        /// Its place in the body.
        index: usize,
    },
    /// It names another source than the key's.
    #[error("event {index} is of source `{source_name}`, which is not the key's")]
    Source {
        /// Its place in the body.
        index: usize,
        /// What it names.
        source_name: String,
    },
}

/// Reads a body: one envelope, or several one after the other, as lines of NDJSON are. `source` is the key's, `trace_id` the
/// request's; `nanos` since 1970 is now.
pub(crate) fn read(
    body: &[u8],
    source: &str,
    trace_id: &str,
    nanos: u64,
) -> Result<Vec<AuditEvent>, EnvelopeError> {
    let mut envelopes = serde_json::Deserializer::from_slice(body).into_iter::<Envelope<'_>>();
    let mut events = Vec::new();
    let mut begin = 0;
    while let Some(envelope) = envelopes.next() {
        let index = events.len();
        let json = |reason: String| EnvelopeError::Json { index, reason };
        let envelope = envelope.map_err(|error| json(error.to_string()))?;
        let end = envelopes.byte_offset();
        if end - begin > MAX_ENVELOPE {
            return Err(EnvelopeError::Large { index });
        }
        begin = end;
        let missing = |field| EnvelopeError::Missing { index, field };
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let name = given(envelope.source).ok_or_else(|| missing("source"))?;
        let event_type = given(envelope.event_type).ok_or_else(|| missing("event_type"))?;
        let payload = envelope.payload.ok_or_else(|| missing("payload"))?.get();
        if name != source {
            return Err(EnvelopeError::Source { index, source_name: name });
        }
        let time_unix_nanos = match given(envelope.timestamp) {
            None => nanos,
            Some(text) => {
                parse_time(&text).ok_or_else(|| json(format!("timestamp `{text}` is not RFC 3339")))?
            }
        };
        let mut event = AuditEvent { time_unix_nanos, source: name, event_type, ..AuditEvent::default() };
        event.trace_id = given(envelope.trace_id).unwrap_or_else(|| trace_id.to_string());
        fill(&mut event, &serde_json::from_str(payload).map_err(|error| json(error.to_string()))?);
        event.payload = payload.as_bytes().to_vec();
        events.push(event);
    }
    if events.is_empty() { Err(EnvelopeError::Empty) } else { Ok(events) }
}

fn parse_time(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_nanosecond()).ok()
}

/// Fills the fields that events are searched by.
fn fill(event: &mut AuditEvent, payload: &Value) {
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
    event.server = text("server");
    event.namespace = text("namespace");
    event.team_id = text("team_id");
    event.cluster = text("cluster");
    event.human_id = text("human_id");
    event.agent_id = text("agent_id");
    event.session_id = text("session_id");
    event.reason = text("reason");
    event.tool_name = text("tool_name");
    event.rpc_method = text("rpc_method");
    event.allowed = text("decision") == "allow";
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"timestamp":"2030-01-02T03:04:05.6Z","source":"s","event_type":"t","payload":{"server":"x","n":1.50}}"#;

    fn read_text(text: &str) -> Result<Vec<AuditEvent>, EnvelopeError> {
        read(text.as_bytes(), "s", "trace", 7)
    }

    #[test]
    fn an_envelope_is_read_and_its_payload_kept_to_the_letter() {
        let events = read_text(ONE).unwrap();
        assert_eq!(events.len(), 1);
        let event = &events[0];
        assert_eq!(event.payload, br#"{"server":"x","n":1.50}"#);
        assert_eq!((event.server.as_str(), event.trace_id.as_str()), ("x", "trace"));
        assert_eq!(event.time_unix_nanos, 1_893_553_445_600_000_000);
    }

    #[test]
    fn lines_are_read_each_and_refused_together() {
        let two = format!("{ONE}\n{ONE}\n");
        assert_eq!(read_text(&two).unwrap().len(), 2);
        let broken = format!("{ONE}\n{{\"source\":");
        assert!(matches!(read_text(&broken), Err(EnvelopeError::Json { index: 1, .. })));
        assert_eq!(read_text(" \n"), Err(EnvelopeError::Empty));
    }

    #[test]
    fn what_is_missing_or_not_the_keys_is_told() {
        let without = |field| Err(EnvelopeError::Missing { index: 0, field });
        assert_eq!(read_text(r#"{"event_type":"t","payload":{}}"#), without("source"));
        assert_eq!(read_text(r#"{"source":"s","payload":{}}"#), without("event_type"));
        assert_eq!(read_text(r#"{"source":"s","event_type":"t","payload":null}"#), without("payload"));
        let other = read_text(r#"{"source":"other","event_type":"t","payload":{}}"#);
        assert_eq!(other, Err(EnvelopeError::Source { index: 0, source_name: "other".into() }));
        let time = read_text(r#"{"timestamp":"yesterday","source":"s","event_type":"t","payload":{}}"#);
        assert!(matches!(time, Err(EnvelopeError::Json { .. })));
        let large = format!(r#"{{"source":"s","event_type":"t","payload":"{}"}}"#, "x".repeat(MAX_ENVELOPE));
        assert_eq!(read_text(&large), Err(EnvelopeError::Large { index: 0 }));
    }

    #[test]
    fn without_a_time_an_event_is_of_now() {
        assert_eq!(
            read_text(r#"{"source":"s","event_type":"t","payload":[]}"#).unwrap()[0].time_unix_nanos,
            7
        );
    }
}

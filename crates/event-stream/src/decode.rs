//! From records to events. Pure.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use sallyport_audit_proto::v1::FoundProblem;
use sallyport_audit_proto::view::{EventView, RecordView};
use sallyport_audit_proto::{chain, hex};
use sallyport_event_store::{ChainName, Finding, StoredEvent};
use serde_json::Value;

use crate::encode::BYTES;
use crate::record::{Entry, Format, Told};

/// How an `EventRecord` begins, and no JSON does that anybody writes: its first field, a text.
const PROXY: u8 = 0x0a;

/// Why a record holds nothing that can be kept as an event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The header that says how to read the value.
    #[error("content-type is `{0}`; application/protobuf or application/json is understood")]
    ContentType(String),
    /// There is none, or another than UTF-8.
    #[error("there is no readable content-type header")]
    NoContentType,
    /// The value has another form.
    #[error("value is no sallyport.audit.v1.EventRecord: {0}")]
    Protobuf(String),
    /// The value has another form.
    #[error("value is no JSON envelope: {0}")]
    Json(String),
    /// The envelope lacks what makes it an event of a chain.
    #[error("envelope lacks `{0}`, or it has another form")]
    Missing(&'static str),
    /// The event's bytes are none.
    #[error("event is no sallyport.audit.v1.AuditEvent with a sequence: {0}")]
    Event(String),
    /// The event was altered.
    #[error("hash of the event is not that of its bytes")]
    Hash,
    /// A finding of a newer version.
    #[error("finding has the unknown type `{0}`")]
    Finding(String),
}

/// Reads a record by its value and its `content-type` header, which is asked for where the value does not begin as ours do and
/// reads as one: headers cost as much as all the rest. The event's hash is checked; its place in the chain is not.
///
/// # Errors
/// It holds no event: trying again does not help.
pub fn decode<'h>(
    content_type: impl FnOnce() -> Option<&'h [u8]>,
    value: &[u8],
) -> Result<Entry, DecodeError> {
    read(content_type, value, |told| match told {
        Told::Event { chain, bytes, hash, event } => {
            let (seq, nanos) = (event.seq, event.time_unix_nanos);
            Entry::Event(StoredEvent { chain, bytes: bytes.to_vec(), hash, seq, nanos })
        }
        Told::Finding(finding) => Entry::Finding(finding),
    })
}

/// The same, with the event in place: `take` is called once with what the record holds, unless that is an error.
///
/// # Errors
/// As those of [`decode`].
pub fn read<'h, T>(
    content_type: impl FnOnce() -> Option<&'h [u8]>,
    value: &[u8],
    take: impl FnOnce(Told<'_>) -> T,
) -> Result<T, DecodeError> {
    if value.first() == Some(&PROXY)
        && let Ok(told) = from_protobuf(value)
    {
        return Ok(take(told));
    }
    let content_type =
        content_type().and_then(|text| std::str::from_utf8(text).ok()).ok_or(DecodeError::NoContentType)?;
    // Parameters, such as a character set, change nothing.
    let media = content_type.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case(Format::Protobuf.content_type()) {
        from_protobuf(value).map(take)
    } else if media.eq_ignore_ascii_case(Format::Json.content_type()) {
        match from_json(value)? {
            FromJson::Event { chain, bytes, hash } => event(chain, &bytes, &hash).map(take),
            FromJson::Finding(finding) => Ok(take(Told::Finding(finding))),
        }
    } else {
        Err(DecodeError::ContentType(content_type.chars().take(64).collect()))
    }
}

fn from_protobuf(value: &[u8]) -> Result<Told<'_>, DecodeError> {
    let record = RecordView::read(value).map_err(|error| DecodeError::Protobuf(error.to_string()))?;
    let chain = ChainName { proxy: record.proxy.into(), worker: record.worker, epoch: record.epoch.0 };
    if record.finding.is_empty() {
        return event(chain, record.event, record.hash);
    }
    let found =
        FoundProblem::decode(record.finding).map_err(|error| DecodeError::Protobuf(error.to_string()))?;
    let span = (found.from_seq, found.to_seq);
    finding(chain, &found.event_type, span, found.found_unix_nanos).map(Told::Finding)
}

enum FromJson {
    Event { chain: ChainName, bytes: Vec<u8>, hash: Vec<u8> },
    Finding(Finding),
}

fn from_json(value: &[u8]) -> Result<FromJson, DecodeError> {
    let envelope: Value =
        serde_json::from_slice(value).map_err(|error| DecodeError::Json(error.to_string()))?;
    let ours = envelope.pointer("/payload/chain").filter(|chain| chain.is_object());
    let ours = ours.or_else(|| envelope.get("chain")).ok_or(DecodeError::Missing("payload.chain"))?;
    let chain = ChainName {
        proxy: text(ours, "proxy").ok_or(DecodeError::Missing("proxy"))?.into(),
        worker: number(ours, "worker")
            .and_then(|worker| worker.try_into().ok())
            .ok_or(DecodeError::Missing("worker"))?,
        epoch: text(ours, "epoch").and_then(|text| text.parse().ok()).ok_or(DecodeError::Missing("epoch"))?,
    };
    if let Some(encoded) = text(ours, BYTES) {
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|error| DecodeError::Event(error.to_string()))?;
        let hash = text(ours, "hash").and_then(hex::bytes).ok_or(DecodeError::Missing("hash"))?;
        return Ok(FromJson::Event { chain, bytes, hash });
    }
    let kind = text(&envelope, "event_type").ok_or(DecodeError::Missing("event_type"))?;
    let span = number(ours, "from").zip(number(ours, "to")).ok_or(DecodeError::Missing(BYTES))?;
    let nanos = text(ours, "found_unix_nanos")
        .and_then(|text| text.parse().ok())
        .ok_or(DecodeError::Missing("found_unix_nanos"))?;
    finding(chain, kind, span, nanos).map(FromJson::Finding)
}

fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str)
}

fn number(object: &Value, name: &str) -> Option<u64> {
    object.get(name).and_then(Value::as_u64)
}

fn event<'e>(chain: ChainName, bytes: &'e [u8], expected: &[u8]) -> Result<Told<'e>, DecodeError> {
    let hash = chain::hash(bytes);
    if hash != expected {
        return Err(DecodeError::Hash);
    }
    let event = EventView::read(bytes).map_err(|error| DecodeError::Event(error.to_string()))?;
    if event.seq == 0 {
        return Err(DecodeError::Event("seq is 0".into()));
    }
    Ok(Told::Event { chain, bytes, hash, event })
}

fn finding(chain: ChainName, kind: &str, span: (u64, u64), nanos: u64) -> Result<Finding, DecodeError> {
    let known = Finding::TYPES.into_iter().find(|known| *known == kind);
    let event_type = known.ok_or_else(|| DecodeError::Finding(kind.into()))?;
    Ok(Finding { chain, event_type, from: span.0, to: span.1, nanos })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sallyport_audit_proto::v1::AuditEvent;
    use sallyport_event_store::envelope;

    use super::*;
    use crate::encode::Encoder;
    use crate::record::Record;

    const FORMATS: [Format; 2] = [Format::Protobuf, Format::Json];

    fn header(record: &Record<'_>, name: &str) -> Option<String> {
        record.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
    }

    fn back(record: &Record<'_>) -> Result<Entry, DecodeError> {
        let content_type = header(record, "content-type");
        decode(|| content_type.as_deref().map(str::as_bytes), &record.value)
    }

    fn mk_chain(proxy: &str) -> ChainName {
        ChainName { proxy: proxy.into(), worker: 3, epoch: u64::MAX }
    }

    fn mk_stored(chain: ChainName, event: &AuditEvent, unknown: &[u8]) -> StoredEvent {
        // A field that this version does not know, as a newer filter would send it.
        let mut bytes = event.encode_to_vec();
        bytes.extend([0xfa, 0x3f, u8::try_from(unknown.len()).unwrap()]);
        bytes.extend(unknown);
        let hash = chain::hash(&bytes);
        StoredEvent::read(chain, bytes, hash).unwrap()
    }

    fn mk_event() -> AuditEvent {
        let trace_id = "0af7651916cd43dd8448eb211c80319c".into();
        let (event_id, time_unix_nanos) = (vec![7; 16], 1_900_000_000_123_456_789);
        AuditEvent {
            seq: 9,
            server: "payments".into(),
            trace_id,
            event_id,
            time_unix_nanos,
            ..AuditEvent::default()
        }
    }

    proptest! {
        #[test]
        fn every_event_comes_out_as_it_went_in(
            proxy in "[a-z/:é -]{0,20}", seq in 1..u64::MAX, path in ".*", latency_micros: u64, unknown: [u8; 9],
            source in "[a-z]{0,3}", payload in prop_oneof![
                Just("[1.50, 2]"), Just("{\"chain\":7,\"event\":1}"), Just("\"text\""), Just("")],
        ) {
            let payload = payload.as_bytes().to_vec();
            let event = AuditEvent { seq, path, latency_micros, source, payload, ..AuditEvent::default() };
            let stored = mk_stored(mk_chain(&proxy), &event, &unknown);
            for format in FORMATS {
                let back = back(&Encoder::of(&stored.chain, format).event(&stored));
                prop_assert_eq!(back, Ok(Entry::Event(stored.clone())));
            }
        }

        #[test]
        fn nothing_that_comes_breaks_the_reader(value: Vec<u8>) {
            for format in FORMATS {
                let _ = decode(|| Some(format.content_type().as_bytes()), &value);
            }
        }
    }

    #[test]
    fn every_finding_comes_out_as_it_went_in() {
        for event_type in Finding::TYPES {
            let finding = Finding { chain: mk_chain("a/b"), event_type, from: 3, to: u64::MAX, nanos: 17 };
            for format in FORMATS {
                let encoder = Encoder::of(&finding.chain, format);
                let record = encoder.finding(&finding);
                assert_eq!(back(&record), Ok(Entry::Finding(finding.clone())));
                let id = format!("{event_type}/a/b/3/{}/3-{}", u64::MAX, u64::MAX);
                assert_eq!(header(&record, "ce_id"), Some(id));
            }
        }
    }

    #[test]
    fn attributes_are_those_of_cloudevents() {
        let stored = mk_stored(mk_chain("prod/gate way"), &mk_event(), &[]);
        let encoder = Encoder::of(&stored.chain, Format::Json);
        let record = encoder.event(&stored);
        assert_eq!(record.key, format!("prod/gate way/3/{}", u64::MAX));
        let expected = [
            ("ce_specversion", "1.0"),
            ("ce_type", "mcp.request"),
            ("ce_source", "/sallyport/prod/gate%20way"),
            ("ce_time", "2030-03-17T17:46:40.123456789Z"),
            ("content-type", "application/json"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-0707070707070707-00"),
        ];
        for (name, value) in expected {
            assert_eq!(header(&record, name).as_deref(), Some(value));
        }
        assert_eq!(header(&record, "ce_id").map(|id| id.len()), Some(26), "a ULID");
        assert_eq!(record.headers.len(), expected.len() + 1);
    }

    #[test]
    fn the_json_value_is_the_envelope_and_the_bytes() {
        let stored = mk_stored(mk_chain("p"), &mk_event(), &[]);
        let mut value: Value =
            serde_json::from_slice(&Encoder::of(&stored.chain, Format::Json).event(&stored).value).unwrap();
        let bytes = value["payload"]["chain"].as_object_mut().unwrap().remove(BYTES);
        assert_eq!(bytes, Some(BASE64_STANDARD.encode(&stored.bytes).into()));
        assert_eq!(value, envelope(&stored.chain, &stored.hash, &stored.view()));
    }

    #[test]
    fn an_altered_event_is_refused() {
        let mut stored = mk_stored(mk_chain("p"), &mk_event(), &[]);
        stored.hash[0] ^= 1;
        for format in FORMATS {
            assert_eq!(back(&Encoder::of(&stored.chain, format).event(&stored)), Err(DecodeError::Hash));
        }
    }

    #[test]
    fn a_record_that_reads_as_ours_needs_no_header() {
        let stored = mk_stored(mk_chain("p"), &mk_event(), &[]);
        let protobuf = Encoder::of(&stored.chain, Format::Protobuf).event(&stored).value;
        assert_eq!(decode(|| None, &protobuf), Ok(Entry::Event(stored.clone())));
        let json = Encoder::of(&stored.chain, Format::Json).event(&stored).value;
        assert_eq!(decode(|| None, &json), Err(DecodeError::NoContentType));
        let spaced = [b"\n", json.as_slice()].concat();
        assert_eq!(decode(|| Some(b"application/json"), &spaced), Ok(Entry::Event(stored)));
    }

    #[test]
    fn what_is_no_record_of_ours_is_told_why() {
        let json = |text: &str| decode(|| Some(b"application/json; charset=utf-8"), text.as_bytes());
        assert_eq!(decode(|| None, b""), Err(DecodeError::NoContentType));
        assert_eq!(decode(|| Some(b"text/plain"), b""), Err(DecodeError::ContentType("text/plain".into())));
        assert!(matches!(json("{"), Err(DecodeError::Json(_))));
        assert_eq!(json("{}"), Err(DecodeError::Missing("payload.chain")));
        assert_eq!(
            json(r#"{"payload":{"chain":{"proxy":"p","worker":1}}}"#),
            Err(DecodeError::Missing("epoch"))
        );
        assert!(matches!(decode(|| Some(b"application/protobuf"), b"\xff"), Err(DecodeError::Protobuf(_))));
        assert_eq!(decode(|| Some(b"application/protobuf"), b""), Err(DecodeError::Hash));
    }
}

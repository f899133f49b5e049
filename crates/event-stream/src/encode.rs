//! From events to records. Pure.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use sallyport_audit_proto::v1::{EventRecord, FoundProblem};
use sallyport_audit_proto::{event_id, hex};
use sallyport_event_store::{
    ChainName, Finding, StoredEvent, envelope, event_type, finding_envelope, timestamp,
};
use serde_json::{Value, json};

use crate::record::{Format, Record, chain_key};

/// Member of the envelope's `payload.chain` (or, where the payload is no object, of `chain`) that has the exact bytes.
pub(crate) const BYTES: &str = "event";

/// The record of an event.
pub fn encode(stored: &StoredEvent, format: Format) -> Record {
    let StoredEvent { chain, bytes, hash, event } = stored;
    let key = chain_key(chain);
    let id = <[u8; 16]>::try_from(event.event_id.as_slice())
        .map_or_else(|_| format!("{key}/{}", event.seq), |id| event_id::text(&id));
    let mut headers = attributes(chain, id, event_type(event), event.time_unix_nanos, format);
    if let Some(traceparent) = traceparent(&event.trace_id, &event.event_id) {
        headers.push(("traceparent", traceparent));
    }
    let value = match format {
        Format::Protobuf => {
            EventRecord { event: bytes.clone(), hash: hash.to_vec(), ..of(chain) }.encode_to_vec()
        }
        Format::Json => json_value(stored),
    };
    Record { key, headers, value }
}

/// The record of a finding. The same finding has the same `ce_id`, however often it is told.
pub fn encode_finding(finding: &Finding, format: Format) -> Record {
    let Finding { chain, event_type, from, to, nanos } = finding;
    let key = chain_key(chain);
    let id = format!("{event_type}/{key}/{from}-{to}");
    let value = match format {
        Format::Protobuf => {
            let (event_type, from_seq, to_seq) = ((*event_type).into(), *from, *to);
            let problem = FoundProblem { event_type, from_seq, to_seq, found_unix_nanos: *nanos };
            EventRecord { finding: Some(problem), ..of(chain) }.encode_to_vec()
        }
        Format::Json => {
            let mut envelope = finding_envelope(finding);
            if let Some(chain) = envelope.pointer_mut("/payload/chain").and_then(Value::as_object_mut) {
                chain.insert("found_unix_nanos".into(), nanos.to_string().into());
            }
            envelope.to_string().into_bytes()
        }
    };
    Record { headers: attributes(chain, id, event_type, *nanos, format), key, value }
}

fn of(chain: &ChainName) -> EventRecord {
    let ChainName { proxy, worker, epoch } = chain;
    EventRecord { proxy: proxy.clone(), worker: *worker, epoch: *epoch, ..EventRecord::default() }
}

fn attributes(
    chain: &ChainName,
    id: String,
    kind: &str,
    nanos: u64,
    format: Format,
) -> Vec<(&'static str, String)> {
    let mut headers = Vec::with_capacity(7);
    headers.extend([
        ("ce_specversion", "1.0".into()),
        ("ce_id", id),
        ("ce_type", kind.into()),
        ("ce_source", source(&chain.proxy)),
        ("ce_time", timestamp(nanos)),
        ("content-type", format.content_type().into()),
    ]);
    headers
}

/// A URI reference, as CloudEvents wants it.
fn source(proxy: &str) -> String {
    let mut source = String::with_capacity(11 + proxy.len());
    source.push_str("/sallyport/");
    for byte in proxy.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            source.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(source, "%{byte:02X}");
        }
    }
    source
}

/// The trace's context: its id, and the event as the span that tells of it, since the request's own span is not recorded.
fn traceparent(trace_id: &str, event_id: &[u8]) -> Option<String> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_valid =
        trace_id.len() == 32 && trace_id.bytes().all(is_hex) && trace_id.bytes().any(|b| b != b'0');
    let span = event_id.last_chunk::<8>().filter(|span| span.iter().any(|byte| *byte != 0));
    let span = u64::from_be_bytes(*span?);
    is_valid.then(|| format!("00-{trace_id}-{span:016x}-00"))
}

/// The envelope, which rounds and leaves out, with the bytes that do not.
fn json_value(stored: &StoredEvent) -> Vec<u8> {
    let StoredEvent { chain, bytes, hash, event } = stored;
    let mut envelope = envelope(chain, hash, event);
    let encoded = Value::from(BASE64_STANDARD.encode(bytes));
    let ours = envelope.get_mut("payload").and_then(Value::as_object_mut);
    match ours.and_then(|payload| payload.get_mut("chain")).and_then(Value::as_object_mut) {
        Some(ours) => {
            ours.insert(BYTES.into(), encoded);
        }
        None => {
            if let Some(envelope) = envelope.as_object_mut() {
                let (proxy, worker, epoch) = (&chain.proxy, chain.worker, chain.epoch.to_string());
                let hash = hex::text(hash);
                let ours = json!({
                    "proxy": proxy, "worker": worker, "epoch": epoch, "seq": event.seq, "hash": hash, BYTES: encoded,
                });
                envelope.insert("chain".into(), ours);
            }
        }
    }
    envelope.to_string().into_bytes()
}

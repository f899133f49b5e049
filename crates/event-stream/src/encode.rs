//! From events to records. Pure.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use sallyport_audit_proto::v1::{EventRecord, FoundProblem};
use sallyport_audit_proto::view::EventView;
use sallyport_audit_proto::writer::event_record;
use sallyport_audit_proto::{event_id, hex};
use sallyport_event_store::{
    ChainName, Finding, StoredEvent, envelope, event_type, finding_envelope, timestamp,
};
use serde_json::{Value, json};

use crate::record::{Format, Record, chain_key};

/// Member of the envelope's `payload.chain` (or, where the payload is no object, of `chain`) that has the exact bytes.
pub(crate) const BYTES: &str = "event";

/// Writes the records of one chain; what all of them have in common is made once.
#[derive(Debug)]
pub struct Encoder<'c> {
    chain: &'c ChainName,
    format: Format,
    key: String,
    source: String,
}

impl<'c> Encoder<'c> {
    /// For events and findings of `chain`.
    pub fn of(chain: &'c ChainName, format: Format) -> Self {
        Self { chain, format, key: chain_key(chain), source: source(&chain.proxy) }
    }

    /// The record of an event.
    pub fn event<'r>(&'r self, stored: &'r StoredEvent) -> Record<'r> {
        let StoredEvent { bytes, hash, .. } = stored;
        let event = stored.view();
        let id = <[u8; 16]>::try_from(event.event_id)
            .map_or_else(|_| format!("{}/{}", self.key, event.seq), |id| event_id::text(&id));
        let mut headers = self.attributes(id, event_type(&event), event.time_unix_nanos);
        if let Some(traceparent) = traceparent(event.trace_id, event.event_id) {
            headers.push(("traceparent", traceparent.into()));
        }
        let value = match self.format {
            Format::Protobuf => {
                let ChainName { proxy, worker, epoch } = self.chain;
                event_record(proxy, *worker, *epoch, bytes, hash)
            }
            Format::Json => json_value(stored, &event),
        };
        Record { key: self.key.as_str().into(), headers, value }
    }

    /// The record of a finding. The same finding has the same `ce_id`, however often it is told.
    pub fn finding(&self, finding: &Finding) -> Record<'_> {
        let Finding { event_type, from, to, nanos, .. } = finding;
        let id = format!("{event_type}/{}/{from}-{to}", self.key);
        let value = match self.format {
            Format::Protobuf => {
                let ChainName { proxy, worker, epoch } = self.chain;
                let (event_type, from_seq, to_seq) = ((*event_type).into(), *from, *to);
                let problem = FoundProblem { event_type, from_seq, to_seq, found_unix_nanos: *nanos };
                let (proxy, worker, epoch, finding) = (proxy.clone(), *worker, *epoch, Some(problem));
                EventRecord { proxy, worker, epoch, finding, ..EventRecord::default() }.encode_to_vec()
            }
            Format::Json => {
                let mut envelope = finding_envelope(finding);
                if let Some(chain) = envelope.pointer_mut("/payload/chain").and_then(Value::as_object_mut) {
                    chain.insert("found_unix_nanos".into(), nanos.to_string().into());
                }
                envelope.to_string().into_bytes()
            }
        };
        let headers = self.attributes(id, event_type, *nanos);
        Record { key: self.key.as_str().into(), headers, value }
    }

    fn attributes<'r>(&'r self, id: String, kind: &'r str, nanos: u64) -> Vec<(&'static str, Cow<'r, str>)> {
        let mut headers = Vec::with_capacity(7);
        headers.extend([
            ("ce_specversion", "1.0".into()),
            ("ce_id", id.into()),
            ("ce_type", kind.into()),
            ("ce_source", self.source.as_str().into()),
            ("ce_time", timestamp(nanos).into()),
            ("content-type", self.format.content_type().into()),
        ]);
        headers
    }
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
fn json_value(stored: &StoredEvent, event: &EventView<'_>) -> Vec<u8> {
    let StoredEvent { chain, bytes, hash, .. } = stored;
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

//! Events as JSON envelopes: `timestamp, trace_id, source, event_type, payload`.

use std::borrow::Cow;

use sallyport_audit_proto::v1::Phase;
use sallyport_audit_proto::view::EventView;
use sallyport_audit_proto::{event_id, hex};
use serde_json::{Value, json};

use crate::model::{ChainName, Finding};

/// Type of events about requests.
pub(crate) const REQUEST: &str = "mcp.request";

/// Type of an event: `mcp.request`, or what another program called its own.
pub fn event_type<'e>(event: &EventView<'e>) -> &'e str {
    if event.source.is_empty() { REQUEST } else { event.event_type }
}

/// Source of a server's events, or the other program that sent it.
pub fn source<'e>(event: &EventView<'e>) -> Cow<'e, str> {
    if !event.source.is_empty() {
        event.source.into()
    } else if event.server.is_empty() {
        "gateway".into()
    } else {
        format!("{}-gateway", event.server).into()
    }
}

/// `allow` or `deny`; an outcome told after its verdict has none of its own.
pub fn decision(event: &EventView<'_>) -> Option<&'static str> {
    if !event.source.is_empty() {
        let payload: Option<Value> = serde_json::from_slice(event.payload).ok();
        let told = payload.as_ref()?.get("decision")?.as_str()?;
        return ["allow", "deny"].into_iter().find(|known| *known == told);
    }
    match event.phase() {
        Phase::Outcome => None,
        Phase::Complete | Phase::Decision | Phase::Unspecified => {
            Some(if event.allowed { "allow" } else { "deny" })
        }
    }
}

/// What of a request the event tells: `decision`, `outcome`, or `complete` for both.
pub fn phase(event: &EventView<'_>) -> &'static str {
    match event.phase() {
        Phase::Complete | Phase::Unspecified => "complete",
        Phase::Decision => "decision",
        Phase::Outcome => "outcome",
    }
}

/// RFC 3339 with nanoseconds, of nanoseconds since 1970.
pub fn timestamp(nanos: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}

fn json_or_text(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into())
}

/// The envelope of an event. Empty fields are left out.
pub fn envelope(chain: &ChainName, hash: &[u8], event: &EventView<'_>) -> Value {
    // Nothing in it can fail to be JSON.
    serde_json::to_value(members(chain, hash, event)).unwrap_or_default()
}

/// The same as text, without the value in between: names stand in their order, as they do in a value's text.
pub fn envelope_text(chain: &ChainName, hash: &[u8], event: &EventView<'_>) -> String {
    serde_json::to_string(&members(chain, hash, event)).unwrap_or_default()
}

fn members<'e>(chain: &'e ChainName, hash: &[u8], event: &EventView<'e>) -> Object<'e> {
    let mut place = Object::with_room(6);
    place.put("proxy", Cell::Text(&chain.proxy));
    place.put("worker", Cell::Number(chain.worker.into()));
    place.put("epoch", Cell::Made(chain.epoch.to_string()));
    place.put("seq", Cell::Number(event.seq));
    place.put("prev_hash", Cell::Made(hex::text(event.prev_hash)));
    place.put("hash", Cell::Made(hex::text(hash)));
    let place = Cell::Object(place.in_order());
    let payload = if event.source.is_empty() {
        let mut payload = request(event);
        payload.put("chain", place);
        Cell::Object(payload.in_order())
    } else {
        let mut payload: Value = serde_json::from_slice(event.payload).unwrap_or_default();
        if let Some(payload) = payload.as_object_mut() {
            payload.insert("chain".into(), serde_json::to_value(place).unwrap_or_default());
        }
        Cell::Json(payload)
    };
    let mut envelope = Object::with_room(5);
    envelope.put("timestamp", Cell::Made(timestamp(event.time_unix_nanos)));
    envelope.put("source", Cell::Made(source(event).into_owned()));
    envelope.put("event_type", Cell::Text(event_type(event)));
    envelope.put("payload", payload);
    envelope.put_text("trace_id", event.trace_id);
    envelope.in_order()
}

/// Members of an envelope, borrowed from their event as far as they can be.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum Cell<'e> {
    Text(&'e str),
    Made(String),
    Number(u64),
    Flag(bool),
    Json(Value),
    Object(Object<'e>),
}

struct Object<'e>(Vec<(&'static str, Cell<'e>)>);

impl<'e> Object<'e> {
    fn with_room(members: usize) -> Self {
        Self(Vec::with_capacity(members))
    }

    fn put(&mut self, name: &'static str, cell: Cell<'e>) {
        self.0.push((name, cell));
    }

    /// Nothing where there is no text.
    fn put_text(&mut self, name: &'static str, text: &'e str) {
        if !text.is_empty() {
            self.put(name, Cell::Text(text));
        }
    }

    fn in_order(mut self) -> Self {
        self.0.sort_unstable_by_key(|(name, _)| *name);
        self
    }
}

impl serde::Serialize for Object<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, cell)| (name, cell)))
    }
}

/// The envelope of something that is wrong with a chain.
pub fn finding_envelope(finding: &Finding) -> Value {
    let chain = &finding.chain;
    json!({
        "timestamp": timestamp(finding.nanos), "source": "ingest", "event_type": finding.event_type,
        "payload": { "reason": finding.reason(), "missing": finding.missing(),
                     "chain": { "proxy": chain.proxy, "worker": chain.worker, "epoch": chain.epoch.to_string(),
                                "from": finding.from, "to": finding.to } },
    })
}

/// What events are searched by, by the name of its column, as an event has it; `source` is what [`source`] says.
pub(crate) fn columns<'e>(event: &EventView<'e>, source: &'e str) -> [(&'static str, &'e str); 14] {
    [
        ("source", source),
        ("event_type", event_type(event)),
        ("trace_id", event.trace_id),
        ("server", event.server),
        ("namespace", event.namespace),
        ("team_id", event.team_id),
        ("cluster", event.cluster),
        ("human_id", event.human_id),
        ("agent_id", event.agent_id),
        ("session_id", event.session_id),
        ("decision", decision(event).unwrap_or_default()),
        ("reason", event.reason),
        ("tool_name", event.tool_name),
        ("rpc_method", event.rpc_method),
    ]
}

/// The payload of a proxy's event.
fn request<'e>(event: &EventView<'e>) -> Object<'e> {
    let mut payload = Object::with_room(48);
    if let Ok(id) = <[u8; 16]>::try_from(event.event_id) {
        payload.put("event_id", Cell::Made(event_id::text(&id)));
    }
    let texts = [
        ("phase", phase(event)),
        ("method", event.http_method),
        ("path", event.path),
        ("server", event.server),
        ("namespace", event.namespace),
        ("team_id", event.team_id),
        ("cluster", event.cluster),
        ("rollout_track", event.rollout_track),
        ("human_id", event.human_id),
        ("agent_id", event.agent_id),
        ("subject_team_id", event.subject_team_id),
        ("session_id", event.session_id),
        ("decision", decision(event).unwrap_or_default()),
        ("reason", event.reason),
        ("would_deny", event.would_deny),
        ("policy_version", event.policy_version),
        ("rpc_method", event.rpc_method),
        ("rpc_id", event.rpc_id),
        ("tool_name", event.tool_name),
        ("target", event.target),
        ("era", event.era),
        ("protocol_version", event.protocol_version),
        ("mcp_session_id", event.mcp_session_id),
        ("required_trust", event.required_trust),
        ("admin_trust", event.admin_trust),
        ("consented_trust", event.consented_trust),
        ("effective_trust", event.effective_trust),
        ("required_side_effect", event.required_side_effect),
        ("risk_level", event.risk_level),
    ];
    texts.into_iter().for_each(|(name, text)| payload.put_text(name, text));
    for (field, namespace_field, reference) in [
        ("matched_grant", "matched_grant_namespace", event.matched_grant),
        ("matched_session", "matched_session_namespace", event.matched_session),
    ] {
        if let Some((namespace, name)) = reference.split_once('/') {
            payload.put(field, Cell::Text(name));
            payload.put(namespace_field, Cell::Text(namespace));
        }
    }
    if !event.arguments_digest.is_empty() {
        payload.put("arguments_digest", Cell::Made(hex::text(event.arguments_digest)));
    }
    if !event.arguments.is_empty() {
        payload.put("arguments", Cell::Json(json_or_text(event.arguments)));
    }
    put_outcome(&mut payload, event);
    if event.decision_seq > 0 {
        payload.put("decision_seq", Cell::Number(event.decision_seq));
    }
    payload.put("bytes_in", Cell::Number(event.bytes_in));
    payload
}

fn put_outcome(payload: &mut Object<'_>, event: &EventView<'_>) {
    if event.phase() != Phase::Decision {
        payload.put("status", Cell::Number(event.status.into()));
        payload.put("latency_ms", Cell::Number(event.latency_micros / 1000));
        payload.put("latency_us", Cell::Number(event.latency_micros));
        payload.put("bytes_out", Cell::Number(event.bytes_out));
    }
    if event.cut {
        payload.put("cut", Cell::Flag(true));
    }
}

#[cfg(test)]
mod tests {
    use sallyport_audit_proto::v1::AuditEvent;

    use super::*;

    #[test]
    fn the_text_is_that_of_the_value_whatever_the_event_has() {
        let chain = ChainName { proxy: "edge \"1\"".into(), worker: 3, epoch: u64::MAX };
        let full = AuditEvent {
            seq: 7,
            prev_hash: vec![0xa5; 32],
            time_unix_nanos: 1_900_000_000_123_456_789,
            event_id: vec![1; 16],
            server: "pay".into(),
            path: "/pay/mcp?a=\u{1}\u{e4}".into(),
            matched_grant: "ns/ops".into(),
            matched_session: "ns/sess".into(),
            arguments_digest: vec![9; 32],
            arguments: br#"{"b": 1.50, "a": null}"#.to_vec(),
            trace_id: "4bf9".into(),
            decision_seq: 6,
            cut: true,
            ..AuditEvent::default()
        };
        let foreign = AuditEvent {
            source: "billing".into(),
            event_type: "x".into(),
            payload: br#"{"z": 1, "chain": "theirs", "a": [2]}"#.to_vec(),
            ..AuditEvent::default()
        };
        let list = AuditEvent { payload: b"[1]".to_vec(), ..foreign.clone() };
        for event in [AuditEvent::default(), full, foreign, list] {
            let view = EventView::from(&event);
            let value = envelope(&chain, &[0x0f; 32], &view);
            assert_eq!(envelope_text(&chain, &[0x0f; 32], &view), value.to_string());
        }
    }
}

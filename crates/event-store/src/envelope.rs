//! Events as JSON envelopes: `timestamp, trace_id, source, event_type, payload`.

use sallyport_audit_proto::event_id;
use sallyport_audit_proto::v1::{AuditEvent, Phase};
use serde_json::{Map, Value, json};

use crate::model::{ChainName, Finding};

/// Type of events about requests.
pub(crate) const REQUEST: &str = "mcp.request";

/// Type of an event: `mcp.request`, or what another program called its own.
pub fn event_type(event: &AuditEvent) -> &str {
    if event.source.is_empty() { REQUEST } else { &event.event_type }
}

/// Source of a server's events, or the other program that sent it.
pub fn source(event: &AuditEvent) -> String {
    if !event.source.is_empty() {
        event.source.clone()
    } else if event.server.is_empty() {
        "gateway".into()
    } else {
        format!("{}-gateway", event.server)
    }
}

/// `allow` or `deny`; an outcome told after its verdict has none of its own.
pub fn decision(event: &AuditEvent) -> Option<&'static str> {
    if !event.source.is_empty() {
        let payload: Option<Value> = serde_json::from_slice(&event.payload).ok();
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

/// RFC 3339 with nanoseconds, of nanoseconds since 1970.
pub fn timestamp(nanos: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.9}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn json_or_text(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into())
}

fn insert_outcome(payload: &mut Map<String, Value>, event: &AuditEvent) {
    if event.phase() != Phase::Decision {
        payload.insert("status".into(), event.status.into());
        payload.insert("latency_ms".into(), (event.latency_micros / 1000).into());
        payload.insert("latency_us".into(), event.latency_micros.into());
        payload.insert("bytes_out".into(), event.bytes_out.into());
    }
    if event.cut {
        payload.insert("cut".into(), true.into());
    }
}

/// The envelope of an event. Empty fields are left out.
pub fn envelope(chain: &ChainName, hash: &[u8], event: &AuditEvent) -> Value {
    let mut payload = if event.source.is_empty() {
        Value::Object(request(event))
    } else {
        serde_json::from_slice(&event.payload).unwrap_or(Value::Null)
    };
    if let Some(payload) = payload.as_object_mut() {
        payload.insert(
            "chain".into(),
            json!({
                "proxy": chain.proxy, "worker": chain.worker, "epoch": chain.epoch.to_string(), "seq": event.seq,
                "prev_hash": hex(&event.prev_hash), "hash": hex(hash),
            }),
        );
    }
    let mut envelope = json!({
        "timestamp": timestamp(event.time_unix_nanos), "source": source(event), "event_type": event_type(event),
        "payload": payload,
    });
    if let Some(object) = envelope.as_object_mut().filter(|_| !event.trace_id.is_empty()) {
        object.insert("trace_id".into(), event.trace_id.as_str().into());
    }
    envelope
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
pub(crate) fn columns<'a>(event: &'a AuditEvent, source: &'a str) -> [(&'static str, &'a str); 14] {
    [
        ("source", source),
        ("event_type", event_type(event)),
        ("trace_id", &event.trace_id),
        ("server", &event.server),
        ("namespace", &event.namespace),
        ("team_id", &event.team_id),
        ("cluster", &event.cluster),
        ("human_id", &event.human_id),
        ("agent_id", &event.agent_id),
        ("session_id", &event.session_id),
        ("decision", decision(event).unwrap_or_default()),
        ("reason", &event.reason),
        ("tool_name", &event.tool_name),
        ("rpc_method", &event.rpc_method),
    ]
}

/// The payload of a proxy's event.
fn request(event: &AuditEvent) -> Map<String, Value> {
    let id =
        <[u8; 16]>::try_from(event.event_id.as_slice()).map(|id| event_id::text(&id)).unwrap_or_default();
    let phase = match event.phase() {
        Phase::Complete | Phase::Unspecified => "complete",
        Phase::Decision => "decision",
        Phase::Outcome => "outcome",
    };
    let texts = [
        ("event_id", id.as_str()),
        ("phase", phase),
        ("method", &event.http_method),
        ("path", &event.path),
        ("server", &event.server),
        ("namespace", &event.namespace),
        ("team_id", &event.team_id),
        ("cluster", &event.cluster),
        ("rollout_track", &event.rollout_track),
        ("human_id", &event.human_id),
        ("agent_id", &event.agent_id),
        ("subject_team_id", &event.subject_team_id),
        ("session_id", &event.session_id),
        ("decision", decision(event).unwrap_or_default()),
        ("reason", &event.reason),
        ("would_deny", &event.would_deny),
        ("policy_version", &event.policy_version),
        ("rpc_method", &event.rpc_method),
        ("rpc_id", &event.rpc_id),
        ("tool_name", &event.tool_name),
        ("target", &event.target),
        ("era", &event.era),
        ("protocol_version", &event.protocol_version),
        ("mcp_session_id", &event.mcp_session_id),
        ("required_trust", &event.required_trust),
        ("admin_trust", &event.admin_trust),
        ("consented_trust", &event.consented_trust),
        ("effective_trust", &event.effective_trust),
        ("required_side_effect", &event.required_side_effect),
        ("risk_level", &event.risk_level),
    ];
    let mut payload: Map<String, Value> = texts
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name.into(), text.into()))
        .collect();
    for (field, reference) in
        [("matched_grant", &event.matched_grant), ("matched_session", &event.matched_session)]
    {
        if let Some((namespace, name)) = reference.split_once('/') {
            payload.insert(field.into(), name.into());
            payload.insert(format!("{field}_namespace"), namespace.into());
        }
    }
    if !event.arguments_digest.is_empty() {
        payload.insert("arguments_digest".into(), hex(&event.arguments_digest).into());
    }
    if !event.arguments.is_empty() {
        payload.insert("arguments".into(), json_or_text(&event.arguments));
    }
    insert_outcome(&mut payload, event);
    if event.decision_seq > 0 {
        payload.insert("decision_seq".into(), event.decision_seq.into());
    }
    payload.insert("bytes_in".into(), event.bytes_in.into());
    payload
}

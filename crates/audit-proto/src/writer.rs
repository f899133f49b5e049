//! Events written field by field into a buffer, without building the message first.
//!
//! A request's record must cost next to nothing, and its parts become known at different times: verdict, outcome,
//! place in the chain. Protobuf takes fields in any order, so each part is appended when it is there. A test holds
//! the numbers here to those of the `.proto` file.

use alloc::vec::Vec;

use prost::encoding::encode_varint;

macro_rules! fields {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal;)+) => {
        $(
            #[doc = concat!("Number of the field `", stringify!($name), "` of `AuditEvent`.")]
            $(#[doc = $doc])*
            pub const $name: u32 = $number;
        )+
    };
}

fields! {
    SEQ = 1; PREV_HASH = 2; PHASE = 3; TIME_UNIX_NANOS = 4; EVENT_ID = 5; DECISION_SEQ = 6; DROPPED_BEFORE = 7;
    SERVER = 10; NAMESPACE = 11; TEAM_ID = 12; CLUSTER = 13; ROLLOUT_TRACK = 14;
    HUMAN_ID = 20; AGENT_ID = 21; SUBJECT_TEAM_ID = 22; SESSION_ID = 23;
    HTTP_METHOD = 30; PATH = 31; RPC_METHOD = 32; TOOL_NAME = 33; TARGET = 34; RPC_ID = 35; ERA = 36;
    PROTOCOL_VERSION = 37; ARGUMENTS_DIGEST = 38; TRACE_ID = 39; MCP_SESSION_ID = 40; ARGUMENTS = 41;
    ALLOWED = 50; REASON = 51; WOULD_DENY = 52; POLICY_VERSION = 53; REQUIRED_TRUST = 54; ADMIN_TRUST = 55;
    CONSENTED_TRUST = 56; EFFECTIVE_TRUST = 57; REQUIRED_SIDE_EFFECT = 58; RISK_LEVEL = 59; MATCHED_GRANT = 60;
    MATCHED_SESSION = 61;
    STATUS = 70; LATENCY_MICROS = 71; BYTES_IN = 72; BYTES_OUT = 73; CUT = 74;
}

const VARINT: u32 = 0;
const SIXTY_FOUR_BIT: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

/// Appends fields; values that protobuf leaves out (empty, zero, false) are left out.
#[derive(Debug)]
pub struct EventWriter<'a> {
    event: &'a mut Vec<u8>,
}

impl<'a> EventWriter<'a> {
    /// Appends to `event`.
    pub fn new(event: &'a mut Vec<u8>) -> Self {
        Self { event }
    }

    /// A text.
    pub fn str(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// Bytes.
    pub fn bytes(self, field: u32, value: &[u8]) -> Self {
        if !value.is_empty() {
            delimited(self.event, field, value);
        }
        self
    }

    /// Two texts with a slash between them.
    pub fn pair(self, field: u32, first: &str, second: &str) -> Self {
        key(self.event, field, LENGTH_DELIMITED);
        let length = first.len().saturating_add(second.len()).saturating_add(1);
        encode_varint(u64::try_from(length).unwrap_or(u64::MAX), self.event);
        self.event.extend_from_slice(first.as_bytes());
        self.event.push(b'/');
        self.event.extend_from_slice(second.as_bytes());
        self
    }

    /// A number.
    pub fn u64(self, field: u32, value: u64) -> Self {
        if value != 0 {
            key(self.event, field, VARINT);
            encode_varint(value, self.event);
        }
        self
    }

    /// A number that takes eight bytes whatever it is.
    pub fn fixed64(self, field: u32, value: u64) -> Self {
        if value != 0 {
            key(self.event, field, SIXTY_FOUR_BIT);
            self.event.extend_from_slice(&value.to_le_bytes());
        }
        self
    }

    /// A truth value.
    pub fn bool(self, field: u32, value: bool) -> Self {
        self.u64(field, u64::from(value))
    }
}

fn key(buffer: &mut Vec<u8>, field: u32, wire_type: u32) {
    encode_varint(u64::from((field << 3) | wire_type), buffer);
}

fn delimited(buffer: &mut Vec<u8>, field: u32, value: &[u8]) {
    key(buffer, field, LENGTH_DELIMITED);
    encode_varint(u64::try_from(value.len()).unwrap_or(u64::MAX), buffer);
    buffer.extend_from_slice(value);
}

/// An encoded `EventRecord` around an event that is encoded already; `hash` is that of its bytes.
pub fn event_record(proxy: &str, worker: u32, epoch: u64, event: &[u8], hash: &[u8]) -> Vec<u8> {
    let size = proxy.len().saturating_add(event.len()).saturating_add(hash.len());
    let mut record = Vec::with_capacity(size.saturating_add(40));
    EventWriter::new(&mut record)
        .str(1, proxy)
        .u64(2, u64::from(worker))
        .fixed64(3, epoch)
        .bytes(4, event)
        .bytes(5, hash);
    record
}

/// An encoded `EmitRequest` around events that are encoded already.
pub fn emit_request<'e>(
    proxy: &str,
    worker: u32,
    epoch: u64,
    events: impl Iterator<Item = &'e [u8]> + Clone,
    dropped_total: u64,
    last_seq: u64,
) -> Vec<u8> {
    let size: usize = events.clone().map(|event| event.len().saturating_add(8)).sum();
    let mut request = Vec::with_capacity(size.saturating_add(64));
    EventWriter::new(&mut request).str(1, proxy).u64(2, u64::from(worker)).u64(3, epoch);
    for event in events {
        delimited(&mut request, 4, event);
    }
    EventWriter::new(&mut request).u64(5, dropped_total).u64(6, last_seq);
    request
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use prost::Message;

    use super::*;
    use crate::v1::{AuditEvent, EmitRequest};

    #[test]
    #[expect(clippy::too_many_lines, reason = "one line per field")]
    fn every_field_is_read_as_it_was_written() {
        let text = |name: &str| name.to_string();
        let expected = AuditEvent {
            seq: 1,
            prev_hash: vec![2; 32],
            phase: 3,
            time_unix_nanos: 4,
            event_id: vec![5; 16],
            decision_seq: 6,
            dropped_before: 7,
            server: text("server"),
            namespace: text("namespace"),
            team_id: text("team_id"),
            cluster: text("cluster"),
            rollout_track: text("rollout_track"),
            human_id: text("human_id"),
            agent_id: text("agent_id"),
            subject_team_id: text("subject_team_id"),
            session_id: text("session_id"),
            http_method: text("http_method"),
            path: text("path"),
            rpc_method: text("rpc_method"),
            tool_name: text("tool_name"),
            target: text("target"),
            rpc_id: text("rpc_id"),
            era: text("era"),
            protocol_version: text("protocol_version"),
            arguments_digest: vec![38; 32],
            trace_id: text("trace_id"),
            mcp_session_id: text("mcp_session_id"),
            arguments: b"{}".to_vec(),
            allowed: true,
            reason: text("reason"),
            would_deny: text("would_deny"),
            policy_version: text("policy_version"),
            required_trust: text("required_trust"),
            admin_trust: text("admin_trust"),
            consented_trust: text("consented_trust"),
            effective_trust: text("effective_trust"),
            required_side_effect: text("required_side_effect"),
            risk_level: text("risk_level"),
            matched_grant: text("ns/grant"),
            matched_session: text("ns/session"),
            status: 70,
            latency_micros: 71,
            bytes_in: 72,
            bytes_out: 73,
            cut: true,
            ..AuditEvent::default()
        };
        let mut bytes = vec![];
        EventWriter::new(&mut bytes)
            .u64(SEQ, 1)
            .bytes(PREV_HASH, &[2; 32])
            .u64(PHASE, 3)
            .u64(TIME_UNIX_NANOS, 4)
            .bytes(EVENT_ID, &[5; 16])
            .u64(DECISION_SEQ, 6)
            .u64(DROPPED_BEFORE, 7)
            .str(SERVER, "server")
            .str(NAMESPACE, "namespace")
            .str(TEAM_ID, "team_id")
            .str(CLUSTER, "cluster")
            .str(ROLLOUT_TRACK, "rollout_track")
            .str(HUMAN_ID, "human_id")
            .str(AGENT_ID, "agent_id")
            .str(SUBJECT_TEAM_ID, "subject_team_id")
            .str(SESSION_ID, "session_id")
            .str(HTTP_METHOD, "http_method")
            .str(PATH, "path")
            .str(RPC_METHOD, "rpc_method")
            .str(TOOL_NAME, "tool_name")
            .str(TARGET, "target")
            .str(RPC_ID, "rpc_id")
            .str(ERA, "era")
            .str(PROTOCOL_VERSION, "protocol_version")
            .bytes(ARGUMENTS_DIGEST, &[38; 32])
            .str(TRACE_ID, "trace_id")
            .str(MCP_SESSION_ID, "mcp_session_id")
            .str(ARGUMENTS, "{}")
            .bool(ALLOWED, true)
            .str(REASON, "reason")
            .str(WOULD_DENY, "would_deny")
            .str(POLICY_VERSION, "policy_version")
            .str(REQUIRED_TRUST, "required_trust")
            .str(ADMIN_TRUST, "admin_trust")
            .str(CONSENTED_TRUST, "consented_trust")
            .str(EFFECTIVE_TRUST, "effective_trust")
            .str(REQUIRED_SIDE_EFFECT, "required_side_effect")
            .str(RISK_LEVEL, "risk_level")
            .pair(MATCHED_GRANT, "ns", "grant")
            .pair(MATCHED_SESSION, "ns", "session")
            .u64(STATUS, 70)
            .u64(LATENCY_MICROS, 71)
            .u64(BYTES_IN, 72)
            .u64(BYTES_OUT, 73)
            .bool(CUT, true);
        assert_eq!(AuditEvent::decode(bytes.as_slice()).unwrap(), expected);
    }

    #[test]
    fn a_request_carries_its_events_as_they_are() {
        let events: [&[u8]; 2] = [b"one", b"two"];
        let bytes = emit_request("p", 3, 4, events.into_iter(), 5, 6);
        let expected = EmitRequest {
            proxy: "p".to_string(),
            worker: 3,
            epoch: 4,
            events: vec![b"one".to_vec(), b"two".to_vec()],
            dropped_total: 5,
            last_seq: 6,
        };
        assert_eq!(EmitRequest::decode(bytes.as_slice()).unwrap(), expected);
    }
}

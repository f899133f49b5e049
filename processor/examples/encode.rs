//! What decoding a record and encoding its row cost, without Kafka and without ClickHouse.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::time::Instant;

use prost::Message;
use sallyport_audit_proto::v1::{AuditEvent, Phase};
use sallyport_event_store::{Block, ChainName, StoredEvent};
use sallyport_event_stream::{Encoder, Format, Told, read};

const EVENTS: u64 = 200_000;

fn event(seq: u64) -> StoredEvent {
    let text = |name: &str| format!("{name}-{}", seq % 97);
    let event = AuditEvent {
        seq,
        prev_hash: vec![7; 32],
        phase: Phase::Complete.into(),
        time_unix_nanos: 1_900_000_000_000_000_000 + seq,
        event_id: vec![9; 16],
        server: text("server"),
        namespace: "payments".into(),
        team_id: "team-payments".into(),
        human_id: text("user"),
        agent_id: "ops-agent".into(),
        session_id: text("session"),
        http_method: "POST".into(),
        path: "/payments/mcp".into(),
        rpc_method: "tools/call".into(),
        tool_name: text("tool"),
        rpc_id: seq.to_string(),
        arguments_digest: vec![3; 32],
        trace_id: format!("{seq:032x}"),
        allowed: true,
        reason: "allowed".into(),
        required_trust: "medium".into(),
        effective_trust: "high".into(),
        matched_grant: "payments/ops".into(),
        status: 200,
        latency_micros: 1200,
        bytes_out: 900,
        ..AuditEvent::default()
    };
    let bytes = event.encode_to_vec();
    let chain = ChainName { proxy: "bench".into(), worker: 0, epoch: 1 };
    let hash = sallyport_audit_proto::chain::hash(&bytes);
    StoredEvent::read(chain, bytes, hash).unwrap()
}

fn main() {
    let events: Vec<_> = (1..=EVENTS).map(event).collect();
    let chain = ChainName { proxy: "bench".into(), worker: 0, epoch: 1 };
    let encoder = Encoder::of(&chain, Format::Protobuf);
    let began = Instant::now();
    let records: Vec<_> = events.iter().map(|event| encoder.event(event)).collect();
    let writing = began.elapsed();
    let value_bytes = records.iter().map(|record| record.value.len()).sum::<usize>();
    let per_event = |began: Instant| began.elapsed().as_secs_f64() * 1e6 / EVENTS as f64;
    let began = Instant::now();
    let mut block = Block::default();
    for record in &records {
        let row = |told: Told<'_>| {
            if let Told::Event { chain, bytes, hash, event } = told {
                block.push_event(&chain, bytes, &hash, &event);
            }
        };
        read(|| None, &record.value, row).unwrap();
    }
    let reading = per_event(began);
    println!(
        "records of {} bytes: writing {:.2} µs, reading into rows of {} bytes {reading:.2} µs, {:.0} events/s on one core",
        value_bytes as u64 / EVENTS,
        writing.as_secs_f64() * 1e6 / EVENTS as f64,
        block.bytes() as u64 / EVENTS,
        1e6 / reading,
    );
}

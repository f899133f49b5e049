//! Writes events of a proxy to a topic, as the ingest does: `fill BROKERS TOPIC COUNT CHAINS`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for benchmarks")]

use std::time::{Instant, SystemTime};

use prost::Message;
use sallyport_audit_proto::v1::{AuditEvent, Phase};
use sallyport_event_store::{ChainName, StoredEvent};
use sallyport_event_stream::{Encoder, Flight, Format, Producer, Settings};

/// Records that are under way at once.
const WINDOW: u64 = 100_000;

fn event(chain: &ChainName, seq: u64, nanos: u64) -> StoredEvent {
    let event = AuditEvent {
        seq,
        prev_hash: vec![7; 32],
        phase: Phase::Complete.into(),
        time_unix_nanos: nanos + seq * 1000,
        event_id: (nanos + seq).to_be_bytes().repeat(2),
        server: format!("server-{}", chain.worker % 20),
        namespace: "payments".into(),
        team_id: "team-payments".into(),
        cluster: "local".into(),
        human_id: format!("user-{}", seq % 997),
        agent_id: "ops-agent".into(),
        subject_team_id: "team-ops".into(),
        session_id: format!("session-{}", seq % 997),
        http_method: "POST".into(),
        path: "/payments/mcp".into(),
        rpc_method: "tools/call".into(),
        tool_name: format!("tool-{}", seq % 7),
        rpc_id: seq.to_string(),
        era: "modern".into(),
        arguments_digest: vec![3; 32],
        trace_id: format!("{:032x}", u128::from(seq) * 7919),
        allowed: !seq.is_multiple_of(10),
        reason: if seq.is_multiple_of(10) { "trust_too_low" } else { "allowed" }.into(),
        policy_version: "v1".into(),
        required_trust: "medium".into(),
        effective_trust: "high".into(),
        required_side_effect: "read".into(),
        matched_grant: "payments/ops".into(),
        status: 200,
        latency_micros: 1200 + seq % 5000,
        bytes_in: 180,
        bytes_out: 900,
        ..AuditEvent::default()
    };
    let bytes = event.encode_to_vec();
    let hash = sallyport_audit_proto::chain::hash(&bytes);
    StoredEvent::read(chain.clone(), bytes, hash).unwrap()
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, count, chains] = arguments.as_slice() else {
        println!("fill BROKERS TOPIC COUNT CHAINS");
        return;
    };
    let (count, chains): (u64, u32) = (count.parse().unwrap(), chains.parse().unwrap());
    let producer = Producer::open(&Settings::read(brokers, None).unwrap().producer()).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let nanos = u64::try_from(now.as_nanos()).unwrap();
    let names: Vec<ChainName> =
        (0..chains).map(|worker| ChainName { proxy: "bench".into(), worker, epoch: nanos }).collect();
    let (began, mut bytes, mut sent) = (Instant::now(), 0, 0);
    while sent < count {
        let flight = Flight::new();
        for number in sent..count.min(sent + WINDOW) {
            // As a proxy sends them: some hundred of a chain together.
            let chain = &names[usize::try_from(number / 256 % u64::from(chains)).unwrap()];
            let seq = number / (256 * u64::from(chains)) * 256 + number % 256 + 1;
            let event = event(chain, seq, nanos);
            let encoder = Encoder::of(chain, Format::Protobuf);
            let record = encoder.event(&event);
            bytes += record.value.len();
            producer.send(topic, &record, &flight);
        }
        flight.land().await;
        assert!(flight.take_failed().is_empty());
        sent = count.min(sent + WINDOW);
    }
    println!("{sent} records of {} bytes in {:.1} s", bytes as u64 / sent, began.elapsed().as_secs_f64());
}

//! How fast a record is verified: `make bench-audit-verify`. One thread, events in memory; then the same through an export's
//! lines.
#![expect(clippy::print_stdout, reason = "a benchmark's output")]

use std::collections::BTreeMap;
use std::time::Instant;

use prost::Message;
use sallyport_audit_proof::{
    ChainId, Covers, Event, Line, PublicKey, Report, SealedHead, Sealer, SecretKey, Verifier, generate_pem,
};
use sallyport_audit_proto::chain;
use sallyport_audit_proto::v1::AuditEvent;

const CHAINS: u32 = 100;
const EVENTS: u64 = 10_000;
/// A checkpoint after so many events of each chain.
const SEALED: u64 = 100;

struct Row {
    chain: ChainId,
    seq: u64,
    hash: [u8; 32],
    bytes: Vec<u8>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = SecretKey::from_pem(generate_pem()?.as_bytes())?;
    let public = key.public();
    let rows = rows();
    let checkpoints = seal(key, &rows)?;
    let size = rows.iter().map(|row| row.bytes.len()).sum::<usize>() / rows.len();
    println!("{} events of {size} bytes, {CHAINS} chains, {} checkpoints", rows.len(), checkpoints.len());
    for round in 1..=3 {
        let began = Instant::now();
        let report = verify(&public, &checkpoints, &rows);
        told(&format!("events in memory, round {round}"), &report, began);
    }
    let lines: Vec<String> = rows.iter().map(|row| line(row).write()).collect();
    let began = Instant::now();
    let mut verifier = begin(&public, &checkpoints);
    for text in &lines {
        if let Line::Event { chain, seq, hash, bytes, .. } = Line::parse(text)? {
            verifier.event(Event { chain: &chain, seq, hash: &hash, bytes: &bytes, differs: None });
        }
    }
    told("lines of an export", &verifier.finish(), began);
    Ok(())
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for worker in 0..CHAINS {
        let chain = ChainId { proxy: "gateway".into(), worker, epoch: 1 };
        let mut before = chain::genesis(&chain.proxy, worker, chain.epoch);
        for seq in 1..=EVENTS {
            let bytes = event(seq, before).encode_to_vec();
            before = chain::hash(&bytes);
            rows.push(Row { chain: chain.clone(), seq, hash: before, bytes });
        }
    }
    rows
}

/// An event of the usual size.
fn event(seq: u64, prev_hash: [u8; 32]) -> AuditEvent {
    let text = |text: &str| text.to_string();
    AuditEvent {
        seq,
        prev_hash: prev_hash.to_vec(),
        phase: 1,
        time_unix_nanos: 1_800_000_000_000_000_000 + seq,
        event_id: vec![7; 16],
        server: text("payments"),
        namespace: text("team-payments"),
        team_id: text("payments"),
        cluster: text("eu-1"),
        human_id: text("user-123@example.com"),
        agent_id: text("ops-agent"),
        session_id: text("7b0c9a52-2f0e-4a60-8f6a-1d8a3c0a9d11"),
        http_method: text("POST"),
        path: text("/payments/mcp"),
        rpc_method: text("tools/call"),
        tool_name: text("transfer"),
        rpc_id: text("1"),
        era: text("modern"),
        protocol_version: text("2026-07-28"),
        arguments_digest: vec![9; 32],
        allowed: true,
        reason: text("allowed"),
        policy_version: text("5f2b9c1e"),
        matched_grant: text("team-payments/ops"),
        status: 200,
        latency_micros: 2100,
        bytes_in: 310,
        bytes_out: 900,
        ..AuditEvent::default()
    }
}

/// Seals all chains again and again as they grow.
fn seal(key: SecretKey, rows: &[Row]) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let mut sealer = Sealer::resume(key, None, Vec::new(), u64::MAX)?;
    let mut sealed = Vec::new();
    for upto in (SEALED..=EVENTS).step_by(usize::try_from(SEALED)?) {
        let heads: BTreeMap<ChainId, SealedHead> = rows
            .iter()
            .filter(|row| row.seq == upto)
            .map(|row| {
                let (chain, seq, hash) = (row.chain.clone(), row.seq, row.hash);
                (chain.clone(), SealedHead { chain, seq, hash, count: seq, ..SealedHead::default() })
            })
            .collect();
        sealed.push(sealer.seal(1_800_000_000_000_000_000 + upto, heads, &[]).bytes);
    }
    Ok(sealed)
}

fn begin(key: &PublicKey, checkpoints: &[Vec<u8>]) -> Verifier {
    let mut verifier = Verifier::new(vec![key.clone()], Covers::default());
    checkpoints.iter().for_each(|signed| verifier.checkpoint(signed));
    verifier
}

fn verify(key: &PublicKey, checkpoints: &[Vec<u8>], rows: &[Row]) -> Report {
    let mut verifier = begin(key, checkpoints);
    for Row { chain, seq, hash, bytes } in rows {
        verifier.event(Event { chain, seq: *seq, hash, bytes, differs: None });
    }
    verifier.finish()
}

fn line(row: &Row) -> Line {
    let Row { chain, seq, hash, bytes } = row;
    Line::Event { chain: chain.clone(), seq: *seq, hash: *hash, bytes: bytes.clone(), envelope: None }
}

fn told(what: &str, report: &Report, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let verdict = if report.is_intact() { "intact" } else { "NOT INTACT" };
    let rate = f64::from(u32::try_from(report.events).unwrap_or(u32::MAX)) / seconds;
    println!("{what}: {rate:.0} events/s ({verdict}, {} gaps)", report.gaps.total);
}

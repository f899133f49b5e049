//! A store with events and checkpoints, as the ingest would leave it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use sallyport_audit_proof::{ChainId, SealedHead, Sealer, SecretKey, generate_pem};
use sallyport_audit_proto::chain::{genesis, hash};
use sallyport_audit_proto::v1::AuditEvent;
use sallyport_event_store::{ChainName, Embedded, EventSink, Limits, StoredCheckpoint, StoredEvent};
use serde_json::Value;

const SECOND: u64 = 1_000_000_000;
/// When the first event is, in nanoseconds since 1970.
pub(crate) const BEGIN: u64 = 1_800_000_000 * SECOND;
const YEARS: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(crate) struct Record {
    folder: Arc<tempfile::TempDir>,
    pub(crate) store: Embedded,
    sealer: Sealer,
    /// Where chains stand: sequence and hash.
    heads: BTreeMap<ChainName, (u64, [u8; 32])>,
    now: u64,
}

pub(crate) fn chain(worker: u32) -> ChainName {
    ChainName { proxy: "edge".into(), worker, epoch: 7 }
}

impl Record {
    /// Empty, with room for so many bytes.
    pub(crate) fn new(max_bytes: u64) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let key = SecretKey::from_pem(generate_pem().unwrap().as_bytes()).unwrap();
        std::fs::write(folder.path().join("key.pub.pem"), key.public().to_pem()).unwrap();
        let limits = Limits { max_bytes, max_age: YEARS };
        let store = Embedded::open(&folder.path().join("events.db"), limits).unwrap();
        let sealer = Sealer::resume(key, None, vec![], u64::try_from(YEARS.as_nanos()).unwrap()).unwrap();
        Self { folder, store, sealer, heads: BTreeMap::new(), now: BEGIN }
    }

    /// Two chains of so many events, with a drop in the second, sealed in the middle and at the end.
    pub(crate) async fn with_events(count: u64) -> Self {
        let mut record = Self::new(u64::MAX);
        for half in 0..2 {
            for worker in [1, 2] {
                record.append(worker, count / 2, if half == 1 && worker == 2 { 3 } else { 0 }).await;
            }
            record.seal().await;
        }
        record
    }

    /// For whoever reads it.
    pub(crate) fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.folder))
    }

    /// Events of a chain, the first of them after so many that were dropped.
    pub(crate) async fn append(&mut self, worker: u32, count: u64, dropped: u64) {
        let name = chain(worker);
        let first = genesis(&name.proxy, name.worker, name.epoch);
        let (mut seq, mut before) = self.heads.get(&name).copied().unwrap_or((0, first));
        let mut events = Vec::new();
        for place in 0..count {
            let dropped = if place == 0 { dropped } else { 0 };
            seq += dropped + 1;
            self.now += SECOND / 100;
            let event = said(seq, before, dropped, self.now);
            let bytes = event.encode_to_vec();
            before = hash(&bytes);
            events.push(StoredEvent::read(name.clone(), bytes, before).unwrap());
        }
        self.heads.insert(name, (seq, before));
        for events in events.chunks(500) {
            self.store.append(events.to_vec(), vec![]).await.unwrap();
        }
    }

    /// Seals where the store stands.
    pub(crate) async fn seal(&mut self) {
        self.now += SECOND;
        let heads = self.store.heads().await.unwrap().into_iter().map(|head| {
            let ChainName { proxy, worker, epoch } = head.name;
            let chain = ChainId { proxy, worker, epoch };
            let (seq, hash, count, floor, removed) =
                (head.seq, head.hash, head.count, head.floor, head.removed);
            let sealed = SealedHead { chain, seq, hash, count, floor, removed, ..SealedHead::default() };
            (sealed.chain.clone(), sealed)
        });
        let sealed = self.sealer.seal(self.now, heads.collect(), &[]);
        let checkpoint = StoredCheckpoint {
            sequence: sealed.sequence,
            nanos: sealed.nanos,
            first: sealed.first,
            bytes: sealed.bytes,
            retired: vec![],
        };
        self.store.append_checkpoint(checkpoint).await.unwrap();
    }
}

/// Reads a record with the program.
#[derive(Clone)]
pub(crate) struct Reader(Arc<tempfile::TempDir>);

impl Reader {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("events.db")
    }

    /// Writes an export.
    pub(crate) fn export(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let path = self.path(name);
        let done = audit(
            &["export".as_ref(), path.as_ref(), "--store".as_ref(), self.database().as_ref()],
            arguments,
        );
        assert!(done.status.success(), "{}", told(&done));
        path
    }

    /// Verifies an export; answers with the exit code and the report.
    pub(crate) fn verify(&self, export: &Path) -> (i32, Value) {
        self.verify_with(&[export.to_str().unwrap()])
    }

    pub(crate) fn verify_with(&self, arguments: &[&str]) -> (i32, Value) {
        let key = self.path("key.pub.pem");
        let done = audit(
            &["verify".as_ref(), "-o".as_ref(), "json".as_ref(), "--public-key".as_ref(), key.as_ref()],
            arguments,
        );
        let code = done.status.code().unwrap_or(-1);
        (code, serde_json::from_slice(&done.stdout).unwrap_or_else(|_| Value::String(told(&done))))
    }
}

fn audit(first: &[&std::ffi::OsStr], then: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sallyport")).arg("audit").args(first).args(then).output().unwrap()
}

fn told(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn said(seq: u64, prev_hash: [u8; 32], dropped_before: u64, nanos: u64) -> AuditEvent {
    let server = if seq.is_multiple_of(2) { "payments" } else { "files" };
    AuditEvent {
        seq,
        prev_hash: prev_hash.to_vec(),
        dropped_before,
        time_unix_nanos: nanos,
        event_id: vec![7; 16],
        phase: 1,
        server: server.into(),
        namespace: "mcp-servers".into(),
        human_id: format!("user-{}", seq % 7),
        tool_name: "list_invoices".into(),
        rpc_method: "tools/call".into(),
        arguments_digest: vec![9; 32],
        allowed: true,
        reason: "allowed".into(),
        status: 200,
        latency_micros: 2100,
        ..AuditEvent::default()
    }
}

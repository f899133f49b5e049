//! The worker's ring of audit events that are not yet acknowledged.
//!
//! An event gets its place in the chain when it enters, so what is lost later leaves a hole that anyone can see. One
//! batch is in flight at a time; whatever comes back but an acknowledgement puts it back in line.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use sallyport_audit_proto::writer::{self, EventWriter};
use sallyport_audit_proto::{chain, event_id};

/// Most events of one batch (the ingest's limit).
const BATCH_EVENTS: usize = 4096;
/// A batch is closed at this size, in bytes.
const BATCH_BYTES: usize = 512 * 1024;
/// First and longest pause after a batch was not acknowledged, in nanoseconds.
const BACKOFF_NANOS: (u64, u64) = (50_000_000, 5_000_000_000);
/// A worker with nothing to send tells so at least so often, in nanoseconds: the ingest knows by its silence that it is gone,
/// and what it had given out until then.
const WORD_NANOS: u64 = 4_000_000_000;
/// Room that an event must find, in bytes; an event is never larger than the caps of its fields together.
const EVENT_ROOM: usize = 32 * 1024;

/// Name of a chain: one worker of one run of one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChainName {
    /// The proxy, as its credential says.
    pub(crate) proxy: alloc::string::String,
    /// Number of the worker within the process.
    pub(crate) worker: u32,
    /// When the worker's filter started, in nanoseconds since 1970.
    pub(crate) epoch: u64,
}

/// Events in order, from the oldest that is not acknowledged.
#[derive(Debug)]
pub(crate) struct Ring {
    name: ChainName,
    genesis: [u8; 32],
    head: [u8; 32],
    seq: u64,
    queue: VecDeque<Vec<u8>>,
    bytes: usize,
    capacity: usize,
    /// Events of the batch that is under way; none: no batch is.
    in_flight: Option<usize>,
    /// When the last batch was made; none: there was none.
    told: Option<u64>,
    dropped_total: u64,
    dropped_since: u64,
    failures: u32,
    not_before: u64,
}

impl Ring {
    /// An empty ring of `capacity` bytes.
    pub(crate) fn new(name: ChainName, capacity: usize) -> Self {
        let genesis = chain::genesis(&name.proxy, name.worker, name.epoch);
        Self {
            name,
            genesis,
            head: genesis,
            seq: 0,
            queue: VecDeque::new(),
            bytes: 0,
            capacity,
            in_flight: None,
            told: None,
            dropped_total: 0,
            dropped_since: 0,
            failures: 0,
            not_before: 0,
        }
    }

    /// Whether another event finds room beside `promised` bytes.
    pub(crate) fn has_room(&self, promised: usize) -> bool {
        self.bytes.saturating_add(promised).saturating_add(EVENT_ROOM) <= self.capacity
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The id of this chain's `number`th verdict, decided at `nanos` since 1970.
    pub(crate) fn event_id(&self, nanos: u64, number: u64) -> [u8; 16] {
        event_id::bytes(nanos / 1_000_000, &self.genesis, number)
    }

    /// Takes an event that lacks only its place in the chain, and leaves room for `promised` bytes of others. Answers
    /// with its sequence; none: no room, and the sequence that it would have had is the hole that tells of it.
    pub(crate) fn push(&mut self, mut event: Vec<u8>, promised: usize) -> Option<u64> {
        self.seq = self.seq.saturating_add(1);
        if !self.has_room(promised) {
            self.dropped_total = self.dropped_total.saturating_add(1);
            self.dropped_since = self.dropped_since.saturating_add(1);
            return None;
        }
        EventWriter::new(&mut event)
            .u64(writer::SEQ, self.seq)
            .bytes(writer::PREV_HASH, &self.head)
            .u64(writer::DROPPED_BEFORE, self.dropped_since);
        self.dropped_since = 0;
        self.head = chain::hash(&event);
        self.bytes = self.bytes.saturating_add(event.len());
        self.queue.push_back(event);
        Some(self.seq)
    }

    /// Whether a batch should go now. `at_tick`: whatever there is, or a word that there is nothing; else only a full batch.
    pub(crate) fn wants_to_send(&self, now_nanos: u64, at_tick: bool) -> bool {
        let owes_word = self.told.is_none_or(|told| now_nanos.saturating_sub(told) >= WORD_NANOS);
        let enough = if at_tick { !self.queue.is_empty() || owes_word } else { self.bytes >= BATCH_BYTES };
        enough && self.in_flight.is_none() && now_nanos >= self.not_before
    }

    /// The next batch, encoded as `sallyport.audit.v1.EmitRequest`. It stays in the ring until [`Ring::acknowledged`].
    pub(crate) fn batch(&mut self, now_nanos: u64) -> Vec<u8> {
        self.told = Some(now_nanos);
        let mut size = 0_usize;
        let count = self
            .queue
            .iter()
            .take(BATCH_EVENTS)
            .take_while(|event| {
                let fits = size < BATCH_BYTES;
                size = size.saturating_add(event.len());
                fits
            })
            .count();
        self.in_flight = Some(count);
        let events = self.queue.iter().take(count).map(Vec::as_slice);
        let ChainName { proxy, worker, epoch } = &self.name;
        writer::emit_request(proxy, *worker, *epoch, events, self.dropped_total, self.seq)
    }

    /// The batch in flight is durable; answers with how many events it had.
    pub(crate) fn acknowledged(&mut self) -> usize {
        let count = self.in_flight.take().unwrap_or(0);
        for event in self.queue.drain(..count.min(self.queue.len())) {
            self.bytes = self.bytes.saturating_sub(event.len());
        }
        self.failures = 0;
        self.not_before = 0;
        count
    }

    /// The batch in flight is not known to be durable: it will be sent again.
    pub(crate) fn failed(&mut self, now_nanos: u64) {
        self.in_flight = None;
        let (first, longest) = BACKOFF_NANOS;
        let pause =
            first.saturating_mul(1_u64.checked_shl(self.failures.min(16)).unwrap_or(u64::MAX)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now_nanos.saturating_add(pause);
    }
}

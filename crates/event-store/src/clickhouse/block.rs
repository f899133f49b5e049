//! Rows of `mcp.events` in ClickHouse's format RowBinary, encoded once, so that what is sent again is the same to the
//! last byte. Pure.

use std::collections::HashMap;

use sallyport_audit_proto::view::EventView;

use crate::envelope::{decision, event_type, phase, source};
use crate::model::{ChainName, Finding, StoredEvent};

/// The columns, in the order in which [`Rows`] writes them.
pub(super) const COLUMNS: &str = "arrived, time, finding, proxy, worker, epoch, seq, seq_to, missing, hash, prev_hash, \
    event_id, source, event_type, phase, decision_seq, dropped_before, server, namespace, team_id, cluster, rollout_track, \
    human_id, agent_id, subject_team_id, session_id, http_method, path, rpc_method, tool_name, target, rpc_id, era, \
    protocol_version, arguments_digest, trace_id, mcp_session_id, decision, reason, would_deny, policy_version, \
    required_trust, admin_trust, consented_trust, effective_trust, required_side_effect, risk_level, matched_grant, \
    matched_session, status, latency_micros, bytes_in, bytes_out, cut, bytes";

/// A row's usual size.
const ROW_BYTES: usize = 1024;

/// A row's place in the data.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The part of it that no other row has.
    name: usize,
    end: usize,
    key: Key,
}

/// Which row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// An event: place of its chain in the block's list, and its sequence.
    Event(usize, u64),
    /// A finding, which is sent whole or not at all.
    Finding,
}

/// Rows to insert together, encoded as they come.
#[derive(Clone, Debug, Default)]
pub struct Block {
    data: Vec<u8>,
    /// One after the other.
    rows: Vec<Place>,
    chains: Vec<ChainName>,
    places: HashMap<ChainName, usize>,
    /// Place of the last event's chain: events of a chain come together.
    last: usize,
}

impl Block {
    /// The rows of events.
    pub fn of(events: &[StoredEvent]) -> Self {
        let mut block =
            Self { data: Vec::with_capacity(events.len().saturating_mul(ROW_BYTES)), ..Self::default() };
        for event in events {
            block.push_event(&event.chain, &event.bytes, &event.hash, &event.view());
        }
        block
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes before compression.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Name of exactly these rows: ClickHouse takes a block of a name that it has had as told again. An event's row follows
    /// from its place and its hash.
    pub(super) fn token(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut begin = 0;
        for row in &self.rows {
            hasher.update(self.data.get(begin..row.name).unwrap_or_default());
            begin = row.end;
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The rows' bytes.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn chains(&self) -> &[ChainName] {
        &self.chains
    }

    /// The rows' chains and sequences in their order; none: a finding.
    pub(super) fn keys(&self) -> impl Iterator<Item = Option<(&ChainName, u64)>> {
        self.rows.iter().map(|row| match row.key {
            Key::Event(chain, seq) => Some((self.chains.get(chain)?, seq)),
            Key::Finding => None,
        })
    }

    /// Keeps those rows, by their order, that `is_kept`.
    pub(super) fn retain(&mut self, is_kept: &[bool]) {
        let (data, mut is_kept) = (&mut self.data, is_kept.iter());
        let (mut begin, mut kept) = (0, 0);
        self.rows.retain_mut(|row| {
            let whole = std::mem::replace(&mut begin, row.end)..row.end;
            if is_kept.next() == Some(&false) {
                return false;
            }
            let (name, end) = (row.name - whole.start, row.end - whole.start);
            if whole.start != kept {
                data.copy_within(whole, kept);
            }
            (row.name, row.end) = (kept + name, kept + end);
            kept = row.end;
            true
        });
        self.data.truncate(kept);
    }

    /// Says of the rows that they arrived one after the other from `arrived` on; answers with what comes next.
    pub(super) fn stamp(&mut self, mut arrived: u64) -> u64 {
        let mut begin = 0;
        for row in &self.rows {
            // It is what a row begins with.
            if let Some(place) = self.data.get_mut(begin..).and_then(<[u8]>::first_chunk_mut) {
                *place = arrived.to_le_bytes();
            }
            arrived = arrived.saturating_add(1);
            begin = row.end;
        }
        arrived
    }

    fn chain(&mut self, chain: &ChainName) -> usize {
        if self.chains.get(self.last) != Some(chain) {
            self.last = self.places.get(chain).copied().unwrap_or_else(|| {
                self.chains.push(chain.clone());
                self.places.insert(chain.clone(), self.chains.len() - 1);
                self.chains.len() - 1
            });
        }
        self.last
    }

    /// Adds an event of these bytes, which have this hash and say what `event` does.
    pub fn push_event(&mut self, chain: &ChainName, bytes: &[u8], hash: &[u8; 32], event: &EventView<'_>) {
        let place = self.chain(chain);
        let row = &mut Row(&mut self.data);
        row.head(chain, event.time_unix_nanos, false);
        row.u64s([event.seq, 0, 0]);
        row.0.extend_from_slice(hash);
        let name = row.0.len();
        row.event(event);
        row.bytes(bytes);
        self.rows.push(Place { name, end: self.data.len(), key: Key::Event(place, event.seq) });
    }

    /// Adds a finding.
    pub fn push_finding(&mut self, finding: &Finding) {
        let row = &mut Row(&mut self.data);
        row.head(&finding.chain, finding.nanos, true);
        row.u64s([finding.from, finding.to, finding.missing()]);
        row.0.extend_from_slice(&[0; 32]);
        let event_type = finding.event_type;
        row.event(&EventView { source: "ingest", event_type, ..EventView::default() });
        row.bytes(b"");
        let end = self.data.len();
        self.rows.push(Place { name: end, end, key: Key::Finding });
    }
}

/// Writes one row.
struct Row<'a>(&'a mut Vec<u8>);

impl Row<'_> {
    fn head(&mut self, chain: &ChainName, nanos: u64, is_finding: bool) {
        // When it arrived, which is not known yet.
        self.u64s([0]);
        // A time beyond the year 2262 is as good as that one.
        self.0.extend_from_slice(&i64::try_from(nanos).unwrap_or(i64::MAX).to_le_bytes());
        self.bool(is_finding);
        self.bytes(chain.proxy.as_bytes());
        self.0.extend_from_slice(&chain.worker.to_le_bytes());
        self.u64s([chain.epoch]);
    }

    /// The columns from `prev_hash` to `cut`.
    fn event(&mut self, event: &EventView<'_>) {
        self.bytes(event.prev_hash);
        self.bytes(event.event_id);
        self.bytes(source(event).as_bytes());
        self.bytes(event_type(event).as_bytes());
        self.bytes(if event.source.is_empty() { phase(event).as_bytes() } else { b"" });
        self.u64s([event.decision_seq, event.dropped_before]);
        self.texts([event.server, event.namespace, event.team_id, event.cluster, event.rollout_track]);
        self.texts([event.human_id, event.agent_id, event.subject_team_id, event.session_id]);
        self.texts([event.http_method, event.path, event.rpc_method, event.tool_name, event.target]);
        self.texts([event.rpc_id, event.era, event.protocol_version]);
        self.bytes(event.arguments_digest);
        self.texts([event.trace_id, event.mcp_session_id]);
        self.bytes(decision(event).unwrap_or_default().as_bytes());
        self.texts([event.reason, event.would_deny, event.policy_version]);
        self.texts([event.required_trust, event.admin_trust, event.consented_trust, event.effective_trust]);
        self.texts([event.required_side_effect, event.risk_level]);
        self.texts([event.matched_grant, event.matched_session]);
        self.0.extend_from_slice(&event.status.to_le_bytes());
        self.u64s([event.latency_micros, event.bytes_in, event.bytes_out]);
        self.bool(event.cut);
    }

    fn u64s<const N: usize>(&mut self, values: [u64; N]) {
        for value in values {
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn bool(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    fn texts<const N: usize>(&mut self, texts: [&str; N]) {
        for text in texts {
            self.bytes(text.as_bytes());
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        put_bytes(self.0, bytes);
    }
}

/// Writes a string: its length in groups of seven bits, the lowest first, and its bytes.
pub(super) fn put_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes.len();
    while rest >= 0x80 {
        row.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    row.push(u8::try_from(rest).unwrap_or_default());
    row.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use sallyport_audit_proto::v1::AuditEvent;

    use super::*;

    fn block(seqs: &[u64]) -> Block {
        let mut block = Block::default();
        for seq in seqs {
            let chain = ChainName { proxy: format!("p{}", seq % 2), worker: 0, epoch: 1 };
            let event = AuditEvent { seq: *seq, path: "x".repeat(200), ..AuditEvent::default() };
            block.push_event(&chain, &event.encode_to_vec(), &[2; 32], &EventView::from(&event));
        }
        block
    }

    #[test]
    fn what_is_left_of_a_block_is_as_if_the_rest_had_never_been_in_it() {
        for (is_kept, left) in
            [([true, false, false, true], &[1, 4][..]), ([false, true, true, true], &[2, 3, 4])]
        {
            let (mut rest, mut wanted) = (block(&[1, 2, 3, 4]), block(left));
            rest.retain(&is_kept);
            assert_eq!((rest.stamp(7), wanted.stamp(7)), (7 + left.len() as u64, 7 + left.len() as u64));
            assert_eq!((&rest.data, rest.len(), rest.token()), (&wanted.data, left.len(), wanted.token()));
            let keys: Vec<_> = rest.keys().map(|key| key.map(|(chain, seq)| (chain.clone(), seq))).collect();
            assert_eq!(
                keys,
                wanted.keys().map(|key| key.map(|(chain, seq)| (chain.clone(), seq))).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn other_rows_or_another_order_or_time_have_another_name() {
        let names = [&[1, 2][..], &[2, 1], &[1], &[1, 2, 3]].map(|seqs| block(seqs).token());
        assert!(names.iter().enumerate().all(|(place, name)| !names[..place].contains(name)), "{names:?}");
        let mut later = block(&[1, 2]);
        later.stamp(9);
        assert_ne!(later.token(), names[0]);
    }

    #[test]
    fn lengths_are_told_in_groups_of_seven_bits() {
        let mut data = Vec::new();
        put_bytes(&mut data, &[7; 300]);
        assert_eq!(data.get(..3), Some(&[0xac, 0x02, 7][..]));
        assert_eq!(data.len(), 302);
    }
}

//! Rows of `mcp.events` in ClickHouse's format RowBinary, encoded once, so that what is sent again is the same to the
//! last byte. Pure.

use bytes::Bytes;
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

/// Rows to insert together.
#[derive(Clone, Debug, Default)]
pub struct Block {
    data: Vec<u8>,
    /// One after the other.
    rows: Vec<Place>,
    chains: Vec<ChainName>,
}

impl Block {
    /// Room for so many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { data: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// The rows of events that arrive one after the other from `arrived` on.
    pub fn of(events: &[StoredEvent], arrived: u64) -> Self {
        let mut block = Self::default();
        for (event, arrived) in events.iter().zip(arrived..) {
            block.push_event(event, arrived);
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

    /// The rows' bytes, taken out.
    pub(super) fn data(&self) -> Bytes {
        Bytes::copy_from_slice(&self.data)
    }

    pub(super) fn chains(&self) -> &[ChainName] {
        &self.chains
    }

    /// The same rows but those that `is_stored`.
    pub(super) fn without(&self, is_stored: impl Fn(&ChainName, u64) -> bool) -> Self {
        let mut rest = Self { chains: self.chains.clone(), ..Self::default() };
        let mut begin = 0;
        for row in &self.rows {
            let stored = match &row.key {
                Key::Event(chain, seq) => self.chains.get(*chain).is_some_and(|chain| is_stored(chain, *seq)),
                Key::Finding => false,
            };
            if !stored {
                let name = rest.data.len() + (row.name - begin);
                rest.data.extend_from_slice(self.data.get(begin..row.end).unwrap_or_default());
                rest.rows.push(Place { name, end: rest.data.len(), key: row.key });
            }
            begin = row.end;
        }
        rest
    }

    fn chain(&mut self, chain: &ChainName) -> usize {
        // Events of a chain come together, so its place is near the end.
        match self.chains.iter().rposition(|known| known == chain) {
            Some(place) => place,
            None => {
                self.chains.push(chain.clone());
                self.chains.len() - 1
            }
        }
    }

    /// Adds an event that arrived at `arrived`.
    pub(super) fn push_event(&mut self, stored: &StoredEvent, arrived: u64) {
        let place = self.chain(&stored.chain);
        let row = &mut Row(&mut self.data);
        row.head(&stored.chain, arrived, stored.nanos, false);
        row.u64s([stored.seq, 0, 0]);
        row.0.extend_from_slice(&stored.hash);
        let name = row.0.len();
        row.event(&stored.view());
        row.bytes(&stored.bytes);
        self.rows.push(Place { name, end: self.data.len(), key: Key::Event(place, stored.seq) });
    }

    /// Adds a finding that arrived at `arrived`.
    pub(super) fn push_finding(&mut self, finding: &Finding, arrived: u64) {
        let row = &mut Row(&mut self.data);
        row.head(&finding.chain, arrived, finding.nanos, true);
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
    fn head(&mut self, chain: &ChainName, arrived: u64, nanos: u64, is_finding: bool) {
        self.u64s([arrived]);
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
            let stored = StoredEvent::read(chain, event.encode_to_vec(), [2; 32]).unwrap();
            block.push_event(&stored, *seq);
        }
        block
    }

    #[test]
    fn what_is_left_of_a_block_is_as_if_the_rest_had_never_been_in_it() {
        let rest = block(&[1, 2, 3, 4]).without(|_, seq| seq == 2 || seq == 3);
        assert_eq!(rest.data, block(&[1, 4]).data);
        assert_eq!(rest.len(), 2);
        assert_eq!(rest.token(), block(&[1, 4]).token());
        assert_ne!(rest.token(), block(&[1, 2, 3, 4]).token());
        assert_ne!(rest.token(), block(&[4, 1]).token());
    }

    #[test]
    fn lengths_are_told_in_groups_of_seven_bits() {
        let mut data = Vec::new();
        put_bytes(&mut data, &[7; 300]);
        assert_eq!(data.get(..3), Some(&[0xac, 0x02, 7][..]));
        assert_eq!(data.len(), 302);
    }
}

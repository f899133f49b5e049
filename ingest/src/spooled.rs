//! What a record of the spool holds: events of one chain as they arrived, checked. An internal format; fields may be added.

use prost::Message;
use sallyport_audit_proto::chain::{self, Head};
use sallyport_audit_proto::view::ViewError;
use sallyport_event_store::{ChainName, Finding, StoredEvent};

use crate::check::Checked;

/// A record.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Spooled {
    #[prost(string, tag = "1")]
    pub(crate) proxy: String,
    #[prost(uint32, tag = "2")]
    pub(crate) worker: u32,
    #[prost(fixed64, tag = "3")]
    pub(crate) epoch: u64,
    /// When it arrived, nanoseconds since 1970.
    #[prost(fixed64, tag = "4")]
    pub(crate) nanos: u64,
    /// Where the chain stands after it.
    #[prost(uint64, tag = "5")]
    head_seq: u64,
    #[prost(bytes = "vec", tag = "6")]
    head_hash: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub(crate) events: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "8")]
    findings: Vec<SpooledFinding>,
    /// Events of the chain that arrived, these among them.
    #[prost(uint64, tag = "9")]
    pub(crate) count: u64,
    /// The highest sequence that the proxy said it had given out.
    #[prost(uint64, tag = "10")]
    pub(crate) announced: u64,
    /// A signed checkpoint; then the record has nothing else.
    #[prost(bytes = "vec", tag = "11")]
    pub(crate) checkpoint: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SpooledFinding {
    /// Place of its type in [`Finding::TYPES`], from 1.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    from: u64,
    #[prost(uint64, tag = "3")]
    to: u64,
}

impl SpooledFinding {
    /// None: a later version wrote it.
    fn event_type(&self) -> Option<&'static str> {
        Finding::TYPES.get(usize::try_from(self.kind).ok()?.checked_sub(1)?).copied()
    }
}

/// Another version wrote a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Record(#[from] prost::DecodeError),
    #[error("event: {0}")]
    Event(#[from] ViewError),
}

impl Spooled {
    /// A checkpoint that was made at `nanos`.
    pub(crate) fn checkpoint(checkpoint: Vec<u8>, nanos: u64) -> Self {
        Self { checkpoint, nanos, ..Self::default() }
    }

    /// How many events of the chain have arrived with it, and what the proxy says it has given out.
    pub(crate) fn counted(self, count: u64, announced: u64) -> Self {
        Self { count, announced, ..self }
    }

    /// A checked batch that arrived at `nanos`.
    pub(crate) fn new(chain: &ChainName, checked: Checked, nanos: u64) -> Self {
        let findings = checked.findings.iter().map(|finding| {
            let kind = Finding::TYPES.iter().zip(1..).find(|(kind, _)| **kind == finding.event_type);
            SpooledFinding { kind: kind.map_or(0, |(_, number)| number), from: finding.from, to: finding.to }
        });
        Self {
            proxy: chain.proxy.clone(),
            worker: chain.worker,
            epoch: chain.epoch,
            nanos,
            head_seq: checked.head.seq,
            head_hash: checked.head.hash.to_vec(),
            findings: findings.collect(),
            events: checked.events.into_iter().map(|event| event.bytes).collect(),
            ..Self::default()
        }
    }

    pub(crate) fn chain(&self) -> ChainName {
        ChainName { proxy: self.proxy.clone(), worker: self.worker, epoch: self.epoch }
    }

    pub(crate) fn head(&self) -> Head {
        Head { seq: self.head_seq, hash: self.head_hash.as_slice().try_into().unwrap_or_default() }
    }

    /// Whether it says of the chain that it has ended, or is silent.
    pub(crate) fn tells_end(&self) -> bool {
        let is_end = |finding: &SpooledFinding| finding.event_type().is_some_and(Finding::is_end);
        self.findings.iter().any(is_end)
    }

    /// Up to which sequence it tells what was dropped; 0: it does not.
    pub(crate) fn dropped_to(&self) -> u64 {
        let dropped = self.findings.iter().filter(|found| found.event_type() == Some("audit.dropped"));
        dropped.map(|found| found.to).max().unwrap_or(0)
    }

    /// What the store takes.
    pub(crate) fn into_stored(self) -> Result<(Vec<StoredEvent>, Vec<Finding>), Unreadable> {
        let chain = self.chain();
        let findings = self.findings.iter().filter_map(|finding| {
            let event_type = finding.event_type()?;
            let (from, to, nanos) = (finding.from, finding.to, self.nanos);
            Some(Finding { chain: chain.clone(), event_type, from, to, nanos })
        });
        let findings = findings.collect();
        let events = self.events.into_iter().map(|bytes| {
            let hash = chain::hash(&bytes);
            Ok(StoredEvent::read(chain.clone(), bytes, hash)?)
        });
        Ok((events.collect::<Result<_, Unreadable>>()?, findings))
    }
}

#[cfg(test)]
mod tests {
    use sallyport_audit_proto::v1::AuditEvent;

    use super::*;

    #[test]
    fn a_batch_comes_out_as_it_went_in() {
        let chain = ChainName { proxy: "p".into(), worker: 1, epoch: u64::MAX };
        let event = AuditEvent { seq: 9, server: "payments".into(), ..AuditEvent::default() };
        let bytes = event.encode_to_vec();
        let hash = chain::hash(&bytes);
        let stored = StoredEvent::read(chain.clone(), bytes, hash).unwrap();
        let found = |event_type| Finding { chain: chain.clone(), event_type, from: 3, to: 8, nanos: 7 };
        let head = Head { seq: 9, hash: stored.hash };
        let findings: Vec<_> = Finding::TYPES.into_iter().map(found).collect();
        let checked =
            Checked { events: vec![stored.clone()], findings: findings.clone(), duplicates: 0, head };
        let bytes = Spooled::new(&chain, checked, 7).encode_to_vec();
        let read = Spooled::decode(bytes.as_slice()).unwrap();
        assert_eq!((read.chain(), read.head()), (chain, head));
        assert_eq!(read.into_stored().unwrap(), (vec![stored], findings));
    }
}

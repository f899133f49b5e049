//! A batch against its chain. Pure.

use sallyport_audit_proto::chain::{self, Head, Link, Verifier};
use sallyport_audit_proto::view::EventView;
use sallyport_event_store::{ChainName, Finding, StoredEvent};
use sallyport_runtime::identity::Identity;

/// A batch, checked.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Events to store.
    pub(crate) events: Vec<StoredEvent>,
    /// What is wrong with the chain.
    pub(crate) findings: Vec<Finding>,
    /// Events that are known.
    pub(crate) duplicates: u32,
    /// Where the chain stands after it.
    pub(crate) head: Head,
}

/// Why a batch is refused whole.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Defect {
    /// An event is none.
    #[error("events[{index}] is not a sallyport.audit.v1.AuditEvent with a sequence: {reason}")]
    NotAnEvent {
        /// Its place in the batch.
        index: usize,
        /// Why.
        reason: String,
    },
    /// An event is of a server that the caller does not speak for.
    #[error("events[{index}] is of server `{server}`; the token speaks for another one")]
    AnotherServer {
        /// Its place in the batch.
        index: usize,
        /// The server, as `namespace/name`.
        server: String,
    },
}

/// Checks the events of `chain` against `head`, where the chain stands; none: it is new. What is missing up to the sequence `told`
/// is told already. `nanos` since 1970 is now.
pub(crate) fn check(
    chain: &ChainName,
    caller: &Identity,
    events: Vec<Vec<u8>>,
    (head, told): (Option<Head>, u64),
    nanos: u64,
) -> Result<Checked, Defect> {
    let mut verifier =
        head.map_or_else(|| Verifier::begin(&chain.proxy, chain.worker, chain.epoch), Verifier::from);
    let mut checked =
        Checked { events: Vec::new(), findings: Vec::new(), duplicates: 0, head: verifier.head() };
    // The event before, where it was known: sequence and hash.
    let mut known: Option<(u64, [u8; 32])> = None;
    let mut is_forked = false;
    for (index, bytes) in events.into_iter().enumerate() {
        let not_an_event = |reason: String| Defect::NotAnEvent { index, reason };
        let event = EventView::read(&bytes).map_err(|error| not_an_event(error.to_string()))?;
        if event.seq == 0 {
            return Err(not_an_event("seq is 0".into()));
        }
        // A request that could not be read names no server, and speaks for none.
        let names_none = event.namespace.is_empty() && event.server.is_empty();
        if !names_none && !caller.covers(event.namespace, event.server) {
            let server = format!("{}/{}", event.namespace, event.server);
            return Err(Defect::AnotherServer { index, server });
        }
        let mut find = |event_type, from, to| {
            checked.findings.push(Finding { chain: chain.clone(), event_type, from, to, nanos });
        };
        match verifier.take(event.seq, event.prev_hash, event.dropped_before, &bytes) {
            link @ (Link::Known | Link::Forked) => {
                let follows = known.is_none_or(|(seq, hash)| event.seq != seq + 1 || event.prev_hash == hash);
                let is_other = matches!(link, Link::Forked) || !follows;
                // One of a batch tells enough.
                if is_other && !is_forked {
                    find("audit.fork", event.seq, event.seq);
                    is_forked = true;
                }
                known = Some((event.seq, chain::hash(&bytes)));
                checked.duplicates += 1;
                continue;
            }
            Link::Follows => {}
            Link::Gap { from, to, announced } if announced > 0 => {
                if let Some((from, to)) = untold(from, to, told) {
                    find("audit.dropped", from, to);
                }
            }
            Link::Gap { from, to, announced: _ } => find("audit.gap", from, to),
            Link::Broken => find("audit.broken", event.seq, event.seq),
        }
        let EventView { seq, time_unix_nanos: nanos, .. } = event;
        checked.events.push(StoredEvent {
            chain: chain.clone(),
            hash: verifier.head().hash,
            seq,
            nanos,
            bytes,
        });
    }
    checked.head = verifier.head();
    Ok(checked)
}

/// The part of `from` to `to` that is not told yet, where everything up to `told` is.
fn untold(from: u64, to: u64, told: u64) -> Option<(u64, u64)> {
    let from = from.max(told.saturating_add(1));
    (from <= to).then_some((from, to))
}

/// What a worker says of itself beside its events.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Word {
    /// Highest sequence that it had given out; 0: it does not tell.
    pub(crate) last_seq: u64,
    /// Events that it dropped since its chain began.
    pub(crate) dropped: u64,
}

impl Word {
    /// Both words together: each number only grows.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { last_seq: self.last_seq.max(other.last_seq), dropped: self.dropped.max(other.dropped) }
    }

    /// First and last sequence of what was dropped after the chain's last event and is not `told`, where nothing else of it is
    /// still to come: of `count` events that arrived the last is `head`. No event has told of it, and an idle worker may make none
    /// for long.
    pub(crate) fn dropped_since(self, head: Head, count: u64, told: u64) -> Option<(u64, u64)> {
        let is_all_here = count.saturating_add(self.dropped) == self.last_seq;
        is_all_here.then(|| untold(head.seq.saturating_add(1), self.last_seq, told)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use sallyport_audit_proto::v1::AuditEvent;

    use super::*;

    fn event(seq: u64, prev_hash: [u8; 32]) -> Vec<u8> {
        AuditEvent { seq, prev_hash: prev_hash.to_vec(), ..AuditEvent::default() }.encode_to_vec()
    }

    fn checked(events: Vec<Vec<u8>>, head: Option<Head>) -> Result<Checked, Defect> {
        let chain = ChainName { proxy: "p".into(), worker: 1, epoch: 2 };
        let caller = Identity { proxy: "p".into(), server: None };
        check(&chain, &caller, events, (head, 0), 0)
    }

    #[test]
    fn a_batch_sent_again_with_more_stores_only_what_is_new() {
        let first = event(1, chain::genesis("p", 1, 2));
        let second = event(2, chain::hash(&first));
        let one = checked(vec![first.clone()], None).unwrap();
        let two = checked(vec![first, second], Some(one.head)).unwrap();
        assert_eq!((two.duplicates, two.events.len(), two.findings.len()), (1, 1, 0));
        assert_eq!(two.head.seq, 2);
    }

    #[test]
    fn a_hole_and_an_alteration_are_found() {
        let first = event(1, chain::genesis("p", 1, 2));
        let fourth = event(4, [9; 32]);
        let fifth = event(5, [9; 32]);
        let checked = checked(vec![first, fourth, fifth], None).unwrap();
        let found: Vec<_> = checked.findings.iter().map(|f| (f.event_type, f.from, f.to)).collect();
        assert_eq!(found, [("audit.gap", 2, 3), ("audit.broken", 5, 5)]);
        assert_eq!(checked.events.len(), 3, "what arrived is kept all the same");
    }

    #[test]
    fn what_was_dropped_is_told_by_a_word_before_an_event_tells_it_and_once() {
        let first = event(1, chain::genesis("p", 1, 2));
        let head = Head { seq: 1, hash: chain::hash(&first) };
        let word = |last_seq, dropped| Word { last_seq, dropped }.dropped_since(head, 1, 0);
        assert_eq!(word(4, 3), Some((2, 4)));
        assert_eq!(word(4, 2), None, "one is on its way");
        assert_eq!([word(1, 0), word(0, 0), word(0, 3)], [None; 3]);
        let later = |seq, dropped_before| AuditEvent {
            seq,
            dropped_before,
            prev_hash: head.hash.to_vec(),
            ..AuditEvent::default()
        };
        let (chain, caller) = (
            ChainName { proxy: "p".into(), worker: 1, epoch: 2 },
            Identity { proxy: "p".into(), server: None },
        );
        let found = |event: AuditEvent, told| {
            let checked = check(&chain, &caller, vec![event.encode_to_vec()], (Some(head), told), 0).unwrap();
            checked.findings.iter().map(|f| (f.event_type, f.from, f.to)).collect::<Vec<_>>()
        };
        assert_eq!(found(later(5, 3), 4), []);
        assert_eq!(found(later(7, 5), 4), [("audit.dropped", 5, 6)]);
        assert_eq!(found(later(7, 0), 4), [("audit.gap", 2, 6)], "that is another matter");
    }

    #[test]
    fn a_second_continuation_of_a_chain_is_found_and_not_stored() {
        let first = event(1, chain::genesis("p", 1, 2));
        let second = event(2, chain::hash(&first));
        let head = checked(vec![first.clone(), second.clone()], None).unwrap().head;
        let told = |events| {
            let checked = checked(events, Some(head)).unwrap();
            assert_eq!((checked.events.len(), checked.head), (0, head));
            checked.findings.iter().map(|found| (found.event_type, found.from)).collect::<Vec<_>>()
        };
        assert_eq!(told(vec![first.clone(), second.clone()]), []);
        assert_eq!(told(vec![event(2, [7; 32])]), [("audit.fork", 2)]);
        assert_eq!(told(vec![event(1, [7; 32]), second]), [("audit.fork", 2)], "its predecessor is another");
        assert_eq!(told(vec![first, event(2, [7; 32]), event(2, [8; 32])]), [("audit.fork", 2)], "once");
    }

    #[test]
    fn a_batch_with_something_else_in_it_is_refused_whole() {
        let error = checked(vec![event(1, [0; 32]), vec![0xff]], None).unwrap_err();
        assert!(error.to_string().starts_with("events[1]"));
    }

    #[test]
    fn a_proxy_of_one_server_brings_events_of_that_server_or_of_none() {
        let chain = ChainName { proxy: "a/pod".into(), worker: 1, epoch: 2 };
        let caller = Identity { proxy: "a/pod".into(), server: Some("a/payments".into()) };
        let of = |namespace: &str, server: &str| {
            let (namespace, server) = (namespace.into(), server.into());
            let event = AuditEvent { seq: 1, namespace, server, ..AuditEvent::default() };
            check(&chain, &caller, vec![event.encode_to_vec()], (None, 0), 0)
                .map(|checked| checked.events.len())
        };
        assert_eq!([of("a", "payments"), of("", "")], [Ok(1), Ok(1)]);
        for (namespace, server) in [("a", "other"), ("b", "payments"), ("", "payments"), ("a", "")] {
            let refused = Defect::AnotherServer { index: 0, server: format!("{namespace}/{server}") };
            assert_eq!(of(namespace, server), Err(refused));
        }
    }
}

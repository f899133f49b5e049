//! One exchange between its verdict and its end: the event that is being written about it.
//!
//! Most exchanges end before anything must be told of them, and leave one event with verdict and outcome. One that
//! stays open longer leaves its verdict at once and its outcome when it ends.

use alloc::vec::Vec;

use prost::Message;
use sallyport_audit_proto::v1::{AuditEvent, Phase};
use sallyport_audit_proto::writer::{self, EventWriter};
use sallyport_policy::{Call, Identity, ObjectId, Store, decide};

use crate::judge;

/// An exchange that is still open after this is told of, in nanoseconds.
const TELL_AFTER_NANOS: u64 = 50_000_000;

/// What outcome and place in the chain add to an event at most, in bytes.
const REST_BYTES: usize = 160;

/// How an exchange ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// HTTP status that the caller got; 0: none.
    pub(crate) status: u32,
    /// Bytes of the answer's body.
    pub(crate) bytes_out: u64,
    /// When, by the clock that never goes back, in nanoseconds.
    pub(crate) moment: u64,
}

/// How far the record of the exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// The verdict, under this sequence.
    Decision(u64),
}

/// An open exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// The event as far as it is known: everything but phase, outcome and place in the chain.
    event: Vec<u8>,
    began: u64,
    told: Told,
    forwarded: bool,
    cut: bool,
    id: [u8; 16],
}

impl Exchange {
    /// Its verdict was recorded in `event`, under `id`, when the clock that never goes back was at `began`; `forwarded`: the
    /// request went on to the upstream.
    pub(crate) fn new(event: Vec<u8>, began: u64, forwarded: bool, id: [u8; 16]) -> Self {
        Self { event, began, told: Told::Nothing, forwarded, cut: false, id }
    }

    /// Whether it went on to the upstream.
    pub(crate) fn was_forwarded(&self) -> bool {
        self.forwarded
    }

    /// Whether the upstream is working on it.
    pub(crate) fn is_forwarded(&self) -> bool {
        self.forwarded && !self.cut
    }

    /// Room in the ring that its verdict was given on and has not taken yet, in bytes.
    pub(crate) fn promised(&self) -> usize {
        match self.told {
            Told::Nothing if self.forwarded => self.event.len().saturating_add(REST_BYTES),
            Told::Nothing | Told::Decision(_) => 0,
        }
    }

    /// It is being ended because its subject lost access.
    pub(crate) fn cut(&mut self) {
        self.cut = true;
    }

    /// The event of the verdict, if it is time to tell it at `moment`.
    pub(crate) fn decision(&self, moment: u64) -> Option<Vec<u8>> {
        let due = self.told == Told::Nothing && moment.saturating_sub(self.began) >= TELL_AFTER_NANOS;
        due.then(|| {
            let mut event = self.event.clone();
            EventWriter::new(&mut event)
                .u64(writer::PHASE, phase(Phase::Decision))
                .bytes(writer::EVENT_ID, &self.id);
            event
        })
    }

    /// The verdict was told under this sequence.
    pub(crate) fn told(&mut self, seq: u64) {
        self.told = Told::Decision(seq);
    }

    /// The last event of the exchange.
    pub(crate) fn finish(self, outcome: &Outcome) -> Vec<u8> {
        let mut event = self.event;
        let mut id = self.id;
        let (phase_number, decision) = match self.told {
            Told::Nothing => (phase(Phase::Complete), 0),
            Told::Decision(seq) => {
                // An id of its own: the last bit of the verdict's, which numbers verdicts in even steps.
                if let Some(last) = id.last_mut() {
                    *last |= 1;
                }
                (phase(Phase::Outcome), seq)
            }
        };
        EventWriter::new(&mut event)
            .u64(writer::PHASE, phase_number)
            .bytes(writer::EVENT_ID, &id)
            .u64(writer::DECISION_SEQ, decision)
            .u64(writer::STATUS, u64::from(outcome.status))
            .u64(writer::LATENCY_MICROS, outcome.moment.saturating_sub(self.began) / 1000)
            .u64(writer::BYTES_OUT, outcome.bytes_out)
            .bool(writer::CUT, self.cut);
        event
    }

    /// Whether its verdict, given anew at `now` in seconds since 1970, would still be to allow.
    pub(crate) fn is_still_allowed(&self, store: &Store, now: i64) -> bool {
        let Ok(event) = AuditEvent::decode(self.event.as_slice()) else {
            return false;
        };
        let Some(server) = store.server(&ObjectId::new(event.namespace.as_str(), event.server.as_str()))
        else {
            return false;
        };
        let identity = Identity {
            human_id: &event.human_id,
            agent_id: &event.agent_id,
            team_id: &event.subject_team_id,
            session_id: &event.session_id,
        };
        judge::recorded_targets(&event.rpc_method, &event.tool_name, &event.target)
            .into_iter()
            .all(|target| decide(store, server, &Call { identity, target, now }).allowed)
    }
}

fn phase(phase: Phase) -> u64 {
    u64::try_from(i32::from(phase)).unwrap_or(0)
}

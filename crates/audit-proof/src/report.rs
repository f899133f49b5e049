//! What a verification found.

use sallyport_audit_proto::hex;
use serde::{Serialize, Serializer};

use crate::checkpoint::ChainId;
use crate::lines::Covers;

/// Most findings of one kind that a report lists; all are counted.
const LISTED: usize = 1000;

/// Findings of one kind: all counted, the first of them listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found<T> {
    /// How many there are.
    pub total: u64,
    /// The first of them.
    pub listed: Vec<T>,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { total: 0, listed: Vec::new() }
    }
}

impl<T> Found<T> {
    pub(crate) fn push(&mut self, found: T) {
        self.total += 1;
        if self.listed.len() < LISTED {
            self.listed.push(found);
        }
    }
}

/// Events that are missing and were never in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Whose.
    pub chain: ChainId,
    /// First missing sequence.
    pub from: u64,
    /// Last missing sequence; before `from` where none is known by number.
    pub to: u64,
    /// How many are known to be missing.
    pub missing: u64,
    /// Why: `ring_full` (dropped, as the proxy announced), `proxy_ended` (the proxy died; perhaps there were more),
    /// `never_arrived` (a checkpoint counts them as not arrived), `unknown` (no checkpoint tells).
    pub reason: &'static str,
    /// Time of the event after it, nanoseconds since 1970; none: there is none.
    #[serde(serialize_with = "optional_text")]
    pub before_nanos: Option<u64>,
}

/// Events that were in the store and are not now, though nothing says that they were removed for age or room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Truncation {
    /// Whose.
    pub chain: ChainId,
    /// `start`, `middle`, `tail` or `whole` of the chain.
    pub place: Place,
    /// First sequence of the part that is concerned.
    pub from: u64,
    /// Its last sequence.
    pub to: u64,
    /// How many are missing.
    pub missing: u64,
    /// The checkpoint that counted them.
    pub checkpoint: u64,
}

/// Part of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Its first events.
    Start,
    /// Events between others.
    Middle,
    /// Its last events.
    Tail,
    /// All of it.
    Whole,
}

/// An event that is not what was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alteration {
    /// Whose.
    pub chain: ChainId,
    /// Its sequence.
    pub seq: u64,
    /// What is wrong, in words.
    pub what: String,
}

/// Something wrong with the checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckpointFault {
    /// Which.
    pub sequence: u64,
    /// What is wrong, in words.
    pub what: String,
}

/// A checkpoint to know again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sealing {
    /// Its number.
    pub sequence: u64,
    /// When it was made, nanoseconds since 1970.
    #[serde(with = "text")]
    pub nanos: u64,
    /// Its hash, hexadecimal.
    pub hash: String,
}

impl Sealing {
    pub(crate) fn new(sequence: u64, nanos: u64, hash: &[u8; 32]) -> Self {
        Self { sequence, nanos, hash: hex::text(hash) }
    }
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Events that were checked.
    pub events: u64,
    /// Chains that they are of.
    pub chains: u64,
    /// Checkpoints that were checked.
    pub checkpoints: u64,
    /// The last of them.
    pub last_checkpoint: Option<Sealing>,
    /// What was looked at.
    pub covers: Covers,
    /// Events that are newer than the last checkpoint: they follow their chain, and no signature holds them yet.
    pub not_sealed: u64,
    /// Events that retention removed, for age or room, as the checkpoints say.
    pub removed: u64,
    /// All of them were there before this time, nanoseconds since 1970; none: nothing was removed.
    #[serde(serialize_with = "optional_text")]
    pub removed_before_nanos: Option<u64>,
    /// Missing events that never were in the store.
    pub gaps: Found<Gap>,
    /// Missing events that were.
    pub truncations: Found<Truncation>,
    /// Events that are not what was recorded.
    pub alterations: Found<Alteration>,
    /// What is wrong with the checkpoints.
    pub checkpoint_faults: Found<CheckpointFault>,
    /// What is wrong with the export that was read.
    pub export_faults: Vec<String>,
    /// Missing events whose absence nobody explains.
    pub unexplained: u64,
    /// Missing events in all gaps.
    pub missing: u64,
}

impl Report {
    /// Whether nothing was altered or removed, and every missing event is explained.
    pub fn is_intact(&self) -> bool {
        let Self { truncations, alterations, checkpoint_faults, unexplained, export_faults, .. } = self;
        let found = truncations.total + alterations.total + checkpoint_faults.total + unexplained;
        found == 0 && export_faults.is_empty()
    }

    /// Retention removed so many that were there before `nanos`.
    pub(crate) fn removed(&mut self, count: u64, nanos: u64) {
        if count > 0 {
            self.removed = self.removed.saturating_add(count);
            self.removed_before_nanos = self.removed_before_nanos.max(Some(nanos));
        }
    }

    pub(crate) fn gap(&mut self, gap: Gap) {
        self.missing = self.missing.saturating_add(gap.missing);
        if matches!(gap.reason, "unknown" | "never_arrived") {
            self.unexplained = self.unexplained.saturating_add(gap.missing);
        }
        self.gaps.push(gap);
    }

    pub(crate) fn altered(&mut self, chain: &ChainId, seq: u64, what: impl Into<String>) {
        self.alterations.push(Alteration { chain: chain.clone(), seq, what: what.into() });
    }

    pub(crate) fn fault(&mut self, sequence: u64, what: impl Into<String>) {
        self.checkpoint_faults.push(CheckpointFault { sequence, what: what.into() });
    }
}

fn optional_text<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => text::serialize(value, to),
        None => to.serialize_none(),
    }
}

/// Numbers beyond what JSON's readers hold exactly, as text.
pub(crate) mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        text.parse().map_err(|_| D::Error::custom(format!("`{text}` is no number")))
    }
}

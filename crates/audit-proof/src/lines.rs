//! Exports: JSON lines that can be verified again. First what they cover, then all checkpoints, then events chain by chain,
//! then an end that counts them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sallyport_audit_proto::hex;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::checkpoint::{ChainId, Checkpoint};

/// Name of the format.
const FORMAT: &str = "sallyport-audit-export-1";

/// A part of a chain: first and last sequence.
pub(crate) type Part = (u64, u64);

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covers {
    /// From this time on, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Before this time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The server, as `name` or `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The parts of chains; none: all of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<Covered>>,
}

/// A part of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// The chain.
    #[serde(flatten)]
    pub chain: ChainId,
    /// First sequence.
    pub first: u64,
    /// Last sequence.
    pub last: u64,
}

impl Covers {
    /// Sets the parts: those that hold selected events, and with them what was sealed of chains between `since` and `until`
    /// (nanoseconds since 1970), so that a tail that is cut off is missed. `checkpoints` are signed bytes; those that cannot
    /// be read add nothing. Where a server is selected, only chains that hold events of it count.
    #[must_use]
    pub fn with_parts<'c>(
        mut self,
        spans: impl IntoIterator<Item = Covered>,
        checkpoints: impl IntoIterator<Item = &'c [u8]>,
        since: Option<u64>,
        until: Option<u64>,
    ) -> Self {
        let mut parts: BTreeMap<ChainId, Part> =
            spans.into_iter().map(|part| (part.chain, (part.first, part.last))).collect();
        let mut stood: BTreeMap<ChainId, u64> = BTreeMap::new();
        let window = since.unwrap_or(0)..until.unwrap_or(u64::MAX);
        for (checkpoint, _) in checkpoints.into_iter().filter_map(|signed| Checkpoint::decode(signed).ok()) {
            for head in checkpoint.heads {
                let before = stood.insert(head.chain.clone(), head.seq).unwrap_or(0);
                let known = parts.get_mut(&head.chain);
                if head.seq <= before || head.floor >= head.seq || !window.contains(&checkpoint.nanos) {
                    continue;
                }
                match known {
                    Some((first, last)) => (*first, *last) = ((*first).min(head.seq), (*last).max(head.seq)),
                    None if self.server.is_none() => drop(parts.insert(head.chain, (head.seq, head.seq))),
                    None => {}
                }
            }
        }
        let parts = parts.into_iter().map(|(chain, (first, last))| Covered { chain, first, last });
        self.parts = Some(parts.collect());
        self
    }

    pub(crate) fn by_chain(&self) -> Option<BTreeMap<ChainId, Part>> {
        let parts = self.parts.as_ref()?;
        Some(parts.iter().map(|part| (part.chain.clone(), (part.first, part.last))).collect())
    }
}

/// A line.
#[derive(Clone, Debug)]
pub enum Line {
    /// The first.
    Begin(Covers),
    /// A signed checkpoint.
    Checkpoint(Vec<u8>),
    /// An event.
    Event {
        /// Its chain.
        chain: ChainId,
        /// Its sequence.
        seq: u64,
        /// Its hash, as the store says.
        hash: [u8; 32],
        /// Its bytes.
        bytes: Vec<u8>,
        /// The same to read, as JSON.
        envelope: Option<Box<RawValue>>,
    },
    /// The last.
    End {
        /// Events before it.
        events: u64,
        /// Checkpoints before it.
        checkpoints: u64,
    },
}

/// Why a text is no line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// No JSON of the right form.
    #[error("is no line of an export: {0}")]
    Json(#[from] serde_json::Error),
    /// Another format.
    #[error("is an export of the format `{0}`; this program knows `{FORMAT}`")]
    Format(String),
    /// Something that each such line has.
    #[error("has no `{0}`")]
    Missing(&'static str),
    /// Not base64, not hexadecimal, or not a number.
    #[error("`{0}` cannot be decoded")]
    Encoding(&'static str),
}

/// A line as it is written.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Written<'l> {
    Begin {
        format: &'static str,
        covers: &'l Covers,
    },
    Checkpoint {
        sequence: u64,
        #[serde(with = "crate::report::text")]
        time_unix_nanos: u64,
        hash: String,
        signed: String,
    },
    Event {
        #[serde(flatten)]
        chain: &'l ChainId,
        seq: u64,
        hash: String,
        bytes: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        envelope: Option<&'l RawValue>,
    },
    End {
        events: u64,
        checkpoints: u64,
    },
}

/// A line as it is read: of any kind, so that it is read in one go.
#[derive(Deserialize)]
struct Read<'l> {
    #[serde(rename = "type")]
    kind: Kind,
    format: Option<String>,
    covers: Option<Covers>,
    signed: Option<String>,
    proxy: Option<String>,
    worker: Option<u32>,
    epoch: Option<String>,
    seq: Option<u64>,
    hash: Option<String>,
    bytes: Option<String>,
    #[serde(borrow)]
    envelope: Option<&'l RawValue>,
    events: Option<u64>,
    checkpoints: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Begin,
    Checkpoint,
    Event,
    End,
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let read: Read<'_> = serde_json::from_str(text)?;
        Ok(match read.kind {
            Kind::Begin => {
                let format = read.format.ok_or(LineError::Missing("format"))?;
                if format != FORMAT {
                    return Err(LineError::Format(format));
                }
                Self::Begin(read.covers.ok_or(LineError::Missing("covers"))?)
            }
            Kind::Checkpoint => Self::Checkpoint(decoded("signed", read.signed)?),
            Kind::Event => {
                let epoch = read.epoch.ok_or(LineError::Missing("epoch"))?;
                let chain = ChainId {
                    proxy: read.proxy.ok_or(LineError::Missing("proxy"))?,
                    worker: read.worker.ok_or(LineError::Missing("worker"))?,
                    epoch: epoch.parse().map_err(|_| LineError::Encoding("epoch"))?,
                };
                let hash = read.hash.ok_or(LineError::Missing("hash"))?;
                Self::Event {
                    chain,
                    seq: read.seq.ok_or(LineError::Missing("seq"))?,
                    hash: hex::bytes(&hash)
                        .and_then(|hash| hash.try_into().ok())
                        .ok_or(LineError::Encoding("hash"))?,
                    bytes: decoded("bytes", read.bytes)?,
                    envelope: read.envelope.map(ToOwned::to_owned),
                }
            }
            Kind::End => Self::End {
                events: read.events.ok_or(LineError::Missing("events"))?,
                checkpoints: read.checkpoints.ok_or(LineError::Missing("checkpoints"))?,
            },
        })
    }

    /// As text, without the line's end.
    pub fn write(&self) -> String {
        let written = match self {
            Self::Begin(covers) => Written::Begin { format: FORMAT, covers },
            Self::Checkpoint(signed) => {
                let (checkpoint, hash) = Checkpoint::decode(signed).unwrap_or_default();
                Written::Checkpoint {
                    sequence: checkpoint.sequence,
                    time_unix_nanos: checkpoint.nanos,
                    hash: hex::text(&hash),
                    signed: STANDARD.encode(signed),
                }
            }
            Self::Event { chain, seq, hash, bytes, envelope } => Written::Event {
                chain,
                seq: *seq,
                hash: hex::text(hash),
                bytes: STANDARD.encode(bytes),
                envelope: envelope.as_deref(),
            },
            Self::End { events, checkpoints } => Written::End { events: *events, checkpoints: *checkpoints },
        };
        // Strings and numbers only: it cannot fail.
        serde_json::to_string(&written).unwrap_or_default()
    }
}

fn decoded(name: &'static str, text: Option<String>) -> Result<Vec<u8>, LineError> {
    let text = text.ok_or(LineError::Missing(name))?;
    STANDARD.decode(text).map_err(|_| LineError::Encoding(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let chain = ChainId { proxy: "p\n\"".into(), worker: 1, epoch: u64::MAX };
        let part = Covered { chain: chain.clone(), first: 1, last: 2 };
        let covers = Covers { server: Some("a/b".into()), parts: Some(vec![part]), ..Covers::default() };
        let envelope = RawValue::from_string(r#"{"source":"x"}"#.into()).unwrap();
        let bytes = vec![1, 2, 255];
        for line in [
            Line::Begin(covers),
            Line::Event { chain, seq: 7, hash: [0xa9; 32], bytes, envelope: Some(envelope) },
            Line::End { events: 1, checkpoints: 0 },
        ] {
            let text = line.write();
            assert!(!text.contains('\n'));
            assert_eq!(format!("{:?}", Line::parse(&text).unwrap()), format!("{line:?}"), "{text}");
        }
        assert!(Line::parse("{}").is_err());
        let other = r#"{"type":"begin","format":"x","covers":{}}"#;
        assert!(matches!(Line::parse(other), Err(LineError::Format(_))));
        let less = r#"{"type":"event","proxy":"p","worker":1,"epoch":"7","seq":1,"bytes":""}"#;
        assert!(matches!(Line::parse(less), Err(LineError::Missing("hash"))));
    }
}

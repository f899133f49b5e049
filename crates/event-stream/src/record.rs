//! What travels.

use std::borrow::Cow;

use sallyport_audit_proto::view::EventView;
use sallyport_event_store::{ChainName, Finding, StoredEvent};

/// Form of a record's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `sallyport.audit.v1.EventRecord`.
    #[default]
    Protobuf,
    /// The envelope `timestamp, trace_id, source, event_type, payload`, as JSON.
    Json,
}

impl Format {
    /// As a flag names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Protobuf => "protobuf",
            Self::Json => "json",
        }
    }

    /// The header `content-type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/protobuf",
            Self::Json => "application/json",
        }
    }
}

/// Names of the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Events and findings.
    pub events: String,
    /// Records that could not be taken further, with the reason in the header `sallyport_reason`.
    pub dead: String,
    /// Signed checkpoints, compacted.
    pub checkpoints: String,
}

impl Topics {
    /// `EVENTS`, `EVENTS.dead`, and `checkpoints` beside it: `mcp.events` has `mcp.checkpoints`.
    pub fn of(events: &str) -> Self {
        let checkpoints = match events.rsplit_once('.') {
            Some((group, _)) => format!("{group}.checkpoints"),
            None => format!("{events}.checkpoints"),
        };
        Self { events: events.into(), dead: format!("{events}.dead"), checkpoints }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self::of("mcp.events")
    }
}

/// A record, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The chain, so that its events stay in order: see [`chain_key`].
    pub key: Cow<'a, str>,
    /// CloudEvents attributes.
    pub headers: Vec<(&'static str, Cow<'a, str>)>,
    /// The event.
    pub value: Vec<u8>,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// An event, its bytes checked against its hash.
    Event(StoredEvent),
    /// Something wrong with a chain.
    Finding(Finding),
}

/// What a record holds, in place.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is handed on at once and kept by nobody")]
pub enum Told<'a> {
    /// An event.
    Event {
        /// Its chain.
        chain: ChainName,
        /// Its exact bytes.
        bytes: &'a [u8],
        /// Their hash.
        hash: [u8; 32],
        /// What they say.
        event: EventView<'a>,
    },
    /// Something wrong with a chain.
    Finding(Finding),
}

/// The key of a chain's records, `{proxy}/{worker}/{epoch}`.
pub fn chain_key(chain: &ChainName) -> String {
    format!("{}/{}/{}", chain.proxy, chain.worker, chain.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_after_the_first() {
        let topics = Topics::default();
        assert_eq!(
            (topics.dead.as_str(), topics.checkpoints.as_str()),
            ("mcp.events.dead", "mcp.checkpoints")
        );
        assert_eq!(Topics::of("audit").checkpoints, "audit.checkpoints");
    }
}

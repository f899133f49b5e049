//! What a table has of an event beside its bytes: the columns that questions are asked of. All of them are read from the bytes,
//! so whoever verifies can hold each against them. Names are those of ClickHouse's `mcp.events`.

use std::borrow::Cow;

use sallyport_audit_proto::event_id;
use sallyport_audit_proto::v1::Phase;
use sallyport_audit_proto::view::EventView;
use sallyport_event_store::{decision, event_type, phase, source};

/// A value in a column of its kind; none: there is nothing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell<'e> {
    Text(Option<Cow<'e, str>>),
    Binary(Option<&'e [u8]>),
    /// Nanoseconds since 1970.
    Time(Option<u64>),
    Small(Option<u32>),
    Large(Option<u64>),
    Flag(Option<bool>),
}

impl Cell<'_> {
    /// The same column where it says nothing.
    pub(super) fn emptied(self) -> Cell<'static> {
        match self {
            Self::Text(_) => Cell::Text(None),
            Self::Binary(_) => Cell::Binary(None),
            Self::Time(_) => Cell::Time(None),
            Self::Small(_) => Cell::Small(None),
            Self::Large(_) => Cell::Large(None),
            Self::Flag(_) => Cell::Flag(None),
        }
    }
}

/// How many columns there are.
pub(super) const COUNT: usize = 46;

/// The columns of an event, by name and in their order.
pub(super) fn fields<'e>(event: &EventView<'e>) -> [(&'static str, Cell<'e>); COUNT] {
    let is_ours = event.source.is_empty();
    let ended = is_ours && event.phase() != Phase::Decision;
    // What another program sent has numbers where its payload had them; a proxy's zero is a number.
    let large = |value: u64, is_said: bool| Cell::Large((is_said || value > 0).then_some(value));
    [
        ("time", Cell::Time(Some(event.time_unix_nanos))),
        ("decision", text(decision(event).unwrap_or_default())),
        ("reason", text(event.reason)),
        ("would_deny", text(event.would_deny)),
        ("source", Cell::Text(Some(source(event)))),
        ("event_type", text(event_type(event))),
        ("phase", text(if is_ours { phase(event) } else { "" })),
        ("namespace", text(event.namespace)),
        ("server", text(event.server)),
        ("team_id", text(event.team_id)),
        ("cluster", text(event.cluster)),
        ("rollout_track", text(event.rollout_track)),
        ("human_id", text(event.human_id)),
        ("agent_id", text(event.agent_id)),
        ("subject_team_id", text(event.subject_team_id)),
        ("session_id", text(event.session_id)),
        ("rpc_method", text(event.rpc_method)),
        ("tool_name", text(event.tool_name)),
        ("target", text(event.target)),
        ("rpc_id", text(event.rpc_id)),
        ("era", text(event.era)),
        ("protocol_version", text(event.protocol_version)),
        ("mcp_session_id", text(event.mcp_session_id)),
        ("trace_id", text(event.trace_id)),
        ("http_method", text(event.http_method)),
        ("path", text(event.path)),
        ("arguments", lossy(event.arguments)),
        ("arguments_digest", binary(event.arguments_digest)),
        ("policy_version", text(event.policy_version)),
        ("required_trust", text(event.required_trust)),
        ("admin_trust", text(event.admin_trust)),
        ("consented_trust", text(event.consented_trust)),
        ("effective_trust", text(event.effective_trust)),
        ("required_side_effect", text(event.required_side_effect)),
        ("risk_level", text(event.risk_level)),
        ("matched_grant", text(event.matched_grant)),
        ("matched_session", text(event.matched_session)),
        ("status", Cell::Small((ended || event.status > 0).then_some(event.status))),
        ("latency_micros", large(event.latency_micros, ended)),
        ("bytes_in", large(event.bytes_in, is_ours)),
        ("bytes_out", large(event.bytes_out, ended)),
        ("cut", Cell::Flag(is_ours.then_some(event.cut))),
        ("event_id", id(event.event_id)),
        ("decision_seq", large(event.decision_seq, false)),
        ("dropped_before", large(event.dropped_before, is_ours)),
        ("payload", lossy(event.payload)),
    ]
}

fn text(said: &str) -> Cell<'_> {
    Cell::Text((!said.is_empty()).then_some(said.into()))
}

fn lossy(said: &[u8]) -> Cell<'_> {
    Cell::Text((!said.is_empty()).then(|| String::from_utf8_lossy(said)))
}

fn binary(said: &[u8]) -> Cell<'_> {
    Cell::Binary((!said.is_empty()).then_some(said))
}

fn id(said: &[u8]) -> Cell<'_> {
    Cell::Text(<[u8; 16]>::try_from(said).ok().map(|id| event_id::text(&id).into()))
}

//! The event of a verdict, as far as it is known when the verdict falls.

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

use sallyport_audit_proto::writer::{self, EventWriter};
use sallyport_mcp_wire::{Method, REDACTED, Scratch, Text, Withheld, redact};
use sallyport_policy::{AuditArguments, ServerPolicy, SideEffect, Trust, Verdict};

use crate::judge::{Judgement, Ruling, path_only, target_text};
use crate::settings::Settings;

/// Room that most events need, in bytes.
const USUAL_BYTES: usize = 512;

/// The event of `judgement`, decided at `nanos` since 1970 about a request with a body of `body_size` bytes.
pub(crate) fn record(
    judgement: &Judgement<'_>,
    settings: &Settings,
    scratch: &mut Scratch,
    nanos: u64,
    body_size: usize,
) -> Vec<u8> {
    let mut event = Vec::with_capacity(USUAL_BYTES);
    let mut to = EventWriter::new(&mut event).u64(writer::TIME_UNIX_NANOS, nanos);
    to = to.u64(writer::BYTES_IN, u64::try_from(body_size).unwrap_or(u64::MAX));
    if let Some((_, server)) = judgement.server {
        let policy = server.policy();
        to = to
            .str(writer::SERVER, &policy.id.name)
            .str(writer::NAMESPACE, &policy.id.namespace)
            .str(writer::TEAM_ID, &policy.team_id)
            .str(writer::CLUSTER, &policy.cluster)
            .str(writer::POLICY_VERSION, &policy.policy_version);
    }
    let identity = &judgement.identity;
    to = to
        .str(writer::ROLLOUT_TRACK, &settings.track)
        .str(writer::HUMAN_ID, identity.human_id)
        .str(writer::AGENT_ID, identity.agent_id)
        .str(writer::SUBJECT_TEAM_ID, identity.team_id)
        .str(writer::SESSION_ID, identity.session_id);
    let headers = &judgement.headers;
    to = to
        .str(writer::HTTP_METHOD, core::str::from_utf8(headers.method()).unwrap_or_default())
        .str(writer::PATH, path_only(headers))
        .str(writer::TRACE_ID, headers.trace_id().unwrap_or_default())
        .str(writer::MCP_SESSION_ID, headers.mcp_session_id().unwrap_or_default());
    to = write_message(to, judgement, settings, scratch);
    match &judgement.ruling {
        Ruling::Verdict(verdict) => write_verdict(to, verdict),
        Ruling::Fault(fault) => to.str(writer::REASON, fault.as_str()),
    };
    event
}

fn write_message<'e>(
    to: EventWriter<'e>,
    judgement: &Judgement<'_>,
    settings: &Settings,
    scratch: &mut Scratch,
) -> EventWriter<'e> {
    let Some(message) = &judgement.message else {
        return to;
    };
    let tool = match message.method {
        Method::ToolsCall => message.name.as_ref().map(Text::as_str),
        _ => None,
    };
    let mut to = to
        .str(writer::RPC_METHOD, message.method_name.as_str())
        .str(writer::RPC_ID, message.id.unwrap_or_default())
        .str(writer::TOOL_NAME, tool.unwrap_or_default());
    if tool.is_none() {
        to = to.str(writer::TARGET, &target_text(message));
    }
    if let Some(agreement) = &judgement.agreement {
        to = to
            .str(writer::ERA, agreement.era.as_str())
            .str(writer::PROTOCOL_VERSION, agreement.version.unwrap_or_default());
    }
    match (message.arguments, judgement.server) {
        (Some(arguments), Some((index, server))) => {
            write_arguments(to, arguments, settings, (index, server.policy()), scratch)
        }
        (None, _) | (_, None) => to,
    }
}

fn write_arguments<'e>(
    mut to: EventWriter<'e>,
    arguments: &str,
    settings: &Settings,
    (index, policy): (usize, &ServerPolicy),
    scratch: &mut Scratch,
) -> EventWriter<'e> {
    let kept = policy.audit_arguments;
    if let Some(key) = settings.digest.as_ref().filter(|_| kept != AuditArguments::None) {
        to = to.bytes(writer::ARGUMENTS_DIGEST, &key.digest(arguments.as_bytes()));
    }
    let longest = usize::try_from(policy.audit_max_argument_bytes).unwrap_or(usize::MAX);
    let text = match kept {
        AuditArguments::None | AuditArguments::Digest => return to,
        AuditArguments::Full if arguments.len() <= longest => Ok(Cow::Borrowed(arguments)),
        AuditArguments::Full => Err(Withheld::TooLong),
        AuditArguments::Redacted => settings
            .redact
            .get(index)
            .and_then(Option::as_ref)
            .ok_or(Withheld::Unreadable)
            .and_then(|pointers| redact(arguments, pointers, longest, scratch)),
    };
    let text = text.unwrap_or_else(|withheld| match withheld {
        Withheld::TooLong => format!("\"[truncated: {} bytes]\"", arguments.len()).into(),
        Withheld::Unreadable => REDACTED.into(),
    });
    to.str(writer::ARGUMENTS, &text)
}

fn write_verdict<'e>(to: EventWriter<'e>, verdict: &Verdict<'_>) -> EventWriter<'e> {
    let trust = |trust: Option<Trust>| trust.map(Trust::as_str).unwrap_or_default();
    let mut to = to
        .bool(writer::ALLOWED, verdict.allowed)
        .str(writer::REASON, verdict.reason.as_str())
        .str(writer::WOULD_DENY, verdict.would_deny.map(|reason| reason.as_str()).unwrap_or_default())
        .str(writer::REQUIRED_TRUST, trust(verdict.required_trust))
        .str(writer::ADMIN_TRUST, trust(verdict.admin_trust))
        .str(writer::CONSENTED_TRUST, trust(verdict.consented_trust))
        .str(writer::EFFECTIVE_TRUST, trust(verdict.effective_trust))
        .str(writer::REQUIRED_SIDE_EFFECT, verdict.side_effect.map(SideEffect::as_str).unwrap_or_default())
        .str(writer::RISK_LEVEL, trust(verdict.risk));
    if let Some(grant) = verdict.grant {
        to = to.pair(writer::MATCHED_GRANT, &grant.grant().id.namespace, &grant.grant().id.name);
    }
    if let Some(session) = verdict.session {
        to = to.pair(writer::MATCHED_SESSION, session.namespace(), session.name());
    }
    to
}

//! Grants and sessions.

use sallyport_api::v1alpha1::{MCPAccessGrant, MCPAgentSession, ServerReference};
use sallyport_policy::ObjectId;
use sallyport_resolve::{Problem, resolve_grant, resolve_session, server_of};

use super::findings::{Findings, Need, Question, Right};
use super::request::Request;
use super::review::{Rules, World};

/// A grant harms nobody: where it has no effect, its sender is told.
pub(super) fn examine_grant(new: &MCPAccessGrant, world: &dyn World, findings: &mut Findings) {
    let server = world.server(&named(&new.spec.server_ref, new.metadata.namespace.as_deref()));
    findings.warnings.extend(resolve_grant(new, server.as_deref()).problems);
}

/// A session that is made or changed.
pub(super) fn examine_session(
    request: &Request,
    new: &MCPAgentSession,
    old: Option<&MCPAgentSession>,
    rules: &Rules<'_>,
    world: &dyn World,
    findings: &mut Findings,
) {
    let server = world.server(&named(&new.spec.server_ref, new.metadata.namespace.as_deref()));
    findings.warnings.extend(resolve_session(new, server.as_deref(), None).problems);
    if is_expired(new, rules) {
        let message = "is past, so this session allows nothing";
        findings.warnings.push(Problem::warning("spec.expiresAt", "Expired", message));
    }
    if old.is_some_and(|old| old.spec.revoked) && !new.spec.revoked {
        let right = Right::to_unrevoke(&request.id.name);
        findings.need(right, "spec.revoked", "UnrevokeNotAllowed", "to lift a revocation");
    }
    let secret = new.spec.upstream_token_secret_ref.as_ref();
    if let Some(secret) = secret
        && old.and_then(|old| old.spec.upstream_token_secret_ref.as_ref()) != Some(secret)
    {
        findings.needs.push(secret_need("spec.upstreamTokenSecretRef.name", &secret.name));
    }
}

/// A revoked session stands in the way of its own return until it would have ended anyway. That somebody owns it, and
/// asks the garbage collector to delete it, is no way around: the collector is judged like everybody else.
pub(super) fn examine_deletion(
    request: &Request,
    session: &MCPAgentSession,
    rules: &Rules<'_>,
    findings: &mut Findings,
) {
    if session.spec.revoked && !is_expired(session, rules) {
        findings.needs.push(deletion_need(request));
    }
}

/// A session that cannot be read may be one that is revoked.
pub(super) fn examine_unreadable_deletion(request: &Request, findings: &mut Findings) {
    findings.needs.push(deletion_need(request));
}

fn deletion_need(request: &Request) -> Need {
    let right = Right::to_unrevoke(&request.id.name);
    let message = format!(
        "is set, and a revoked session that was deleted could be made anew; to delete it before it expires takes {right}, which you do not have"
    );
    Need {
        any_of: vec![Question::NamespaceIsGoing, Question::May(right)],
        otherwise: Problem::error("spec.revoked", "RevokedSessionKept", message),
    }
}

/// A Secret may be named by those who may read it.
pub(super) fn secret_need(path: &str, name: &str) -> Need {
    let right = Right::to_read_secret(name);
    let message = format!("names a Secret; to do so takes {right}, which you do not have");
    Need {
        any_of: vec![Question::May(Right::to_read_secret("")), Question::May(right)],
        otherwise: Problem::error(path, "SecretNotAllowed", message),
    }
}

fn named(reference: &ServerReference, namespace: Option<&str>) -> ObjectId {
    server_of(reference, namespace.unwrap_or("default"))
}

fn is_expired(session: &MCPAgentSession, rules: &Rules<'_>) -> bool {
    session.spec.expires_at.as_ref().is_some_and(|at| at.0 <= rules.now)
}

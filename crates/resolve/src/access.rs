//! Grants and sessions.

use sallyport_api::v1alpha1 as v1;
use sallyport_policy as policy;

use crate::problem::Problem;
use crate::server::{object_id, side_effect, trust};

/// What became of a grant or session.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved<T> {
    /// None: it has no effect, and `problems` says why.
    pub value: Option<T>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// The server that a reference in an object of `namespace` means.
pub fn server_of(reference: &v1::ServerReference, namespace: &str) -> policy::ObjectId {
    policy::ObjectId::new(reference.namespace.as_deref().unwrap_or(namespace), reference.name.as_str())
}

fn subject(subject: &v1::SubjectRef) -> policy::Subject {
    policy::Subject {
        human_id: subject.human_id.clone(),
        agent_id: subject.agent_id.clone(),
        team_id: subject.team_id.clone(),
    }
}

/// Whether the server is there and takes objects of `namespace`.
fn accept(
    id: &policy::ObjectId,
    wanted: &policy::ObjectId,
    server: Option<&v1::MCPServer>,
) -> Result<(), Problem> {
    let is_home = wanted.namespace == id.namespace;
    match server {
        Some(server) if is_home || server.spec.accepted_namespaces.contains(&id.namespace) => Ok(()),
        None if is_home => {
            let message =
                format!("names MCPServer {wanted}, which does not exist; nothing takes effect until it does");
            Err(Problem::error("spec.serverRef", "ServerNotFound", message))
        }
        // Whether there is such a server is nothing that other namespaces are told.
        Some(_) | None => {
            let message = format!(
                "names MCPServer {wanted}, which does not list namespace `{}` in spec.acceptedNamespaces; its owner may add it",
                id.namespace
            );
            Err(Problem::error("spec.serverRef.namespace", "NotAccepted", message))
        }
    }
}

fn check_version(named: &str, server: &v1::MCPServer, problems: &mut Vec<Problem>) {
    let current = server.spec.policy.as_ref().map_or("v1", |policy| policy.policy_version.as_str());
    if !named.is_empty() && named != current {
        let message = format!(
            "is `{named}` and the server's is `{current}`, so it does not count; renew it for `{current}`"
        );
        problems.push(Problem::warning("spec.policyVersion", "PolicyVersionMismatch", message));
    }
}

/// A grant. Unlike elsewhere, an empty `subject.teamID` is not filled in from the server: it means any team.
pub fn resolve_grant(grant: &v1::MCPAccessGrant, server: Option<&v1::MCPServer>) -> Resolved<policy::Grant> {
    let id = object_id(&grant.metadata);
    let spec = &grant.spec;
    let wanted = server_of(&spec.server_ref, &id.namespace);
    if let Err(problem) = accept(&id, &wanted, server) {
        return Resolved { value: None, problems: vec![problem] };
    }
    let mut problems = Vec::new();
    if let Some(server) = server {
        check_version(&spec.policy_version, server, &mut problems);
        for (index, rule) in spec.tool_rules.iter().enumerate() {
            if !server.spec.tools.iter().any(|tool| tool.name == rule.name) {
                let message = format!("names `{}`, which MCPServer {wanted} does not declare", rule.name);
                problems.push(Problem::warning(
                    format!("spec.toolRules[{index}].name"),
                    "ToolNotDeclared",
                    message,
                ));
            }
        }
    }
    if spec.allowed_side_effects.is_empty() {
        let message = "is empty, so this grant allows no call at all; list read, write or destructive";
        problems.push(Problem::warning("spec.allowedSideEffects", "NoSideEffectsAllowed", message));
    }
    let subject = subject(&spec.subject);
    if subject.is_empty() {
        let message = "is empty, and an empty subject matches nobody; set humanID, agentID or teamID";
        problems.push(Problem::warning("spec.subject", "SubjectEmpty", message));
    }
    let value = policy::Grant {
        id,
        server: wanted,
        subject,
        max_trust: trust(spec.max_trust),
        allowed_side_effects: spec.allowed_side_effects.iter().copied().map(side_effect).collect(),
        policy_version: spec.policy_version.clone(),
        disabled: spec.disabled,
        tool_rules: spec
            .tool_rules
            .iter()
            .map(|rule| policy::ToolRule {
                name: rule.name.clone(),
                deny: rule.decision == v1::PolicyDecision::Deny,
                required_trust: trust(rule.required_trust),
            })
            .collect(),
    };
    Resolved { value: Some(value), problems }
}

/// A session. It was issued when its metadata says, else at `fallback_issued_at` (seconds since 1970).
pub fn resolve_session(
    session: &v1::MCPAgentSession,
    server: Option<&v1::MCPServer>,
    fallback_issued_at: Option<i64>,
) -> Resolved<policy::Session> {
    let id = object_id(&session.metadata);
    let spec = &session.spec;
    let wanted = server_of(&spec.server_ref, &id.namespace);
    if let Err(problem) = accept(&id, &wanted, server) {
        return Resolved { value: None, problems: vec![problem] };
    }
    let mut problems = Vec::new();
    if let Some(server) = server {
        check_version(&spec.policy_version, server, &mut problems);
    }
    if spec.upstream_token_secret_ref.is_some() {
        let message =
            "names a token that this gateway does not hand to the upstream; the caller's own is removed";
        problems.push(Problem::warning("spec.upstreamTokenSecretRef", "TokenNotInjected", message));
    }
    let created = session.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
    let value = policy::Session {
        id,
        server: wanted,
        subject: subject(&spec.subject),
        consented_trust: trust(spec.consented_trust),
        revoked: spec.revoked,
        expires_at: spec.expires_at.as_ref().map(|time| time.0.as_second()),
        issued_at: created.or(fallback_issued_at),
        policy_version: spec.policy_version.clone(),
    };
    Resolved { value: Some(value), problems }
}

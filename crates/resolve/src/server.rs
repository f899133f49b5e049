//! A server's policy.

use sallyport_api::duration;
use sallyport_api::v1alpha1 as v1;
use sallyport_policy as policy;

use crate::problem::Problem;

/// What the control plane adds to every server.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Name of the cluster, for the record.
    pub cluster: String,
}

pub(crate) fn trust(trust: v1::TrustLevel) -> policy::Trust {
    match trust {
        v1::TrustLevel::Low => policy::Trust::Low,
        v1::TrustLevel::Medium => policy::Trust::Medium,
        v1::TrustLevel::High => policy::Trust::High,
    }
}

pub(crate) fn side_effect(effect: v1::SideEffect) -> policy::SideEffect {
    match effect {
        v1::SideEffect::Read => policy::SideEffect::Read,
        v1::SideEffect::Write => policy::SideEffect::Write,
        v1::SideEffect::Destructive => policy::SideEffect::Destructive,
    }
}

/// Namespace and name of an object; what has no namespace is in `default`.
pub fn object_id(metadata: &kube::core::ObjectMeta) -> policy::ObjectId {
    let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".into());
    policy::ObjectId::new(namespace, metadata.name.clone().unwrap_or_default())
}

/// The policy of a server. Its route is named `namespace/name`.
pub fn resolve_server(server: &v1::MCPServer, settings: &Settings) -> (policy::ServerPolicy, Vec<Problem>) {
    let spec = &server.spec;
    let id = object_id(&server.metadata);
    let mut problems = Vec::new();
    let rules = spec.policy.clone().unwrap_or_default();
    let gateway = spec.gateway.clone().unwrap_or_default();
    let audit = spec.audit.clone().unwrap_or_default();
    if spec.auth.as_ref().is_some_and(|auth| auth.mode == v1::AuthMode::Oauth) {
        let message = "tokens are not verified by this gateway, so every call is denied; use `header` behind an edge that verifies them";
        problems.push(Problem::warning("spec.auth.mode", "TokensNotVerified", message));
    }
    unused(spec, &mut problems);
    canary(spec, &mut problems);
    let resolved = policy::ServerPolicy {
        route: id.to_string(),
        team_id: spec.team_id.clone(),
        cluster: settings.cluster.clone(),
        auth: auth(spec),
        mode: match rules.mode {
            v1::PolicyMode::AllowList => policy::Mode::AllowList,
            v1::PolicyMode::Observe => policy::Mode::Observe,
        },
        default_allow: rules.default_decision == v1::PolicyDecision::Allow,
        enforce_on: match rules.enforce_on {
            v1::EnforceOn::CallTool => policy::EnforceOn::CallTool,
            v1::EnforceOn::All => policy::EnforceOn::All,
        },
        // Without a policy section the default version counts all the same.
        policy_version: if rules.policy_version.is_empty() { "v1".into() } else { rules.policy_version },
        session: session_rules(spec, &mut problems),
        tools: tools(spec, &mut problems),
        prompts: spec.prompts.iter().map(|item| item.name.clone()).collect(),
        resources: spec.mcp_resources.iter().map(|item| item.name.clone()).collect(),
        tasks: spec.tasks.iter().map(|item| item.name.clone()).collect(),
        deny_response: match spec.deny_response {
            v1::DenyResponse::Auto => policy::DenyResponse::Auto,
            v1::DenyResponse::Http => policy::DenyResponse::Http,
            v1::DenyResponse::Jsonrpc => policy::DenyResponse::Jsonrpc,
        },
        max_request_bytes: u32::try_from(gateway.max_request_bytes)
            .unwrap_or(policy::DEFAULT_MAX_REQUEST_BYTES),
        audit_overload: match audit.on_overload {
            v1::OnOverload::Deny => policy::AuditOverload::Deny,
            v1::OnOverload::Drop => policy::AuditOverload::Drop,
        },
        audit_arguments: match audit.arguments {
            v1::AuditArguments::None => policy::AuditArguments::None,
            v1::AuditArguments::Digest => policy::AuditArguments::Digest,
            v1::AuditArguments::Redacted => policy::AuditArguments::Redacted,
            v1::AuditArguments::Full => policy::AuditArguments::Full,
        },
        audit_redact: audit.redact,
        audit_max_argument_bytes: u32::try_from(audit.max_argument_bytes)
            .unwrap_or(policy::DEFAULT_MAX_ARGUMENT_BYTES),
        id,
    };
    (resolved, problems)
}

/// Header names in lower case. The session's is `auth.sessionIDHeader`, else `session.headerName`, else the default.
fn auth(spec: &v1::MCPServerSpec) -> policy::Auth {
    let defaults = policy::Auth::default();
    let given = spec.auth.clone().unwrap_or_default();
    let name =
        |given: Option<String>, default: String| given.map_or(default, |name| name.to_ascii_lowercase());
    let session = given
        .session_id_header
        .or_else(|| spec.session.as_ref().and_then(|session| session.header_name.clone()));
    policy::Auth {
        mode: match given.mode {
            v1::AuthMode::None => policy::AuthMode::None,
            v1::AuthMode::Header => policy::AuthMode::Header,
            v1::AuthMode::Oauth => policy::AuthMode::Oauth,
        },
        human_header: name(given.human_id_header, defaults.human_header),
        agent_header: name(given.agent_id_header, defaults.agent_header),
        team_header: name(given.team_id_header, defaults.team_header),
        session_header: name(session, defaults.session_header),
        token_header: if given.token_header.is_empty() {
            defaults.token_header
        } else {
            given.token_header.to_ascii_lowercase()
        },
    }
}

/// Fields that were given a meaning elsewhere, and have none here.
fn unused(spec: &v1::MCPServerSpec, problems: &mut Vec<Problem>) {
    let mut warn = |path: &str, message: &str| {
        problems.push(Problem::warning(path, "NotUsed", format!("is not used: {message}")));
    };
    if let Some(analytics) = &spec.analytics {
        if analytics.disabled || !analytics.enabled {
            warn("spec.analytics", "every verdict is recorded");
        }
        if analytics.ingest_url.is_some() {
            warn("spec.analytics.ingestURL", "events go to the platform's ingest");
        }
        if analytics.api_key_secret_ref.is_some() {
            warn("spec.analytics.apiKeySecretRef", "the gateway proves who it is by its pod's own token");
        }
    }
    if spec.auth.as_ref().is_some_and(|auth| auth.trust_domain.is_some()) {
        warn("spec.auth.trustDomain", "client certificates are not read");
    }
}

fn canary(spec: &v1::MCPServerSpec, problems: &mut Vec<Problem>) {
    let rollout = spec.rollout.as_ref().filter(|rollout| rollout.strategy == v1::RolloutStrategy::Canary);
    let Some(canary) = rollout.and_then(|rollout| rollout.canary_replicas) else { return };
    if canary >= spec.replicas {
        let message = format!(
            "is {canary} of {} replicas, which would leave none for the promoted version, so fewer run the new one; raise spec.replicas",
            spec.replicas
        );
        problems.push(Problem::warning("spec.rollout.canaryReplicas", "CanaryTooLarge", message));
    }
}

fn session_rules(spec: &v1::MCPServerSpec, problems: &mut Vec<Problem>) -> policy::SessionRules {
    let given = spec.session.clone().unwrap_or_default();
    let mut seconds = |text: &str, path: &str| {
        duration::seconds(text).unwrap_or_else(|| {
            // The schema refuses these; whoever bypasses it gets the shortest life there is.
            let message = format!("is `{text}`; must be like 24h or 90m; counts as one second");
            problems.push(Problem::error(path, "WrongDuration", message));
            1
        })
    };
    policy::SessionRules {
        required: given.required,
        max_lifetime_seconds: seconds(&given.max_lifetime, "spec.session.maxLifetime"),
        idle_timeout_seconds: seconds(&given.idle_timeout, "spec.session.idleTimeout"),
        upstream_token_header: given.upstream_token_header.to_ascii_lowercase(),
    }
}

fn tools(spec: &v1::MCPServerSpec, problems: &mut Vec<Problem>) -> Vec<policy::Tool> {
    let tool = |(index, tool): (usize, &v1::ToolConfig)| {
        if tool.side_effect.is_none() {
            let message =
                format!("is missing, so `{}` cannot be called; say read, write or destructive", tool.name);
            problems.push(Problem::warning(
                format!("spec.tools[{index}].sideEffect"),
                "SideEffectUnknown",
                message,
            ));
        }
        policy::Tool {
            name: tool.name.clone(),
            required_trust: trust(tool.required_trust),
            side_effect: tool.side_effect.map(side_effect),
            risk: tool.risk_level.map(trust).or_else(|| risk(tool)),
        }
    };
    spec.tools.iter().enumerate().map(tool).collect()
}

/// Risk after side effect and required trust, where it is not declared.
fn risk(tool: &v1::ToolConfig) -> Option<policy::Trust> {
    match (tool.side_effect, tool.required_trust) {
        (Some(v1::SideEffect::Destructive), _) | (_, v1::TrustLevel::High) => Some(policy::Trust::High),
        (Some(v1::SideEffect::Write), _) | (_, v1::TrustLevel::Medium) => Some(policy::Trust::Medium),
        (Some(v1::SideEffect::Read), v1::TrustLevel::Low) => Some(policy::Trust::Low),
        (None, v1::TrustLevel::Low) => None,
    }
}

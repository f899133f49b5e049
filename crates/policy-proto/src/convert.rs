//! Conversion between messages and policy types. Both ways are total: what a reader does not know becomes the
//! stricter value, so a filter older than its control plane never allows more than it was told.

use alloc::string::String;
use alloc::vec::Vec;

use sallyport_policy as policy;

use crate::v1;

impl From<policy::Trust> for v1::Trust {
    fn from(trust: policy::Trust) -> Self {
        match trust {
            policy::Trust::Low => Self::Low,
            policy::Trust::Medium => Self::Medium,
            policy::Trust::High => Self::High,
        }
    }
}

/// Trust somebody has: unknown values count as the least.
fn held(value: i32) -> policy::Trust {
    match v1::Trust::try_from(value) {
        Ok(v1::Trust::High) => policy::Trust::High,
        Ok(v1::Trust::Medium) => policy::Trust::Medium,
        Ok(v1::Trust::Low | v1::Trust::Unspecified) | Err(_) => policy::Trust::Low,
    }
}

/// Trust somebody needs: unknown values count as the most.
fn needed(value: i32) -> policy::Trust {
    match v1::Trust::try_from(value) {
        Ok(v1::Trust::Low | v1::Trust::Unspecified) => policy::Trust::Low,
        Ok(v1::Trust::Medium) => policy::Trust::Medium,
        Ok(v1::Trust::High) | Err(_) => policy::Trust::High,
    }
}

impl From<policy::SideEffect> for v1::SideEffect {
    fn from(effect: policy::SideEffect) -> Self {
        match effect {
            policy::SideEffect::Read => Self::Read,
            policy::SideEffect::Write => Self::Write,
            policy::SideEffect::Destructive => Self::Destructive,
        }
    }
}

fn side_effect(value: i32) -> Option<policy::SideEffect> {
    match v1::SideEffect::try_from(value) {
        Ok(v1::SideEffect::Read) => Some(policy::SideEffect::Read),
        Ok(v1::SideEffect::Write) => Some(policy::SideEffect::Write),
        Ok(v1::SideEffect::Destructive) => Some(policy::SideEffect::Destructive),
        Ok(v1::SideEffect::Unspecified) | Err(_) => None,
    }
}

impl From<&policy::Subject> for v1::Subject {
    fn from(subject: &policy::Subject) -> Self {
        Self {
            human_id: subject.human_id.clone(),
            agent_id: subject.agent_id.clone(),
            team_id: subject.team_id.clone(),
        }
    }
}

fn subject(message: Option<v1::Subject>) -> policy::Subject {
    message.map_or_else(policy::Subject::default, |m| policy::Subject {
        human_id: m.human_id,
        agent_id: m.agent_id,
        team_id: m.team_id,
    })
}

impl From<&policy::Grant> for v1::Grant {
    fn from(grant: &policy::Grant) -> Self {
        Self {
            namespace: grant.id.namespace.clone(),
            name: grant.id.name.clone(),
            server_namespace: grant.server.namespace.clone(),
            server_name: grant.server.name.clone(),
            subject: Some((&grant.subject).into()),
            max_trust: v1::Trust::from(grant.max_trust).into(),
            allowed_side_effects: grant
                .allowed_side_effects
                .iter()
                .map(|e| v1::SideEffect::from(e).into())
                .collect(),
            policy_version: grant.policy_version.clone(),
            disabled: grant.disabled,
            tool_rules: grant
                .tool_rules
                .iter()
                .map(|rule| v1::ToolRule {
                    name: rule.name.clone(),
                    deny: rule.deny,
                    required_trust: v1::Trust::from(rule.required_trust).into(),
                })
                .collect(),
        }
    }
}

impl From<v1::Grant> for policy::Grant {
    fn from(m: v1::Grant) -> Self {
        Self {
            id: policy::ObjectId::new(m.namespace, m.name),
            server: policy::ObjectId::new(m.server_namespace, m.server_name),
            subject: subject(m.subject),
            max_trust: held(m.max_trust),
            allowed_side_effects: m.allowed_side_effects.into_iter().filter_map(side_effect).collect(),
            policy_version: m.policy_version,
            disabled: m.disabled,
            tool_rules: m
                .tool_rules
                .into_iter()
                .map(|rule| policy::ToolRule {
                    name: rule.name,
                    deny: rule.deny,
                    required_trust: needed(rule.required_trust),
                })
                .collect(),
        }
    }
}

impl From<&policy::Session> for v1::Session {
    fn from(session: &policy::Session) -> Self {
        Self {
            namespace: session.id.namespace.clone(),
            name: session.id.name.clone(),
            server_namespace: session.server.namespace.clone(),
            server_name: session.server.name.clone(),
            subject: Some((&session.subject).into()),
            consented_trust: v1::Trust::from(session.consented_trust).into(),
            revoked: session.revoked,
            expires_at: session.expires_at.unwrap_or(0),
            issued_at: session.issued_at.unwrap_or(0),
            policy_version: session.policy_version.clone(),
        }
    }
}

impl From<v1::Session> for policy::Session {
    fn from(m: v1::Session) -> Self {
        Self {
            id: policy::ObjectId::new(m.namespace, m.name),
            server: policy::ObjectId::new(m.server_namespace, m.server_name),
            subject: subject(m.subject),
            consented_trust: held(m.consented_trust),
            revoked: m.revoked,
            expires_at: Some(m.expires_at).filter(|t| *t != 0),
            issued_at: Some(m.issued_at).filter(|t| *t != 0),
            policy_version: m.policy_version,
        }
    }
}

impl From<&policy::ServerPolicy> for v1::Server {
    fn from(server: &policy::ServerPolicy) -> Self {
        Self {
            namespace: server.id.namespace.clone(),
            name: server.id.name.clone(),
            team_id: server.team_id.clone(),
            cluster: server.cluster.clone(),
            route: server.route.clone(),
            auth: Some((&server.auth).into()),
            policy: Some(v1::PolicyRules {
                mode: match server.mode {
                    policy::Mode::AllowList => v1::Mode::AllowList,
                    policy::Mode::Observe => v1::Mode::Observe,
                }
                .into(),
                default_allow: server.default_allow,
                enforce_on: match server.enforce_on {
                    policy::EnforceOn::CallTool => v1::EnforceOn::CallTool,
                    policy::EnforceOn::All => v1::EnforceOn::All,
                }
                .into(),
                policy_version: server.policy_version.clone(),
            }),
            session: Some(v1::SessionRules {
                required: server.session.required,
                max_lifetime_seconds: server.session.max_lifetime_seconds,
                idle_timeout_seconds: server.session.idle_timeout_seconds,
                upstream_token_header: server.session.upstream_token_header.clone(),
            }),
            tools: server.tools.iter().map(v1::Tool::from).collect(),
            prompts: server.prompts.clone(),
            resources: server.resources.clone(),
            tasks: server.tasks.clone(),
            deny_response: match server.deny_response {
                policy::DenyResponse::Auto => v1::DenyResponse::Auto,
                policy::DenyResponse::Http => v1::DenyResponse::Http,
                policy::DenyResponse::Jsonrpc => v1::DenyResponse::Jsonrpc,
            }
            .into(),
            max_request_bytes: server.max_request_bytes,
            audit_overload: match server.audit_overload {
                policy::AuditOverload::Deny => v1::AuditOverload::Deny,
                policy::AuditOverload::Drop => v1::AuditOverload::Drop,
            }
            .into(),
            audit_arguments: v1::AuditArguments::from(server.audit_arguments).into(),
            audit_redact: server.audit_redact.clone(),
            audit_max_argument_bytes: server.audit_max_argument_bytes,
        }
    }
}

impl From<v1::Server> for policy::ServerPolicy {
    fn from(m: v1::Server) -> Self {
        let rules = m.policy.unwrap_or_default();
        let session = m.session.unwrap_or_default();
        Self {
            id: policy::ObjectId::new(m.namespace, m.name),
            team_id: m.team_id,
            cluster: m.cluster,
            route: m.route,
            auth: m.auth.map_or_else(policy::Auth::default, policy::Auth::from),
            mode: match v1::Mode::try_from(rules.mode) {
                Ok(v1::Mode::Observe) => policy::Mode::Observe,
                Ok(v1::Mode::AllowList | v1::Mode::Unspecified) | Err(_) => policy::Mode::AllowList,
            },
            default_allow: rules.default_allow,
            enforce_on: match v1::EnforceOn::try_from(rules.enforce_on) {
                Ok(v1::EnforceOn::CallTool | v1::EnforceOn::Unspecified) => policy::EnforceOn::CallTool,
                Ok(v1::EnforceOn::All) | Err(_) => policy::EnforceOn::All,
            },
            policy_version: rules.policy_version,
            session: policy::SessionRules {
                required: session.required,
                max_lifetime_seconds: session.max_lifetime_seconds,
                idle_timeout_seconds: session.idle_timeout_seconds,
                upstream_token_header: session.upstream_token_header,
            },
            tools: m.tools.into_iter().map(policy::Tool::from).collect(),
            prompts: m.prompts,
            resources: m.resources,
            tasks: m.tasks,
            deny_response: match v1::DenyResponse::try_from(m.deny_response) {
                Ok(v1::DenyResponse::Http) => policy::DenyResponse::Http,
                Ok(v1::DenyResponse::Jsonrpc) => policy::DenyResponse::Jsonrpc,
                Ok(v1::DenyResponse::Auto | v1::DenyResponse::Unspecified) | Err(_) => {
                    policy::DenyResponse::Auto
                }
            },
            max_request_bytes: match m.max_request_bytes {
                0 => policy::DEFAULT_MAX_REQUEST_BYTES,
                bytes => bytes,
            },
            audit_overload: match v1::AuditOverload::try_from(m.audit_overload) {
                Ok(v1::AuditOverload::Drop) => policy::AuditOverload::Drop,
                Ok(v1::AuditOverload::Deny | v1::AuditOverload::Unspecified) | Err(_) => {
                    policy::AuditOverload::Deny
                }
            },
            audit_arguments: audit_arguments(m.audit_arguments),
            audit_redact: m.audit_redact,
            audit_max_argument_bytes: match m.audit_max_argument_bytes {
                0 => policy::DEFAULT_MAX_ARGUMENT_BYTES,
                bytes => bytes,
            },
        }
    }
}

impl From<policy::AuditArguments> for v1::AuditArguments {
    fn from(arguments: policy::AuditArguments) -> Self {
        match arguments {
            policy::AuditArguments::None => Self::None,
            policy::AuditArguments::Digest => Self::Digest,
            policy::AuditArguments::Redacted => Self::Redacted,
            policy::AuditArguments::Full => Self::Full,
        }
    }
}

/// What may be recorded: unknown values count as nothing.
fn audit_arguments(value: i32) -> policy::AuditArguments {
    match v1::AuditArguments::try_from(value) {
        Ok(v1::AuditArguments::None) | Err(_) => policy::AuditArguments::None,
        Ok(v1::AuditArguments::Digest | v1::AuditArguments::Unspecified) => policy::AuditArguments::Digest,
        Ok(v1::AuditArguments::Redacted) => policy::AuditArguments::Redacted,
        Ok(v1::AuditArguments::Full) => policy::AuditArguments::Full,
    }
}

impl From<&policy::Auth> for v1::Auth {
    fn from(auth: &policy::Auth) -> Self {
        Self {
            mode: match auth.mode {
                policy::AuthMode::None => v1::AuthMode::None,
                policy::AuthMode::Header => v1::AuthMode::Header,
                policy::AuthMode::Oauth => v1::AuthMode::Oauth,
            }
            .into(),
            human_header: auth.human_header.clone(),
            agent_header: auth.agent_header.clone(),
            team_header: auth.team_header.clone(),
            session_header: auth.session_header.clone(),
            token_header: auth.token_header.clone(),
        }
    }
}

impl From<v1::Auth> for policy::Auth {
    fn from(m: v1::Auth) -> Self {
        let default = Self::default();
        let name = |given: String, default: String| if given.is_empty() { default } else { given };
        Self {
            mode: match v1::AuthMode::try_from(m.mode) {
                Ok(v1::AuthMode::Header | v1::AuthMode::Unspecified) => policy::AuthMode::Header,
                Ok(v1::AuthMode::None) => policy::AuthMode::None,
                // A mode this reader does not know identifies nobody it could let in.
                Ok(v1::AuthMode::Oauth) | Err(_) => policy::AuthMode::Oauth,
            },
            human_header: name(m.human_header, default.human_header),
            agent_header: name(m.agent_header, default.agent_header),
            team_header: name(m.team_header, default.team_header),
            session_header: name(m.session_header, default.session_header),
            token_header: name(m.token_header, default.token_header),
        }
    }
}

impl From<&policy::Tool> for v1::Tool {
    fn from(tool: &policy::Tool) -> Self {
        Self {
            name: tool.name.clone(),
            required_trust: v1::Trust::from(tool.required_trust).into(),
            side_effect: tool.side_effect.map_or(v1::SideEffect::Unspecified, v1::SideEffect::from).into(),
            risk: tool.risk.map_or(v1::Trust::Unspecified, v1::Trust::from).into(),
        }
    }
}

impl From<v1::Tool> for policy::Tool {
    fn from(m: v1::Tool) -> Self {
        Self {
            name: m.name,
            required_trust: needed(m.required_trust),
            side_effect: side_effect(m.side_effect),
            risk: Some(m.risk).filter(|risk| *risk != 0).map(needed),
        }
    }
}

/// The servers of a configuration.
pub fn servers(config: v1::FilterConfig) -> Vec<policy::ServerPolicy> {
    config.servers.into_iter().map(policy::ServerPolicy::from).collect()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn server() -> policy::ServerPolicy {
        policy::ServerPolicy {
            id: policy::ObjectId::new("ns", "payments"),
            team_id: "t".into(),
            cluster: "c".into(),
            route: "ns/payments".into(),
            auth: policy::Auth {
                mode: policy::AuthMode::Oauth,
                human_header: "x-h".into(),
                ..policy::Auth::default()
            },
            mode: policy::Mode::Observe,
            default_allow: true,
            enforce_on: policy::EnforceOn::All,
            policy_version: "v7".into(),
            session: policy::SessionRules {
                required: true,
                max_lifetime_seconds: 5,
                idle_timeout_seconds: 6,
                upstream_token_header: "authorization".into(),
            },
            tools: vec![policy::Tool {
                name: "refund".into(),
                required_trust: policy::Trust::High,
                side_effect: Some(policy::SideEffect::Destructive),
                risk: Some(policy::Trust::High),
            }],
            prompts: vec!["p".into()],
            resources: vec!["r://{id}".into()],
            tasks: vec!["refund".into()],
            deny_response: policy::DenyResponse::Jsonrpc,
            max_request_bytes: 2048,
            audit_overload: policy::AuditOverload::Drop,
            audit_arguments: policy::AuditArguments::Redacted,
            audit_redact: vec!["/card/number".into()],
            audit_max_argument_bytes: 512,
        }
    }

    #[test]
    fn a_server_survives_the_round_trip() {
        let config = v1::FilterConfig { servers: vec![v1::Server::from(&server())], ..Default::default() };
        assert_eq!(servers(config), vec![server()]);
    }

    #[test]
    fn a_grant_and_a_session_survive_the_round_trip() {
        let grant = policy::Grant {
            id: policy::ObjectId::new("a", "g"),
            server: policy::ObjectId::new("ns", "payments"),
            subject: policy::Subject { human_id: "h".into(), ..Default::default() },
            max_trust: policy::Trust::Medium,
            allowed_side_effects: policy::SideEffects::NONE.with(policy::SideEffect::Write),
            policy_version: "v7".into(),
            disabled: true,
            tool_rules: vec![policy::ToolRule {
                name: "refund".into(),
                deny: true,
                required_trust: policy::Trust::High,
            }],
        };
        assert_eq!(policy::Grant::from(v1::Grant::from(&grant)), grant);
        let session = policy::Session {
            id: policy::ObjectId::new("a", "s"),
            server: policy::ObjectId::new("ns", "payments"),
            subject: policy::Subject { agent_id: "x".into(), ..Default::default() },
            consented_trust: policy::Trust::High,
            revoked: true,
            expires_at: Some(9),
            issued_at: Some(8),
            policy_version: "v7".to_string(),
        };
        assert_eq!(policy::Session::from(v1::Session::from(&session)), session);
    }

    #[test]
    fn values_of_a_newer_writer_become_the_stricter_ones() {
        assert_eq!(held(99), policy::Trust::Low);
        assert_eq!(needed(99), policy::Trust::High);
        assert_eq!(side_effect(99), None);
        let auth = policy::Auth::from(v1::Auth { mode: 99, ..Default::default() });
        assert_eq!(auth.mode, policy::AuthMode::Oauth);
        assert_eq!(audit_arguments(99), policy::AuditArguments::None);
    }
}

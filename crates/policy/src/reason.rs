//! Why a verdict is what it is: one enum, which is the audit field, the metric label and the text of the answer.

/// How the caller is told: the family of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Allowed.
    Allowed,
    /// Who calls, or with which session, is not established: HTTP 401.
    Unauthenticated,
    /// Known, and not permitted: HTTP 403.
    Forbidden,
    /// The proxy cannot decide now: HTTP 503.
    Unavailable,
}

impl Family {
    /// HTTP status, where a reason has none of its own.
    const fn http_status(self) -> u16 {
        match self {
            Self::Allowed => 200,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::Unavailable => 503,
        }
    }

    /// JSON-RPC error code, where a reason has none of its own; outside the range that JSON-RPC and MCP reserve (-32768
    /// to -32000).
    const fn json_rpc_code(self) -> i32 {
        match self {
            Self::Allowed => 0,
            Self::Unauthenticated => -31401,
            Self::Forbidden => -31403,
            Self::Unavailable => -31503,
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal, $family:ident, $remedy:literal;)+) => {
        /// Why a verdict is what it is. The strings are stable; `docs/policy.md` has them as a table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The family, which gives HTTP status and JSON-RPC code.
            pub const fn family(self) -> Family {
                match self { $(Self::$variant => Family::$family,)+ }
            }

            /// HTTP status of an answer outside a legacy MCP session.
            pub const fn http_status(self) -> u16 {
                match self {
                    Self::NoRoute | Self::MethodNotAllowed | Self::McpSessionOfAnother => 404,
                    _ => self.family().http_status(),
                }
            }

            /// JSON-RPC error code.
            pub const fn json_rpc_code(self) -> i32 {
                match self {
                    // What MCP demands for a method that is not there; clients tell by it that the server is.
                    Self::MethodNotAllowed => -32601,
                    _ => self.family().json_rpc_code(),
                }
            }

            /// What the caller or the administrator can do about it.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)+ }
            }
        }
    };
}

reasons! {
    /// Allowed.
    Allowed = "allowed", Allowed, "none needed";
    /// No identity header, or none of them with a value.
    MissingIdentity = "missing_identity", Unauthenticated, "send the identity headers that the server names";
    /// The server demands a session and none was presented.
    MissingSession = "missing_session", Unauthenticated, "open a session and send its id";
    /// Unknown session, or one of another subject or server.
    SessionNotFound = "session_not_found", Unauthenticated, "open a session of your own for this server";
    /// Withdrawn.
    SessionRevoked = "session_revoked", Unauthenticated, "ask for a new session";
    /// Past its end.
    SessionExpired = "session_expired", Unauthenticated, "open a new session";
    /// Older than the server allows (`session.maxLifetime`).
    SessionLifetimeExceeded = "session_lifetime_exceeded", Unauthenticated, "open a new session";
    /// Not used for longer than the server allows (`session.idleTimeout`).
    SessionIdle = "session_idle", Unauthenticated, "open a new session";
    /// Grant or session was made for another version of the server's policy.
    PolicyVersionMismatch = "policy_version_mismatch", Forbidden, "renew grant and consent for the server's policyVersion";
    /// No grant is for this subject.
    NoMatchingGrant = "no_matching_grant", Forbidden, "ask an administrator for a grant";
    /// The subject's grants are switched off.
    GrantDisabled = "grant_disabled", Forbidden, "ask an administrator to enable the grant";
    /// A grant forbids the tool in so many words.
    ToolDenied = "tool_denied", Forbidden, "ask an administrator; a deny rule names this tool";
    /// The subject's grants do not name the tool.
    ToolNotGranted = "tool_not_granted", Forbidden, "ask an administrator to add the tool to the grant";
    /// The server does not declare the tool, or not what it does.
    ToolSideEffectUnknown = "tool_side_effect_unknown", Forbidden, "declare the tool with its sideEffect on the MCPServer";
    /// The grant does not list the side effect.
    SideEffectNotAllowed = "side_effect_not_allowed", Forbidden, "ask an administrator to add the side effect to allowedSideEffects";
    /// The smaller of granted and consented trust does not reach what the tool requires.
    TrustTooLow = "trust_too_low", Forbidden, "consent to more trust, or ask for a grant with a higher maxTrust";
    /// The server does not declare the prompt.
    PromptNotDeclared = "prompt_not_declared", Forbidden, "declare the prompt on the MCPServer";
    /// The server does not declare the resource.
    ResourceNotDeclared = "resource_not_declared", Forbidden, "declare the resource, or a pattern for it, under mcpResources";
    /// The URI is not in its normal form, so two readers could understand two resources.
    ResourceUriNotNormal = "resource_uri_not_normal", Forbidden, "send the URI without dot segments, escapes of unreserved characters or backslashes";
    /// The server declares no tasks, or not for this tool.
    TaskNotDeclared = "task_not_declared", Forbidden, "declare the tool under tasks on the MCPServer";
    /// A method that is not known, and so not governed.
    MethodNotAllowed = "method_not_allowed", Forbidden, "use a method of the MCP revisions that are supported";
    /// An MCP session (`Mcp-Session-Id`) that another caller began.
    McpSessionOfAnother = "mcp_session_of_another", Forbidden, "initialize an MCP session of your own";
    /// No server is behind this host and path.
    NoRoute = "no_route", Forbidden, "call a host and path that a governed MCPServer is exposed at";
    /// The proxy has no policy for this server.
    PolicyUnavailable = "policy_unavailable", Unavailable, "wait until the proxy has its configuration";
    /// The proxy is still learning grants and sessions.
    StateSyncing = "state_syncing", Unavailable, "try again in a moment";
    /// Audit events cannot be kept.
    AuditUnavailable = "audit_unavailable", Unavailable, "try again when the audit ingest is back";
    /// Tokens are demanded and cannot be verified here.
    OauthProviderUnavailable = "oauth_provider_unavailable", Unavailable, "use auth.mode header behind an edge that verifies tokens";
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
    }

    #[test]
    fn codes_of_our_own_lie_outside_the_reserved_range() {
        let of_mcp = [Reason::Allowed, Reason::MethodNotAllowed];
        for reason in Reason::ALL.iter().filter(|r| !of_mcp.contains(r)) {
            let code = reason.json_rpc_code();
            assert!(!(-32768..=-32000).contains(&code), "{reason:?}");
        }
    }
}

//! The model as the control plane tells it: plain values, one per object, no index.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Largest request body that is judged unless the server says otherwise, in bytes.
pub const DEFAULT_MAX_REQUEST_BYTES: u32 = 1 << 20;
/// Longest arguments that the record keeps unless the server says otherwise, in bytes.
pub const DEFAULT_MAX_ARGUMENT_BYTES: u32 = 4096;

/// Identity of a Kubernetes object: names are unique within a namespace only.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Namespace.
    pub namespace: String,
    /// Name within it.
    pub name: String,
}

impl ObjectId {
    /// An id of its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How far somebody is trusted, or must be; ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// The least.
    #[default]
    Low,
    /// In between.
    Medium,
    /// The most.
    High,
}

impl Trust {
    /// The word used in resources, events and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What a tool does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SideEffect {
    /// Only reads.
    Read,
    /// Adds or changes, and can be undone.
    Write,
    /// Cannot be undone.
    Destructive,
}

impl SideEffect {
    /// The word used in resources, events and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destructive => "destructive",
        }
    }
}

/// A set of side effects; the empty set allows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SideEffects(u8);

impl SideEffects {
    /// Nothing.
    pub const NONE: Self = Self(0);

    const fn bit(effect: SideEffect) -> u8 {
        match effect {
            SideEffect::Read => 1,
            SideEffect::Write => 2,
            SideEffect::Destructive => 4,
        }
    }

    /// Adds one.
    #[must_use]
    pub const fn with(self, effect: SideEffect) -> Self {
        Self(self.0 | Self::bit(effect))
    }

    /// Whether `effect` is in the set.
    pub const fn contains(self, effect: SideEffect) -> bool {
        self.0 & Self::bit(effect) != 0
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, ascending.
    pub fn iter(self) -> impl Iterator<Item = SideEffect> {
        [SideEffect::Read, SideEffect::Write, SideEffect::Destructive]
            .into_iter()
            .filter(move |e| self.contains(*e))
    }
}

impl FromIterator<SideEffect> for SideEffects {
    fn from_iter<I: IntoIterator<Item = SideEffect>>(effects: I) -> Self {
        effects.into_iter().fold(Self::NONE, Self::with)
    }
}

/// Whom a grant or session is for. An empty field means any; a subject with no field set matches nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The person.
    pub human_id: String,
    /// The agent.
    pub agent_id: String,
    /// The team.
    pub team_id: String,
}

impl Subject {
    /// Whether no field is set.
    pub fn is_empty(&self) -> bool {
        self.human_id.is_empty() && self.agent_id.is_empty() && self.team_id.is_empty()
    }
}

/// Where identity comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Nobody is identified; identity headers are not read, and stripped.
    None,
    /// The request's headers, as an authenticating edge set them.
    #[default]
    Header,
    /// Verified token claims.
    Oauth,
}

/// Where identity is found. Header names are lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The source.
    pub mode: AuthMode,
    /// Header of the person's id.
    pub human_header: String,
    /// Header of the agent's id.
    pub agent_header: String,
    /// Header of the team's id.
    pub team_header: String,
    /// Header of the session's id.
    pub session_header: String,
    /// Header of the bearer token.
    pub token_header: String,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mode: AuthMode::Header,
            human_header: "x-mcp-human-id".into(),
            agent_header: "x-mcp-agent-id".into(),
            team_header: "x-mcp-team-id".into(),
            session_header: "x-mcp-agent-session".into(),
            token_header: "authorization".into(),
        }
    }
}

/// Whether verdicts are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are.
    #[default]
    AllowList,
    /// Everything is evaluated and recorded, nothing but malformed requests refused.
    Observe,
}

/// Which methods need a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnforceOn {
    /// Calls: tools, prompts, resources, completion, subscriptions, tasks.
    #[default]
    CallTool,
    /// Control methods and lists too.
    All,
}

/// How a denial is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DenyResponse {
    /// HTTP 200 with a JSON-RPC error inside a legacy MCP session, an HTTP status otherwise.
    #[default]
    Auto,
    /// Always the HTTP status.
    Http,
    /// Always HTTP 200 with a JSON-RPC error.
    Jsonrpc,
}

/// What happens when the ring of unacknowledged audit events is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditOverload {
    /// Requests are denied until there is room.
    #[default]
    Deny,
    /// Events are dropped, and the gap is counted.
    Drop,
}

/// What the record keeps of a call's arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditArguments {
    /// Nothing.
    None,
    /// A keyed digest.
    #[default]
    Digest,
    /// The digest, and the arguments without the values at the server's pointers.
    Redacted,
    /// The digest, and the arguments.
    Full,
}

impl AuditArguments {
    /// As manifests have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Digest => "digest",
            Self::Redacted => "redacted",
            Self::Full => "full",
        }
    }
}

/// What a server demands of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRules {
    /// A call without a session is denied.
    pub required: bool,
    /// Longest life since its creation, in seconds; 0: unlimited.
    pub max_lifetime_seconds: u64,
    /// Longest pause between uses, in seconds; 0: unlimited.
    pub idle_timeout_seconds: u64,
    /// Header (lower case) that carries the token meant for the upstream; the caller's own is stripped. Empty: none.
    pub upstream_token_header: String,
}

/// A tool of a server's inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Name, exactly as on the wire.
    pub name: String,
    /// Trust a caller needs.
    pub required_trust: Trust,
    /// What it does; a tool without cannot be called.
    pub side_effect: Option<SideEffect>,
    /// Risk, for the record.
    pub risk: Option<Trust>,
}

/// Everything of one `MCPServer` that a verdict depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPolicy {
    /// The object.
    pub id: ObjectId,
    /// Owning team.
    pub team_id: String,
    /// Cluster name, for the record.
    pub cluster: String,
    /// Name of the proxy route that leads here. Empty: the only server of its listener.
    pub route: String,
    /// Identity.
    pub auth: Auth,
    /// Enforce or observe.
    pub mode: Mode,
    /// Whether what no grant decides is allowed.
    pub default_allow: bool,
    /// Which methods need a grant.
    pub enforce_on: EnforceOn,
    /// Consents that name another version do not count.
    pub policy_version: String,
    /// Sessions.
    pub session: SessionRules,
    /// Tools that may be called.
    pub tools: Vec<Tool>,
    /// Names of prompts that may be used.
    pub prompts: Vec<String>,
    /// Patterns of resource URIs that may be read: `{x}` stands for one path segment, a trailing `*` for any rest.
    pub resources: Vec<String>,
    /// Names of tools that may run as tasks; empty: no task method is allowed.
    pub tasks: Vec<String>,
    /// Form of a denial.
    pub deny_response: DenyResponse,
    /// Largest body that is judged, in bytes.
    pub max_request_bytes: u32,
    /// Behaviour at a full audit ring.
    pub audit_overload: AuditOverload,
    /// What the record keeps of arguments.
    pub audit_arguments: AuditArguments,
    /// JSON pointers to what it must not keep; a part `*` stands for any key or index.
    pub audit_redact: Vec<String>,
    /// Longest arguments that it keeps, in bytes.
    pub audit_max_argument_bytes: u32,
}

/// A rule of a grant for one tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolRule {
    /// The tool.
    pub name: String,
    /// Deny it; beats every allow.
    pub deny: bool,
    /// Trust the rule demands beyond the tool's own.
    pub required_trust: Trust,
}

/// An administrator's grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The object.
    pub id: ObjectId,
    /// The server it is for.
    pub server: ObjectId,
    /// Whom it is for.
    pub subject: Subject,
    /// Trust ceiling.
    pub max_trust: Trust,
    /// Side effects it allows; none by default.
    pub allowed_side_effects: SideEffects,
    /// Version of the server's policy it was made for; empty: any.
    pub policy_version: String,
    /// Switched off.
    pub disabled: bool,
    /// Rules for tools; none: all tools.
    pub tool_rules: Vec<ToolRule>,
}

/// A user's consented session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The object; its name is the id on the wire.
    pub id: ObjectId,
    /// The server it is for.
    pub server: ObjectId,
    /// Whose it is.
    pub subject: Subject,
    /// Trust the user consented to.
    pub consented_trust: Trust,
    /// Withdrawn.
    pub revoked: bool,
    /// Seconds since 1970; none: no end of its own.
    pub expires_at: Option<i64>,
    /// Seconds since 1970; none: not known.
    pub issued_at: Option<i64>,
    /// Version of the server's policy it was made for; empty: any.
    pub policy_version: String,
}

impl Session {
    /// Bytes that its identifiers take together; a store takes up to 65,535.
    pub fn identifier_bytes(&self) -> usize {
        [
            &self.id.namespace,
            &self.id.name,
            &self.subject.human_id,
            &self.subject.agent_id,
            &self.subject.team_id,
            &self.policy_version,
        ]
        .into_iter()
        .fold(0, |sum, part| sum.saturating_add(part.len()))
    }
}

//! Parts of a server's spec.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PolicyDecision, SecretKeyRef, SideEffect, TrustLevel};

pub(super) fn default_replicas() -> i32 {
    1
}

pub(super) fn default_port() -> i32 {
    8088
}

pub(super) fn default_service_port() -> i32 {
    80
}

fn default_gateway_port() -> i32 {
    8091
}

fn default_max_request_bytes() -> i32 {
    1_048_576
}

fn default_policy_version() -> String {
    "v1".into()
}

fn default_max_lifetime() -> String {
    "24h".into()
}

fn default_idle_timeout() -> String {
    "1h".into()
}

fn authorization() -> String {
    "Authorization".into()
}

fn default_true() -> bool {
    true
}

/// A tool of the inventory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolConfig {
    /// Name, exactly as on the wire.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// Trust that a caller needs.
    #[serde(default)]
    pub required_trust: TrustLevel,
    /// What it does to the world; without it, it cannot be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side_effect: Option<SideEffect>,
    /// Risk, for the record; by default after side effect and trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk_level: Option<TrustLevel>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::bounds::labels")]
    pub labels: BTreeMap<String, String>,
}

/// A prompt, resource or task of the inventory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryItem {
    /// Name, or URI.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::bounds::labels")]
    pub labels: BTreeMap<String, String>,
}

/// Where identity comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    #[expect(missing_docs, reason = "described on the field")]
    None,
    #[default]
    #[expect(missing_docs, reason = "described on the field")]
    Header,
    #[expect(missing_docs, reason = "described on the field")]
    Oauth,
}

/// Identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mode != 'oauth' || (has(self.issuerURL) && self.issuerURL != '')")
    .message("is missing; mode oauth needs an issuer").field_path(".issuerURL"))]
pub struct AuthConfig {
    /// `header`: as the request's headers say, which an edge before the gateway must have verified. `none`: nobody is
    /// identified, and no grant matches. `oauth`: verified tokens.
    #[serde(default)]
    pub mode: AuthMode,
    /// Header of the person's id; by default `X-MCP-Human-ID`.
    #[serde(default, rename = "humanIDHeader", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub human_id_header: Option<String>,
    /// Header of the agent's id; by default `X-MCP-Agent-ID`.
    #[serde(default, rename = "agentIDHeader", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub agent_id_header: Option<String>,
    /// Header of the team's id; by default `X-MCP-Team-ID`.
    #[serde(default, rename = "teamIDHeader", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub team_id_header: Option<String>,
    /// Header of the session's id; by default `session.headerName`.
    #[serde(default, rename = "sessionIDHeader", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub session_id_header: Option<String>,
    /// Header of the token.
    #[serde(default = "authorization")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub token_header: String,
    /// Who issues the tokens.
    #[serde(default, rename = "issuerURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub issuer_url: Option<String>,
    /// For whom they must be issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub audience: Option<String>,
    /// SPIFFE trust domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub trust_domain: Option<String>,
}

/// Enforce or observe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyMode {
    #[default]
    #[expect(missing_docs, reason = "described on the field")]
    AllowList,
    #[expect(missing_docs, reason = "described on the field")]
    Observe,
}

/// Which methods need a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnforceOn {
    #[default]
    #[expect(missing_docs, reason = "described on the field")]
    CallTool,
    #[expect(missing_docs, reason = "described on the field")]
    All,
}

/// How calls are decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyConfig {
    /// `allow-list` enforces; `observe` evaluates and records, and lets everything well-formed pass.
    #[serde(default)]
    pub mode: PolicyMode,
    /// What becomes of calls that no grant decides.
    #[serde(default)]
    pub default_decision: PolicyDecision,
    /// `call_tool`: calls (tools, prompts, resources, completion, subscriptions, tasks) need identity and grant.
    /// `all`: control methods and lists too.
    #[serde(default)]
    pub enforce_on: EnforceOn,
    /// Grants and sessions that name another version do not count: raising it withdraws all older consent at once.
    #[serde(default = "default_policy_version")]
    #[schemars(length(max = 64))]
    pub policy_version: String,
}

/// What sessions must be like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionConfig {
    /// A call without a session is denied.
    #[serde(default)]
    pub required: bool,
    /// Where sessions are kept; `kubernetes` is the only store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^kubernetes$"))]
    pub store: Option<String>,
    /// Header of the session's id, unless `auth.sessionIDHeader` names one; by default `X-MCP-Agent-Session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub header_name: Option<String>,
    /// Longest life since its creation, as `24h` or `90m`; `0s`: unlimited.
    #[serde(default = "default_max_lifetime")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"))]
    pub max_lifetime: String,
    /// Longest pause between uses, judged by each proxy for itself; `0s`: unlimited.
    #[serde(default = "default_idle_timeout")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"))]
    pub idle_timeout: String,
    /// Header that carries the token meant for the upstream; what the caller sends in it is removed.
    #[serde(default = "authorization")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub upstream_token_header: String,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            required: false,
            store: None,
            header_name: None,
            max_lifetime: default_max_lifetime(),
            idle_timeout: default_idle_timeout(),
            upstream_token_header: authorization(),
        }
    }
}

/// The gateway before the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConfig {
    /// Calls pass the gateway and are governed.
    #[serde(default)]
    pub enabled: bool,
    /// Image of the gateway; by default the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: Option<String>,
    /// Port that the gateway listens on.
    #[serde(default = "default_gateway_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Where the server is; by default `http://127.0.0.1:{port}`. A path in it takes the place of the public one.
    #[serde(default, rename = "upstreamURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[^/\s]+"))]
    pub upstream_url: Option<String>,
    /// Removed from the front of the path before the call goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^/"))]
    pub strip_prefix: Option<String>,
    /// Resources of the gateway's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Largest request body that is judged, in bytes; a larger one is refused.
    #[serde(default = "default_max_request_bytes")]
    #[schemars(range(min = 1024, max = 4_194_304))]
    pub max_request_bytes: i32,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            image: None,
            port: default_gateway_port(),
            upstream_url: None,
            strip_prefix: None,
            resources: None,
            max_request_bytes: default_max_request_bytes(),
        }
    }
}

/// Names in the server's events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalyticsConfig {
    /// Older switch; `disabled` is the newer one.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// Switch.
    #[serde(default)]
    pub disabled: bool,
    /// Where events go; by default the platform's ingest.
    #[serde(default, rename = "ingestURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub ingest_url: Option<String>,
    /// Source named in events; by default `{name}-gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub source: Option<String>,
    /// Type named in events; by default `mcp.request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub event_type: Option<String>,
    /// Key for the ingest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,
}

/// How a new version replaces the old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutStrategy {
    #[default]
    #[expect(missing_docs, reason = "the word says it")]
    RollingUpdate,
    #[expect(missing_docs, reason = "the word says it")]
    Recreate,
    #[expect(missing_docs, reason = "the word says it")]
    Canary,
}

/// How a new version is rolled out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutConfig {
    /// Strategy.
    #[serde(default)]
    pub strategy: RolloutStrategy,
    /// Pods that may be missing meanwhile: a number or a percentage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[0-9]+%?$"))]
    pub max_unavailable: Option<String>,
    /// Pods that may be there beyond the number: a number or a percentage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = r"^[0-9]+%?$"))]
    pub max_surge: Option<String>,
    /// Pods of the new version beside the old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub canary_replicas: Option<i32>,
}

/// Compute resources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.requests) || !has(self.limits) || !has(self.requests.cpu) || !has(self.limits.cpu) || quantity(self.requests.cpu).compareTo(quantity(self.limits.cpu)) <= 0")
        .message("must not exceed limits.cpu").field_path(".requests.cpu"),
    validation = Rule::new("!has(self.requests) || !has(self.limits) || !has(self.requests.memory) || !has(self.limits.memory) || quantity(self.requests.memory).compareTo(quantity(self.limits.memory)) <= 0")
        .message("must not exceed limits.memory").field_path(".requests.memory")
)]
pub struct ResourceRequirements {
    /// What is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<ResourceList>,
    /// What cannot be exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ResourceList>,
}

/// Amounts, as Kubernetes quantities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourceList {
    /// Processor time, as `100m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|e[0-9]+)?$"))]
    pub cpu: Option<String>,
    /// Memory, as `64Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|e[0-9]+)?$"))]
    pub memory: Option<String>,
}

/// A variable with its value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvVar {
    /// Its name.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[-._A-Za-z][-._A-Za-z0-9]*$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 32768))]
    pub value: String,
}

/// A variable from a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretEnvVar {
    /// Its name.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[-._A-Za-z][-._A-Za-z0-9]*$"))]
    pub name: String,
    /// Where its value is.
    pub secret_key_ref: SecretKeyRef,
}

/// Form of a denial: HTTP 200 with a JSON-RPC error inside a legacy session (`auto`), always HTTP, or always JSON-RPC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DenyResponse {
    #[default]
    #[expect(missing_docs, reason = "described on the type")]
    Auto,
    #[expect(missing_docs, reason = "described on the type")]
    Http,
    #[expect(missing_docs, reason = "described on the type")]
    Jsonrpc,
}

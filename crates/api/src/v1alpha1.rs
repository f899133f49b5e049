//! Version `v1alpha1`.

#[expect(clippy::duplicated_attributes, reason = "columns have the same type")]
mod access;
mod audit;
mod bounds;
mod server;
mod server_parts;
mod status;

pub use access::{MCPAccessGrant, MCPAccessGrantSpec, MCPAgentSession, MCPAgentSessionSpec, ToolRule};
pub use audit::{AuditArguments, AuditConfig, OnOverload};
pub use server::{MCPServer, MCPServerSpec};
pub use server_parts::*;
pub use status::{AccessStatus, MCPServerStatus};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far somebody is trusted, or must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrustLevel {
    #[default]
    #[expect(missing_docs, reason = "the word says it")]
    Low,
    #[expect(missing_docs, reason = "the word says it")]
    Medium,
    #[expect(missing_docs, reason = "the word says it")]
    High,
}

/// What a tool does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SideEffect {
    #[expect(missing_docs, reason = "the word says it")]
    Read,
    #[expect(missing_docs, reason = "the word says it")]
    Write,
    #[expect(missing_docs, reason = "the word says it")]
    Destructive,
}

/// Allow or deny.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolicyDecision {
    #[expect(missing_docs, reason = "the word says it")]
    Allow,
    #[default]
    #[expect(missing_docs, reason = "the word says it")]
    Deny,
}

/// Reference to an MCPServer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerReference {
    /// Name of the MCPServer.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Its namespace; by default that of the referring object. Another one counts only if the server lists the
    /// referring object's namespace in `acceptedNamespaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,
}

/// Whom a grant or session is for. Every field that is set must equal the caller's; one with no field set matches
/// nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubjectRef {
    /// The person.
    #[serde(default, rename = "humanID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256), regex(pattern = r"^[^\x00-\x1f\x7f]*$"))]
    pub human_id: String,
    /// The agent.
    #[serde(default, rename = "agentID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256), regex(pattern = r"^[^\x00-\x1f\x7f]*$"))]
    pub agent_id: String,
    /// The team.
    #[serde(default, rename = "teamID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128), regex(pattern = r"^[^\x00-\x1f\x7f]*$"))]
    pub team_id: String,
}

/// A key of a Secret in the object's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Key within it.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._A-Za-z0-9]+$"))]
    pub key: String,
}

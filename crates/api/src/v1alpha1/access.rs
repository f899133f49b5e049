//! Grants and sessions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AccessStatus, PolicyDecision, SecretKeyRef, ServerReference, SideEffect, SubjectRef, TrustLevel,
};

/// Who may use which server, for which tools, with what trust at most: the administrator's gate.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mcpruntime.org",
    version = "v1alpha1",
    kind = "MCPAccessGrant",
    plural = "mcpaccessgrants",
    shortname = "mcpgrant",
    category = "mcp",
    namespaced,
    status = "AccessStatus",
    derive = "PartialEq",
    printcolumn(name = "Server", json_path = ".spec.serverRef.name", type_ = "string"),
    printcolumn(name = "Human", json_path = ".spec.subject.humanID", type_ = "string"),
    printcolumn(name = "Agent", json_path = ".spec.subject.agentID", type_ = "string"),
    printcolumn(name = "Team", json_path = ".spec.subject.teamID", type_ = "string"),
    printcolumn(name = "Trust", json_path = ".spec.maxTrust", type_ = "string"),
    printcolumn(name = "Disabled", json_path = ".spec.disabled", type_ = "boolean"),
    printcolumn(name = "Enforced", json_path = ".status.enforced", type_ = "string"),
    printcolumn(name = "Reason", json_path = ".status.reason", type_ = "string"),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date"),
    validation = Rule::new("!has(self.spec.toolRules) || self.spec.toolRules.all(r, self.spec.toolRules.exists_one(o, o.name == r.name))")
        .message("spec.toolRules: each tool may have one rule only"),
    validation = Rule::new("!has(self.spec.allowedSideEffects) || self.spec.allowedSideEffects.all(e, self.spec.allowedSideEffects.exists_one(o, o == e))")
        .message("spec.allowedSideEffects: each side effect may stand once only")
)]
#[serde(rename_all = "camelCase")]
pub struct MCPAccessGrantSpec {
    /// The server.
    pub server_ref: ServerReference,
    /// Whom it is for.
    pub subject: SubjectRef,
    /// The most trust the subject can have.
    #[serde(default)]
    pub max_trust: TrustLevel,
    /// What the subject may do to the world; empty: nothing, not even read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub allowed_side_effects: Vec<SideEffect>,
    /// The server's `policy.policyVersion` that this was made for; another one withdraws it. Empty: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub policy_version: String,
    /// Switched off.
    #[serde(default)]
    pub disabled: bool,
    /// Rules for single tools; none: every tool. With any, only tools with an allowing rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub tool_rules: Vec<ToolRule>,
}

/// A grant's rule for one tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolRule {
    /// The tool.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Allow it, or deny it whatever other grants say.
    pub decision: PolicyDecision,
    /// Trust that a call needs beyond what the tool itself requires.
    #[serde(default)]
    pub required_trust: TrustLevel,
}

/// A user's consent that an agent may act: the second gate. Its name is the id that the agent presents.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mcpruntime.org",
    version = "v1alpha1",
    kind = "MCPAgentSession",
    plural = "mcpagentsessions",
    shortname = "mcpsession",
    category = "mcp",
    namespaced,
    status = "AccessStatus",
    derive = "PartialEq",
    printcolumn(name = "Server", json_path = ".spec.serverRef.name", type_ = "string"),
    printcolumn(name = "Human", json_path = ".spec.subject.humanID", type_ = "string"),
    printcolumn(name = "Agent", json_path = ".spec.subject.agentID", type_ = "string"),
    printcolumn(name = "Team", json_path = ".spec.subject.teamID", type_ = "string"),
    printcolumn(name = "Trust", json_path = ".spec.consentedTrust", type_ = "string"),
    printcolumn(name = "Revoked", json_path = ".spec.revoked", type_ = "boolean"),
    printcolumn(name = "Expires", json_path = ".spec.expiresAt", type_ = "string"),
    printcolumn(name = "Enforced", json_path = ".status.enforced", type_ = "string"),
    printcolumn(name = "Reason", json_path = ".status.reason", type_ = "string"),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date"),
    validation = Rule::new("has(self.spec.subject.humanID) && self.spec.subject.humanID != '' || has(self.spec.subject.agentID) && self.spec.subject.agentID != '' || has(self.spec.subject.teamID) && self.spec.subject.teamID != ''")
        .message("spec.subject: a session is somebody's; set humanID, agentID or teamID")
)]
#[serde(rename_all = "camelCase")]
pub struct MCPAgentSessionSpec {
    /// The server.
    pub server_ref: ServerReference,
    /// Whose it is.
    pub subject: SubjectRef,
    /// Trust that the user consented to.
    #[serde(default)]
    pub consented_trust: TrustLevel,
    /// When it ends; none: not by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Withdrawn.
    #[serde(default)]
    pub revoked: bool,
    /// Token that the upstream gets in place of the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_token_secret_ref: Option<SecretKeyRef>,
    /// The server's `policy.policyVersion` that this was made for; another one withdraws it. Empty: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub policy_version: String,
}

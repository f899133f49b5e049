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
    doc = "An administrator's grant: who may use which server, for which tools, and with what trust at most.",
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
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
pub struct MCPAccessGrantSpec {
    /// The server. It cannot change.
    #[x_kube(validation = Rule::new("self == oldSelf").message("cannot change; make another object for another server"))]
    pub server_ref: ServerReference,
    /// Whom it is for. It cannot change.
    #[x_kube(validation = Rule::new("self == oldSelf").message("cannot change; make another object for another subject"))]
    pub subject: SubjectRef,
    /// The most trust the subject can have.
    #[serde(default)]
    pub max_trust: TrustLevel,
    /// What the subject may do to the world; empty: nothing, not even read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allowed_side_effects: Vec<SideEffect>,
    /// The server's `policy.policyVersion` that this was made for; another one withdraws it. Empty: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64), regex(pattern = r"^\S*$"))]
    pub policy_version: String,
    /// Switched off: it allows nothing, and denies nothing either.
    #[serde(default)]
    pub disabled: bool,
    /// Rules for single tools; none: every tool. With any, only tools with an allowing rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
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
// A tombstone: were its end changeable, whom it stops could let it expire, delete it and make it anew.
#[x_kube(validation = Rule::new("!(has(oldSelf.revoked) && oldSelf.revoked && has(self.revoked) && self.revoked) || (has(self.expiresAt) == has(oldSelf.expiresAt) && (!has(self.expiresAt) || self.expiresAt == oldSelf.expiresAt) && has(self.upstreamTokenSecretRef) == has(oldSelf.upstreamTokenSecretRef) && (!has(self.upstreamTokenSecretRef) || self.upstreamTokenSecretRef == oldSelf.upstreamTokenSecretRef) && self.consentedTrust == oldSelf.consentedTrust && has(self.policyVersion) == has(oldSelf.policyVersion) && (!has(self.policyVersion) || self.policyVersion == oldSelf.policyVersion))")
    .message("a revoked session stays as it is; only `revoked` can be cleared, by those who may `unrevoke`"))]
#[kube(
    group = "mcpruntime.org",
    version = "v1alpha1",
    kind = "MCPAgentSession",
    plural = "mcpagentsessions",
    shortname = "mcpsession",
    category = "mcp",
    namespaced,
    doc = "A user's consent that an agent may act for him on one server. Its name is the id that the agent presents.",
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
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
pub struct MCPAgentSessionSpec {
    /// The server. It cannot change.
    #[x_kube(validation = Rule::new("self == oldSelf").message("cannot change; make another object for another server"))]
    pub server_ref: ServerReference,
    /// Whose it is; at least one field must be set. It cannot change.
    #[x_kube(validation = Rule::new("self == oldSelf").message("cannot change; make another object for another subject"))]
    #[x_kube(validation = Rule::new("has(self.humanID) && self.humanID != '' || has(self.agentID) && self.agentID != '' || has(self.teamID) && self.teamID != ''")
        .message("a session is somebody's; set humanID, agentID or teamID"))]
    pub subject: SubjectRef,
    /// Trust that the user consented to.
    #[serde(default)]
    pub consented_trust: TrustLevel,
    /// When it ends; none: not by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Withdrawn: every call with it is denied. To clear it again takes the verb `unrevoke`, and so does deleting a
    /// revoked session that has not expired.
    #[serde(default)]
    pub revoked: bool,
    /// Token that the upstream gets in place of the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_token_secret_ref: Option<SecretKeyRef>,
    /// The server's `policy.policyVersion` that this was made for; another one withdraws it. Empty: any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64), regex(pattern = r"^\S*$"))]
    pub policy_version: String,
}

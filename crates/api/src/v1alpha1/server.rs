//! The server.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{GATEWAY_ADMIN_PORT, GATEWAY_LIFECYCLE_PORT, GATEWAY_PORTS};

use super::{
    AnalyticsConfig, AuditConfig, AuthConfig, DenyResponse, EnvVar, GatewayConfig, InventoryItem,
    MCPServerStatus, PolicyConfig, ResourceRequirements, RolloutConfig, SecretEnvVar, SessionConfig,
    ToolConfig, default_port, default_replicas, default_service_port,
};

/// One MCP server: how it runs, where it is reached, and how calls to it are governed.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mcpruntime.org",
    version = "v1alpha1",
    kind = "MCPServer",
    plural = "mcpservers",
    shortname = "mcps",
    category = "mcp",
    namespaced,
    doc = "One MCP server: how it runs, where it is reached, and how calls to it are governed.",
    status = "MCPServerStatus",
    derive = "PartialEq",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    printcolumn(name = "Team", json_path = ".spec.teamID", type_ = "string"),
    printcolumn(name = "Phase", json_path = ".status.phase", type_ = "string"),
    printcolumn(name = "Policy", json_path = ".status.policyReady", type_ = "boolean"),
    printcolumn(name = "Gateway", json_path = ".status.gatewayReady", type_ = "boolean"),
    printcolumn(name = "Ready", json_path = ".status.deploymentReady", type_ = "boolean"),
    printcolumn(name = "Enforced", json_path = ".status.enforced", type_ = "string"),
    printcolumn(name = "Reason", json_path = ".status.reason", type_ = "string"),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date"),
    // Checked until the object has a status: names cannot change, and one that is older than the rule must stay usable.
    validation = Rule::new("has(self.status) || (self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$'))")
        .message("metadata.name: becomes the name of a Service: at most 63 lower-case letters, digits and `-`, beginning with a letter and not ending with `-`")
)]
#[x_kube(
    validation = Rule::new("!has(self.analytics) || (has(self.analytics.enabled) && !self.analytics.enabled) || (has(self.analytics.disabled) && self.analytics.disabled) || (has(self.gateway) && self.gateway.enabled)")
        .message("analytics come from the gateway; set spec.gateway.enabled or remove analytics").field_path(".analytics"),
    validation = Rule::new("!has(self.gateway) || !self.gateway.enabled || self.gateway.port != self.port")
        .message("must differ from spec.port").field_path(".gateway.port"),
    validation = Rule::new(format!("!has(self.gateway) || !self.gateway.enabled || !(self.port in {GATEWAY_PORTS:?})"))
        .message(format!("is a port of the gateway's own ({GATEWAY_ADMIN_PORT} and {GATEWAY_LIFECYCLE_PORT} are); choose another").as_str()).field_path(".port"),
    validation = Rule::new("!has(self.rollout) || self.rollout.strategy != 'Canary' || has(self.rollout.canaryReplicas)")
        .message("is missing; a canary needs at least 1").field_path(".rollout.canaryReplicas")
)]
#[serde(rename_all = "camelCase")]
pub struct MCPServerSpec {
    /// Owning team.
    #[serde(default, rename = "teamID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128), regex(pattern = r"^\S*$"))]
    pub team_id: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// Container image.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^\S+$"))]
    pub image: String,
    /// Tag, where the image names neither tag nor digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"))]
    pub image_tag: Option<String>,
    /// Registry that takes the place of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9.:/_-]*$"))]
    pub registry_override: Option<String>,
    /// Pull from the platform's own registry.
    #[serde(default)]
    pub use_provisioned_registry: bool,
    /// Secrets to pull with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))
    )]
    pub image_pull_secrets: Vec<String>,
    /// Pods.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// Port that the server listens on.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Port of the Service.
    #[serde(default = "default_service_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub service_port: i32,
    /// Path at which it is reached; by default `/{name}/mcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^/"))]
    #[x_kube(validation = Rule::new("!self.startsWith('/.')").message("must not begin with `/.`; such paths are the gateway's own"))]
    pub ingress_path: Option<String>,
    /// Host at which it is reached; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$"))]
    pub ingress_host: Option<String>,
    /// Reached at `/{publicPathPrefix}/mcp`; wins over `ingressPath`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = Rule::new("self.matches('[^/]')").message("needs at least one character other than a slash"))]
    #[x_kube(validation = Rule::new("!self.matches('^/*[.]')").message("must not begin with a dot; such paths are the gateway's own"))]
    pub public_path_prefix: Option<String>,
    /// Class of the Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub ingress_class: Option<String>,
    /// Annotations of the Ingress.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::bounds::annotations")]
    pub ingress_annotations: BTreeMap<String, String>,
    /// Resources of the server's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Environment of the server's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub env_vars: Vec<EnvVar>,
    /// Older name of `envVars`; both count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub env: Vec<EnvVar>,
    /// Environment from Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub secret_env_vars: Vec<SecretEnvVar>,
    /// Older name of `secretEnvVars`; both count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub env_from_secret: Vec<SecretEnvVar>,
    /// Tools that may be called at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tools: Vec<ToolConfig>,
    /// Prompts that may be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub prompts: Vec<InventoryItem>,
    /// Resources that may be read: URIs, in which `{x}` stands for one path segment and a trailing `*` for any rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub mcp_resources: Vec<InventoryItem>,
    /// Tools that may run as tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub tasks: Vec<InventoryItem>,
    /// Where identity comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthConfig>,
    /// How calls are decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyConfig>,
    /// What sessions must be like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionConfig>,
    /// The gateway before the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayConfig>,
    /// Names in the server's events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analytics: Option<AnalyticsConfig>,
    /// How a new version is rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutConfig>,
    /// Namespaces whose grants and sessions may name this server, beside its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub accepted_namespaces: Vec<String>,
    /// Form of a denial.
    #[serde(default)]
    pub deny_response: DenyResponse,
    /// What happens around the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditConfig>,
}

//! The server.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

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
    validation = Rule::new("!has(self.spec.analytics) || (has(self.spec.analytics.enabled) && !self.spec.analytics.enabled) || (has(self.spec.analytics.disabled) && self.spec.analytics.disabled) || (has(self.spec.gateway) && self.spec.gateway.enabled)")
        .message("spec.analytics: analytics come from the gateway; set spec.gateway.enabled or remove analytics"),
    validation = Rule::new("!has(self.spec.gateway) || !self.spec.gateway.enabled || self.spec.gateway.port != self.spec.port")
        .message("spec.gateway.port: must differ from spec.port"),
    validation = Rule::new("!has(self.spec.rollout) || self.spec.rollout.strategy != 'Canary' || (has(self.spec.rollout.canaryReplicas) && self.spec.rollout.canaryReplicas > 0 && self.spec.rollout.canaryReplicas < self.spec.replicas)")
        .message("spec.rollout.canaryReplicas: a canary needs more than 0 and fewer than spec.replicas"),
    validation = Rule::new("!has(self.spec.tools) || self.spec.tools.all(t, self.spec.tools.exists_one(o, o.name == t.name))")
        .message("spec.tools: each tool may stand once only"),
    validation = Rule::new("!has(self.spec.auth) || self.spec.auth.mode != 'oauth' || (has(self.spec.auth.issuerURL) && self.spec.auth.issuerURL != '')")
        .message("spec.auth.issuerURL: auth.mode oauth needs an issuer"),
    validation = Rule::new("!has(self.spec.publicPathPrefix) || self.spec.publicPathPrefix.matches('[^/]')")
        .message("spec.publicPathPrefix: needs at least one character other than a slash")
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
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// Tag, where the image names neither tag nor digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
    /// Registry that takes the place of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_override: Option<String>,
    /// Pull from the platform's own registry.
    #[serde(default)]
    pub use_provisioned_registry: bool,
    /// Secrets to pull with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
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
    pub ingress_path: Option<String>,
    /// Host at which it is reached; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub ingress_host: Option<String>,
    /// Reached at `/{publicPathPrefix}/mcp`; wins over `ingressPath`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub public_path_prefix: Option<String>,
    /// Class of the Ingress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_class: Option<String>,
    /// Annotations of the Ingress.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
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
    pub tools: Vec<ToolConfig>,
    /// Prompts that may be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub prompts: Vec<InventoryItem>,
    /// Resources that may be read: URIs, in which `{x}` stands for one path segment and a trailing `*` for any rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
    pub mcp_resources: Vec<InventoryItem>,
    /// Tools that may run as tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512))]
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
    #[schemars(length(max = 64))]
    pub accepted_namespaces: Vec<String>,
    /// Form of a denial.
    #[serde(default)]
    pub deny_response: DenyResponse,
    /// What happens around the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditConfig>,
}

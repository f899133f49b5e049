//! What the control plane reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Status of an MCPServer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MCPServerStatus {
    /// Pending, PartiallyReady, Ready or Error.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The phase in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions, each with a reason of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Every replica is available.
    pub deployment_ready: bool,
    /// The Service has an address.
    pub service_ready: bool,
    /// The Ingress leads here.
    pub ingress_ready: bool,
    /// The gateway answers.
    pub gateway_ready: bool,
    /// The policy is complete and enforced.
    pub policy_ready: bool,
    /// The canary is available.
    pub canary_ready: bool,
    /// On how many proxies the newest policy is enforced, as `3/3`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub enforced: String,
    /// Why it is not, in a word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Status of a grant or session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessStatus {
    /// Pending, Active or Rejected.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The phase in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: Accepted, Resolved, Enforced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// On how many proxies it is enforced, as `3/3`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub enforced: String,
    /// Why it is not, in a word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

//! What the control plane reports. [`crate::words`] has the words that appear in it.

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
    /// The generation of the object that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Conditions, each with a reason of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Every replica runs the current template and is available.
    pub deployment_ready: bool,
    /// The Service has an address.
    pub service_ready: bool,
    /// The Ingress leads here.
    pub ingress_ready: bool,
    /// Every available replica has a gateway that is connected to the control plane.
    pub gateway_ready: bool,
    /// The policy is complete and enforced.
    pub policy_ready: bool,
    /// The canary is available.
    pub canary_ready: bool,
    /// Pods there are, of both tracks.
    pub replicas: i32,
    /// Label selector of those pods.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// On how many proxies the newest policy is enforced, as `3/3`: always of those that are connected now.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub enforced: String,
    /// Revision of the policy that every proxy enforced last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub enforced_revision: String,
    /// Number of the revision of the template that the stable pods run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<i64>,
    /// Number of the revision that the canary runs; none: there is no canary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary_revision: Option<i64>,
    /// Number of the revision that the spec asks for, and that was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected_revision: Option<i64>,
    /// Why it is not as wanted, in a word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Status of a grant or session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessStatus {
    /// Pending, Active, Disabled, Revoked, Expired, Outdated or Rejected.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// The phase in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Conditions: Accepted, Resolved, Enforced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// On how many proxies it is enforced, as `3/3`: of those that were connected when it last changed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub enforced: String,
    /// Why it is not as wanted, in a word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

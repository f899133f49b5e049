//! The CustomResourceDefinitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::crd::CustomResourceExt;

use crate::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};

/// All three, in the order in which they are best applied.
pub fn crds() -> [CustomResourceDefinition; 3] {
    [MCPServer::crd(), MCPAccessGrant::crd(), MCPAgentSession::crd()]
}

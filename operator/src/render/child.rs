//! An object that is rendered, of any kind.

use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, Resource};

/// Kinds of objects, in the order in which they are applied: what pods need before pods, and ways in last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// Who the pods are.
    ServiceAccount,
    /// What the pods pull with.
    Secret,
    /// What the gateway starts from.
    ConfigMap,
    /// Who reaches the pods.
    NetworkPolicy,
    /// A template that ran, or runs.
    ControllerRevision,
    /// Pods of a track.
    Deployment,
    /// Which of them may be missing at once.
    PodDisruptionBudget,
    /// The address within the cluster.
    Service,
    /// The way in from outside.
    Ingress,
}

impl ChildKind {
    /// All.
    pub const ALL: [Self; 9] = [
        Self::ServiceAccount,
        Self::Secret,
        Self::ConfigMap,
        Self::NetworkPolicy,
        Self::ControllerRevision,
        Self::Deployment,
        Self::PodDisruptionBudget,
        Self::Service,
        Self::Ingress,
    ];

    /// As a client needs it.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
            Self::Secret => ApiResource::erase::<Secret>(&()),
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
            Self::ControllerRevision => ApiResource::erase::<ControllerRevision>(&()),
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::Ingress => ApiResource::erase::<Ingress>(&()),
        }
    }
}

/// A kind and a name within the server's namespace.
pub type ChildKey = (ChildKind, String);

/// An object that is rendered.
#[derive(Clone, Debug, PartialEq)]
pub enum Child {
    /// Who the pods are.
    ServiceAccount(ServiceAccount),
    /// What the pods pull with.
    Secret(Secret),
    /// What the gateway starts from.
    ConfigMap(ConfigMap),
    /// Who reaches the pods.
    NetworkPolicy(NetworkPolicy),
    /// A template that ran, or runs.
    ControllerRevision(ControllerRevision),
    /// Pods of a track.
    Deployment(Box<Deployment>),
    /// Which of them may be missing at once.
    PodDisruptionBudget(PodDisruptionBudget),
    /// The address within the cluster.
    Service(Box<Service>),
    /// The way in from outside.
    Ingress(Ingress),
}

impl Child {
    /// Its kind.
    pub const fn kind(&self) -> ChildKind {
        match self {
            Self::ServiceAccount(_) => ChildKind::ServiceAccount,
            Self::Secret(_) => ChildKind::Secret,
            Self::ConfigMap(_) => ChildKind::ConfigMap,
            Self::NetworkPolicy(_) => ChildKind::NetworkPolicy,
            Self::ControllerRevision(_) => ChildKind::ControllerRevision,
            Self::Deployment(_) => ChildKind::Deployment,
            Self::PodDisruptionBudget(_) => ChildKind::PodDisruptionBudget,
            Self::Service(_) => ChildKind::Service,
            Self::Ingress(_) => ChildKind::Ingress,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::ServiceAccount(object) => object.meta(),
            Self::Secret(object) => object.meta(),
            Self::ConfigMap(object) => object.meta(),
            Self::NetworkPolicy(object) => object.meta(),
            Self::ControllerRevision(object) => object.meta(),
            Self::Deployment(object) => object.meta(),
            Self::PodDisruptionBudget(object) => object.meta(),
            Self::Service(object) => object.meta(),
            Self::Ingress(object) => object.meta(),
        }
    }

    /// Kind and name.
    pub fn key(&self) -> ChildKey {
        (self.kind(), self.metadata().name.clone().unwrap_or_default())
    }

    /// As it is applied: the fields that the operator owns, and no others.
    ///
    /// # Errors
    /// Never: Kubernetes objects are JSON.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        match self {
            Self::ServiceAccount(object) => serde_json::to_value(object),
            Self::Secret(object) => serde_json::to_value(object),
            Self::ConfigMap(object) => serde_json::to_value(object),
            Self::NetworkPolicy(object) => serde_json::to_value(object),
            Self::ControllerRevision(object) => serde_json::to_value(object),
            Self::Deployment(object) => serde_json::to_value(object),
            Self::PodDisruptionBudget(object) => serde_json::to_value(object),
            Self::Service(object) => serde_json::to_value(object),
            Self::Ingress(object) => serde_json::to_value(object),
        }
    }
}

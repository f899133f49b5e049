//! The few requests that are made of the API server.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::observed::Observed;
use crate::render::rollout::Revision;
use crate::render::{Child, ChildKey, ChildKind, names};

/// Applies an object: the rendered fields, by force. Answers with the object as it is now.
pub(super) async fn apply(client: &Client, namespace: &str, child: &Child) -> kube::Result<Observed> {
    let (client, at) = (client.clone(), namespace);
    match child {
        Child::ServiceAccount(object) => {
            one(client, at, object).await.map(|o| Observed::metadata(&o.metadata))
        }
        Child::Secret(object) => one(client, at, object).await.map(|o| Observed::metadata(&o.metadata)),
        Child::ConfigMap(object) => one(client, at, object).await.map(|o| Observed::metadata(&o.metadata)),
        Child::NetworkPolicy(object) => {
            one(client, at, object).await.map(|o| Observed::metadata(&o.metadata))
        }
        Child::ControllerRevision(object) => {
            one(client, at, object).await.map(|o| Observed::metadata(&o.metadata))
        }
        Child::PodDisruptionBudget(object) => {
            one(client, at, object).await.map(|o| Observed::metadata(&o.metadata))
        }
        Child::Deployment(object) => one(client, at, &**object).await.map(|o| Observed::deployment(&o)),
        Child::Service(object) => one(client, at, &**object).await.map(|o| Observed::service(&o)),
        Child::Ingress(object) => one(client, at, object).await.map(|o| Observed::ingress(&o)),
    }
}

async fn one<K>(client: Client, namespace: &str, object: &K) -> kube::Result<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
{
    let name = object.meta().name.clone().unwrap_or_default();
    let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
    Api::<K>::namespaced(client, namespace).patch(&name, &parameters, &Patch::Apply(object)).await
}

fn objects(client: &Client, namespace: &str, kind: ChildKind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &kind.resource())
}

/// An object of this name, whoever's it is.
pub(super) async fn find(
    client: &Client,
    namespace: &str,
    (kind, name): &ChildKey,
) -> kube::Result<Option<Observed>> {
    let found: Option<PartialObjectMeta<DynamicObject>> =
        objects(client, namespace, *kind).get_metadata_opt(name).await?;
    Ok(found.map(|found| Observed::metadata(&found.metadata)))
}

/// Deletes the very object that was seen; one that is gone already is as good.
pub(super) async fn delete(
    client: &Client,
    namespace: &str,
    (kind, name): &ChildKey,
    uid: &str,
) -> kube::Result<()> {
    let preconditions = Preconditions { uid: Some(uid.into()), resource_version: None };
    let parameters = DeleteParams::background().preconditions(preconditions);
    match objects(client, namespace, *kind).delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// A kept revision, with its template.
pub(super) async fn revision(
    client: &Client,
    namespace: &str,
    name: &str,
) -> kube::Result<ControllerRevision> {
    Api::namespaced(client.clone(), namespace).get(name).await
}

/// Gives a kept revision another number and place. What it keeps can never change, so nothing else is said of it.
pub(super) async fn number(client: &Client, namespace: &str, revision: &Revision) -> kube::Result<Observed> {
    let number = revision.number.to_string();
    let promoted = revision.promoted.map(|order| order.to_string());
    let patch = json!({
        "metadata": { "labels": { names::REVISION: number }, "annotations": { names::PROMOTED: promoted } },
        "revision": revision.number,
    });
    let parameters =
        PatchParams { field_manager: Some(names::FIELD_MANAGER.into()), ..PatchParams::default() };
    let api = Api::<ControllerRevision>::namespaced(client.clone(), namespace);
    let patched = api.patch_metadata(&revision.name, &parameters, &Patch::Merge(&patch)).await?;
    Ok(Observed::metadata(&patched.metadata))
}

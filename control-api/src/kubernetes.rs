//! Resources in a Kubernetes API server.
//!
//! ```text
//!   watch (one per kind) ──▶ Mirror ──▶ View      put, patch ──▶ API server (schema, admission) ──▶ Mirror
//! ```
//!
//! Guarantees: reads never wait for the API server, and share what is watched. A write is what the API server made of it,
//! and is in the view that it answers with. Assumes that one process does not need to see another's write before the
//! watch tells it. While the API server is away, reads go on with what was last known, and `trouble` says so.

mod keys;
mod mirror;
mod refused;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use sallyport_api::{GROUP, Kind};
use sallyport_policy::ObjectId;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::resources::{Change, Key, ResourceError, Resources, View, Written, kill_switch};
use mirror::Mirror;
use refused::{not_there, refused};

pub(crate) use keys::api_keys;

/// Who we are among those who own fields.
const MANAGER: &str = "sallyport-control-api";
/// Status writes by the control plane come between reading and writing; this many in a row do not.
const ATTEMPTS: usize = 5;

/// The API server.
#[derive(Clone)]
pub(crate) struct Kubernetes {
    client: kube::Client,
    mirror: Arc<Mutex<Mirror>>,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes").field("mirror", &self.mirror).finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// What `client` reaches, watched until `shutdown`.
    pub(crate) fn start(client: kube::Client, shutdown: &CancellationToken) -> Self {
        let kubernetes = Self { client, mirror: Arc::default() };
        for kind in Kind::ALL {
            let api = Api::all_with(kubernetes.client.clone(), &resource(kind));
            tokio::spawn(watch::follow(kind, api, Arc::clone(&kubernetes.mirror), shutdown.clone()));
        }
        kubernetes
    }

    fn api(&self, key: &Key) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.1.namespace, &resource(key.0))
    }

    /// The state after a write that answered with `object`.
    fn written(&self, key: &Key, object: DynamicObject, change: Change) -> Result<Written, ResourceError> {
        let mut mirror = lock(&self.mirror);
        mirror.write(key.0, object);
        Ok(Written { change, view: mirror.view()? })
    }

    /// One attempt to give an object this spec; none: somebody else changed it meanwhile.
    async fn try_put(&self, key: &Key, spec: &Map<String, Value>) -> Result<Option<Written>, ResourceError> {
        let api = self.api(key);
        let known = api.get_opt(&key.1.name).await.map_err(|error| refused(error, key))?;
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let Some(mut known) = known else {
            let mut object = DynamicObject::new(&key.1.name, &resource(key.0)).within(&key.1.namespace);
            object.data = json!({ "spec": spec });
            return match api.create(&params, &object).await {
                Ok(made) => self.written(key, made, Change::Created).map(Some),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
                Err(error) => Err(refused(error, key)),
            };
        };
        let before = known.metadata.resource_version.clone();
        if let Some(data) = known.data.as_object_mut() {
            let had = data.remove("spec").unwrap_or_default();
            data.insert("spec".into(), Value::Object(with_switch(spec.clone(), &had, key.0)));
        }
        match api.replace(&key.1.name, &params, &known).await {
            Ok(made) => {
                let change =
                    if made.metadata.resource_version == before { Change::None } else { Change::Updated };
                self.written(key, made, change).map(Some)
            }
            // Changed or deleted since it was read.
            Err(kube::Error::Api(status)) if status.code == 409 || not_there(&status, key) => Ok(None),
            Err(error) => Err(refused(error, key)),
        }
    }
}

#[async_trait]
impl Resources for Kubernetes {
    fn source(&self) -> &'static str {
        "kubernetes"
    }

    async fn view(&self) -> Result<Arc<View>, ResourceError> {
        lock(&self.mirror).view()
    }

    fn trouble(&self) -> Option<String> {
        lock(&self.mirror).trouble(Instant::now())
    }

    async fn put(
        &self,
        key: Key,
        spec: Map<String, Value>,
        _now: Timestamp,
    ) -> Result<Written, ResourceError> {
        for _ in 0..ATTEMPTS {
            if let Some(written) = self.try_put(&key, &spec).await? {
                return Ok(written);
            }
        }
        let message = format!(
            "{} `{}` is being changed by others all the time; nothing was changed, try again",
            key.0.as_str(),
            key.1
        );
        Err(ResourceError::Conflict(message))
    }

    async fn patch(
        &self,
        key: Key,
        fields: Map<String, Value>,
        _now: Timestamp,
    ) -> Result<Written, ResourceError> {
        let known = lock(&self.mirror).version_of(&key);
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "spec": fields }));
        let patched = self.api(&key).patch(&key.1.name, &params, &patch).await;
        let object = patched.map_err(|error| refused(error, &key))?;
        let is_same = known.is_some() && known == object.metadata.resource_version;
        self.written(&key, object, if is_same { Change::None } else { Change::Updated })
    }
}

/// The spec, with the kill switch as it was where the new one does not name it.
fn with_switch(mut spec: Map<String, Value>, had: &Value, kind: Kind) -> Map<String, Value> {
    if let Some(switch) = kill_switch(kind)
        && !spec.contains_key(switch)
        && let Some(state) = had.get(switch)
    {
        spec.insert(switch.into(), state.clone());
    }
    spec
}

fn resource(kind: Kind) -> ApiResource {
    let gvk = GroupVersionKind::gvk(GROUP, "v1alpha1", kind.as_str());
    ApiResource::from_gvk_with_plural(&gvk, kind.plural())
}

fn id_of(object: &DynamicObject) -> ObjectId {
    let metadata = &object.metadata;
    ObjectId::new(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

fn lock(mirror: &Mutex<Mirror>) -> MutexGuard<'_, Mirror> {
    mirror.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

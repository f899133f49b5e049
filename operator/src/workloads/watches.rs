//! Watches of everything that is rendered, by our label: whole objects where their status matters, else metadata alone.

use std::fmt::Debug;
use std::time::Duration;

use futures::stream::{BoxStream, Stream, StreamExt, select_all};
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use sallyport_policy::ObjectId;
use serde::de::DeserializeOwned;

use super::observed::{Observed, Sight};
use crate::render::{ChildKind, names};

/// Pauses of a watch that fails.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Kinds that are watched: Secrets are not, since the operator may not read them all.
pub(super) const WATCHED: usize = ChildKind::ALL.len() - 1;

/// What happens to rendered objects in the whole cluster.
pub(super) fn all(client: &Client) -> BoxStream<'static, (ChildKind, Sight)> {
    select_all([
        whole::<Deployment>(client, ChildKind::Deployment, Observed::deployment),
        whole::<Service>(client, ChildKind::Service, Observed::service),
        whole::<Ingress>(client, ChildKind::Ingress, Observed::ingress),
        metadata::<ServiceAccount>(client, ChildKind::ServiceAccount),
        metadata::<ConfigMap>(client, ChildKind::ConfigMap),
        metadata::<NetworkPolicy>(client, ChildKind::NetworkPolicy),
        metadata::<ControllerRevision>(client, ChildKind::ControllerRevision),
        metadata::<PodDisruptionBudget>(client, ChildKind::PodDisruptionBudget),
    ])
    .boxed()
}

fn config() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY.0, names::MANAGED_BY.1))
}

fn whole<K>(
    client: &Client,
    kind: ChildKind,
    observe: fn(&K) -> Observed,
) -> BoxStream<'static, (ChildKind, Sight)>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    sights(kind, watcher(Api::<K>::all(client.clone()), config()), observe)
}

fn metadata<K>(client: &Client, kind: ChildKind) -> BoxStream<'static, (ChildKind, Sight)>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let observe = |object: &PartialObjectMeta<K>| Observed::metadata(&object.metadata);
    sights(kind, watcher(Api::<PartialObjectMeta<K>>::all(client.clone()), config()), observe)
}

fn sights<K: Resource + Send + 'static>(
    kind: ChildKind,
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
    observe: fn(&K) -> Observed,
) -> BoxStream<'static, (ChildKind, Sight)> {
    let sight = move |event: watcher::Result<watcher::Event<K>>| {
        let event = event
            .inspect_err(|error| tracing::warn!(%error, ?kind, "watch of rendered objects failed"))
            .ok()?;
        let seen = |object: &K| {
            let metadata = object.meta();
            let server = metadata.labels.as_ref()?.get(names::SERVER)?;
            Some((ObjectId::new(metadata.namespace.clone()?, server.clone()), metadata.name.clone()?))
        };
        let sight = match event {
            watcher::Event::Init => Sight::Begin,
            watcher::Event::InitDone => Sight::Complete,
            watcher::Event::InitApply(object) => {
                let (server, name) = seen(&object)?;
                Sight::Listed(server, name, Box::new(observe(&object)))
            }
            watcher::Event::Apply(object) => {
                let (server, name) = seen(&object)?;
                Sight::Changed(server, name, Box::new(observe(&object)))
            }
            watcher::Event::Delete(object) => {
                let (server, name) = seen(&object)?;
                Sight::Gone(server, name)
            }
        };
        Some((kind, sight))
    };
    events.backoff(patient(PAUSES)).filter_map(move |event| std::future::ready(sight(event))).boxed()
}

/// Pauses from the first to the longest, each twice the one before.
pub(super) fn patient((first, longest): (Duration, Duration)) -> impl Backoff {
    Doubling { first, longest, next: first }
}

#[derive(Clone, Debug)]
struct Doubling {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.longest);
        Some(pause)
    }
}

impl Backoff for Doubling {
    fn reset(&mut self) {
        self.next = self.first;
    }
}

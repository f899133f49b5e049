//! What is seen of rendered objects, trimmed to what anything depends on.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use sallyport_api::v1alpha1::MCPServer;
use sallyport_policy::ObjectId;

use crate::render::{ChildKey, ChildKind, names, rollout::Revision};
use crate::status::workload::{DeploymentState, IngressState, has_address};

/// An object as it is in the cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Observed {
    pub(super) uid: String,
    pub(super) resource_version: String,
    generation: Option<i64>,
    /// Name of the server that controls it.
    pub(super) owner: Option<String>,
    pub(super) owner_uid: Option<String>,
    pub(super) is_going: bool,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    pub(super) state: State,
}

/// What is needed of some kinds beyond their metadata.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum State {
    /// Of a Deployment.
    Deployment {
        state: DeploymentState,
        replicas: Option<i32>,
        /// Digest of Secrets in its template.
        secrets: Option<String>,
    },
    /// Of a Service: it has an address.
    Service(bool),
    /// Of an Ingress.
    Ingress(IngressState),
    /// Of all others.
    Metadata,
}

impl Observed {
    fn new(metadata: &ObjectMeta, state: State) -> Self {
        let owners = metadata.owner_references.iter().flatten();
        let mut owners =
            owners.filter(|owner| owner.controller == Some(true) && owner.kind == MCPServer::kind(&()));
        let group = MCPServer::group(&());
        let owner = owners.find(|owner| owner.api_version.split('/').next() == Some(&group));
        let mut annotations = metadata.annotations.clone().unwrap_or_default();
        // A whole manifest, for kubectl alone.
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            generation: metadata.generation,
            owner: owner.map(|owner| owner.name.clone()),
            owner_uid: owner.map(|owner| owner.uid.clone()),
            is_going: metadata.deletion_timestamp.is_some(),
            labels: metadata.labels.clone().unwrap_or_default(),
            annotations,
            state,
        }
    }

    /// Of a Deployment.
    pub(super) fn deployment(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let template = spec.and_then(|spec| spec.template.metadata.as_ref());
        let secrets =
            template.and_then(|template| template.annotations.as_ref()?.get(names::SECRETS_HASH).cloned());
        let replicas = spec.and_then(|spec| spec.replicas);
        Self::new(&deployment.metadata, State::Deployment { state: deployment.into(), replicas, secrets })
    }

    /// Of a Service.
    pub(super) fn service(service: &Service) -> Self {
        Self::new(&service.metadata, State::Service(has_address(service)))
    }

    /// Of an Ingress.
    pub(super) fn ingress(ingress: &Ingress) -> Self {
        Self::new(&ingress.metadata, State::Ingress(ingress.into()))
    }

    /// Of anything else.
    pub(super) fn metadata(metadata: &ObjectMeta) -> Self {
        Self::new(metadata, State::Metadata)
    }

    /// What changes when somebody changes the object, and not when its status changes, where the API server tells the two apart.
    pub(super) fn version(&self) -> Version {
        self.generation.map_or_else(|| Version::Whole(self.resource_version.clone()), Version::Spec)
    }

    /// Whether it carries these labels and annotations, whatever others it has.
    pub(super) fn carries(&self, wanted: &ObjectMeta) -> bool {
        let has = |there: &BTreeMap<String, String>, wanted: &Option<BTreeMap<String, String>>| {
            wanted.iter().flatten().all(|(key, value)| there.get(key) == Some(value))
        };
        has(&self.labels, &wanted.labels) && has(&self.annotations, &wanted.annotations)
    }

    /// An annotation.
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// The revision that it keeps.
    pub(super) fn revision(&self, name: &str) -> Option<Revision> {
        Some(Revision {
            name: name.into(),
            number: self.labels.get(names::REVISION)?.parse().ok()?,
            hash: self.labels.get(names::TEMPLATE_HASH)?.clone(),
            promoted: self.annotations.get(names::PROMOTED).and_then(|order| order.parse().ok()),
        })
    }
}

/// A form of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// Its generation.
    Spec(i64),
    /// Its resource version.
    Whole(String),
}

/// Objects of one server.
pub(super) type Children = BTreeMap<ChildKey, Observed>;

/// Everything that is seen.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    children: BTreeMap<ObjectId, Children>,
    /// While a kind is listed anew: what was listed so far.
    listed: BTreeMap<ChildKind, BTreeSet<(ObjectId, String)>>,
}

/// What a watch tells of a kind.
#[derive(Debug)]
pub(super) enum Sight {
    /// A list begins.
    Begin,
    /// One of the list.
    Listed(ObjectId, String, Box<Observed>),
    /// The list is complete.
    Complete,
    /// It was added or changed.
    Changed(ObjectId, String, Box<Observed>),
    /// It is gone, or carries our label no more.
    Gone(ObjectId, String),
}

impl Sightings {
    /// The objects of a server.
    pub(super) fn of(&self, server: &ObjectId) -> Children {
        self.children.get(server).cloned().unwrap_or_default()
    }

    /// Takes in what a watch tells. Answers with what changed.
    pub(super) fn take(&mut self, kind: ChildKind, sight: Sight) -> Vec<(ObjectId, ChildKey, Change)> {
        match sight {
            Sight::Begin => {
                self.listed.insert(kind, BTreeSet::new());
                Vec::new()
            }
            Sight::Listed(server, name, observed) => {
                self.listed.entry(kind).or_default().insert((server.clone(), name.clone()));
                self.see(server, (kind, name), *observed).into_iter().collect()
            }
            Sight::Changed(server, name, observed) => {
                self.see(server, (kind, name), *observed).into_iter().collect()
            }
            Sight::Gone(server, name) => self.lose(server, (kind, name)).into_iter().collect(),
            Sight::Complete => {
                let listed = self.listed.remove(&kind).unwrap_or_default();
                let is_lost = |server: &ObjectId, (of, name): &ChildKey| {
                    *of == kind && !listed.contains(&(server.clone(), name.clone()))
                };
                let lost: Vec<_> = self
                    .children
                    .iter()
                    .flat_map(|(server, children)| {
                        children.keys().map(move |key| (server.clone(), key.clone()))
                    })
                    .filter(|(server, key)| is_lost(server, key))
                    .collect();
                lost.into_iter().filter_map(|(server, key)| self.lose(server, key)).collect()
            }
        }
    }

    /// Takes in an object, unless something newer of it was seen.
    pub(super) fn see(
        &mut self,
        server: ObjectId,
        key: ChildKey,
        observed: Observed,
    ) -> Option<(ObjectId, ChildKey, Change)> {
        let children = self.children.entry(server.clone()).or_default();
        if children.get(&key).is_some_and(|known| !is_newer(&observed, known)) {
            return None;
        }
        children.insert(key.clone(), observed);
        Some((server, key, Change::Seen))
    }

    fn lose(&mut self, server: ObjectId, key: ChildKey) -> Option<(ObjectId, ChildKey, Change)> {
        let children = self.children.get_mut(&server)?;
        let lost = children.remove(&key);
        if children.is_empty() {
            self.children.remove(&server);
        }
        lost.map(|_| (server, key, Change::Lost))
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It is there, in a form not seen before.
    Seen,
    /// It is gone.
    Lost,
}

/// Resource versions of one kind grow as numbers do; where they are none, whatever comes is taken as newer.
fn is_newer(observed: &Observed, known: &Observed) -> bool {
    let number = |of: &Observed| of.resource_version.parse::<u64>().ok();
    match (number(observed), number(known)) {
        (Some(observed), Some(known)) => observed > known,
        _ => observed.resource_version != known.resource_version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(version: &str) -> Observed {
        Observed::metadata(&ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() })
    }

    fn id(name: &str) -> ObjectId {
        ObjectId::new("n", name)
    }

    fn changed(name: &str, version: &str) -> Sight {
        Sight::Changed(id(name), name.into(), Box::new(observed(version)))
    }

    const KIND: ChildKind = ChildKind::ConfigMap;

    #[test]
    fn what_is_older_than_what_was_seen_changes_nothing() {
        let mut sightings = Sightings::default();
        assert_eq!(sightings.take(KIND, changed("a", "9")).len(), 1);
        assert_eq!(sightings.take(KIND, changed("a", "8")), []);
        assert_eq!(sightings.take(KIND, changed("a", "9")), []);
        assert_eq!(sightings.take(KIND, changed("a", "10")).len(), 1);
        assert_eq!(sightings.of(&id("a")).values().next().unwrap().resource_version, "10");
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let mut sightings = Sightings::default();
        sightings.take(KIND, changed("a", "1"));
        sightings.take(KIND, changed("b", "1"));
        sightings.take(ChildKind::Service, changed("b", "1"));
        sightings.take(KIND, Sight::Begin);
        sightings.take(KIND, Sight::Listed(id("a"), "a".into(), Box::new(observed("1"))));
        let lost = sightings.take(KIND, Sight::Complete);
        assert_eq!(lost, [(id("b"), (KIND, "b".into()), Change::Lost)]);
        assert_eq!(sightings.of(&id("b")).len(), 1, "other kinds stay");
    }

    #[test]
    fn a_change_of_status_is_no_other_version() {
        let of = |generation, version: &str| {
            let metadata =
                ObjectMeta { generation, resource_version: Some(version.into()), ..ObjectMeta::default() };
            Observed::metadata(&metadata).version()
        };
        assert_eq!(of(Some(1), "1"), of(Some(1), "2"));
        assert_ne!(of(Some(1), "2"), of(Some(2), "2"));
        assert_ne!(of(None, "1"), of(None, "2"));
    }
}

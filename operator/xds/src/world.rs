//! Everything that proxies may ask for, and the order in which it changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use tokio::sync::{RwLock, watch};

use crate::underway::Underway;

/// Type URLs, in the order in which changes are sent: what is referred to before what refers to it.
pub mod types {
    /// Clusters.
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// Listeners.
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// Routes of listeners: apart from them, so that a new route drains no connection.
    pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    /// Filter configurations.
    pub const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
    pub use sallyport_policy_proto::resource::{
        BASELINE_TYPE as BASELINE, GRANT_TYPE as GRANT, SESSION_TYPE as SESSION,
    };
    /// All of them.
    pub const ALL: [&str; 7] = [CLUSTER, LISTENER, ROUTES, EXTENSION, GRANT, SESSION, BASELINE];
}

/// Removals remembered for connections that are behind. One that is further behind starts anew.
const REMEMBERED_REMOVALS: usize = 65_536;

/// A resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its message.
    pub body: Any,
    /// Its version.
    pub version: String,
    /// Number of the change that made it so.
    pub seq: u64,
}

type Named = (&'static str, Arc<str>);

/// All resources of one group of proxies.
#[derive(Debug, Default)]
pub struct World {
    resources: BTreeMap<&'static str, BTreeMap<Arc<str>, Stored>>,
    /// The last change of each resource, also of those that are gone and remembered.
    changes: BTreeMap<u64, Named>,
    removals: BTreeMap<Named, u64>,
    /// Removals up to this change may be forgotten.
    forgotten: u64,
    seq: u64,
    needs: u32,
    underway: Underway,
}

impl World {
    /// The oldest wire version of filters that may have it.
    pub fn needs(&self) -> u32 {
        self.needs
    }

    /// Sets [`World::needs`]; it is looked at whenever a filter says something or a resource changes.
    pub fn set_needs(&mut self, needs: u32) {
        self.needs = needs;
    }

    /// Changes on their way to proxies, as they are traced.
    pub(crate) fn underway(&self) -> &Underway {
        &self.underway
    }

    /// Number of the last change.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Sets a resource; none: removes it. Nothing changes where the version is the same. Answers with the number of
    /// the change that made the resource what it is.
    pub fn set(&mut self, type_url: &'static str, name: &str, resource: Option<(Any, String)>) -> u64 {
        let resources = self.resources.entry(type_url).or_default();
        let known =
            resources.get_key_value(name).map(|(name, stored)| (name.clone(), stored.seq, &stored.version));
        let name = match (&resource, known) {
            (Some((_, version)), Some((_, seq, same))) if version == same => return seq,
            (None, None) => {
                return self.removals.get(&(type_url, Arc::from(name))).copied().unwrap_or(self.seq);
            }
            (_, Some((name, seq, _))) => {
                self.changes.remove(&seq);
                name
            }
            (Some(_), None) => Arc::from(name),
        };
        self.seq += 1;
        if let Some(removed) = self.removals.remove(&(type_url, name.clone())) {
            self.changes.remove(&removed);
        }
        match resource {
            Some((body, version)) => {
                resources.insert(name.clone(), Stored { body, version, seq: self.seq });
            }
            None => {
                resources.remove(&name);
                self.removals.insert((type_url, name.clone()), self.seq);
            }
        }
        self.changes.insert(self.seq, (type_url, name));
        self.forget(REMEMBERED_REMOVALS);
        self.seq
    }

    /// Forgets the older half of the removals when there are more than `most`.
    fn forget(&mut self, most: usize) {
        if self.removals.len() <= most {
            return;
        }
        let mut seqs: Vec<u64> = self.removals.values().copied().collect();
        seqs.sort_unstable();
        self.forgotten = seqs.get(seqs.len() / 2).copied().unwrap_or(self.seq);
        let (changes, forgotten) = (&mut self.changes, self.forgotten);
        self.removals.retain(|_, seq| {
            let keep = *seq > forgotten;
            if !keep {
                changes.remove(seq);
            }
            keep
        });
    }

    /// A resource.
    pub fn find(&self, type_url: &str, name: &str) -> Option<&Stored> {
        self.resources.get(type_url)?.get(name)
    }

    /// Number of the change that made a resource what it is, or that removed it; none: nothing is remembered of it.
    pub fn last_change(&self, type_url: &'static str, name: &str) -> Option<u64> {
        let removed = || self.removals.get(&(type_url, Arc::from(name))).copied();
        self.find(type_url, name).map(|stored| stored.seq).or_else(removed)
    }

    /// Number of the change since which a resource is what `version` says: empty, not there; none, whatever it is. None: it is
    /// not so here.
    pub fn change_to(&self, type_url: &'static str, name: &str, version: Option<&str>) -> Option<u64> {
        let present = self.find(type_url, name).map_or("", |stored| stored.version.as_str());
        if version.is_some_and(|version| version != present) {
            return None;
        }
        // What never was there, nobody has to give up.
        self.last_change(type_url, name).or_else(|| version.filter(|version| version.is_empty()).map(|_| 0))
    }

    /// All resources of a type.
    pub fn all(&self, type_url: &str) -> impl Iterator<Item = (&str, &Stored)> {
        self.resources.get(type_url).into_iter().flatten().map(|(name, stored)| (name.as_ref(), stored))
    }

    /// How many there are of a type.
    pub fn count(&self, type_url: &str) -> u64 {
        self.resources.get(type_url).map_or(0, |resources| u64::try_from(resources.len()).unwrap_or(u64::MAX))
    }

    /// Names of a type that changed after `seq`, each once, the oldest change first; none: removals that long ago may
    /// be forgotten.
    pub fn changed_since(&self, type_url: &str, seq: u64) -> Option<Vec<&str>> {
        if seq < self.forgotten {
            return None;
        }
        let after = self.changes.range(seq.saturating_add(1)..).map(|(_, named)| named);
        Some(after.filter(|(known, _)| *known == type_url).map(|(_, name)| name.as_ref()).collect())
    }
}

/// The world, shared, with a bell that rings on every change.
#[derive(Clone, Debug)]
pub struct SharedWorld {
    world: Arc<RwLock<World>>,
    bell: Arc<watch::Sender<u64>>,
    underway: Underway,
}

impl Default for SharedWorld {
    fn default() -> Self {
        let world = World::default();
        let underway = world.underway.clone();
        Self { world: Arc::new(RwLock::new(world)), bell: Arc::new(watch::channel(0).0), underway }
    }
}

impl SharedWorld {
    /// Changes the world and rings the bell. What changed is traced on its way as part of the current span.
    pub async fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.write().await;
        let before = world.seq();
        let result = change(&mut world);
        if world.seq() != before {
            // Before anyone can answer it.
            self.underway.begin(world.seq());
            self.bell.send_replace(world.seq());
        }
        result
    }

    /// Looks at the world.
    pub async fn read<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&*self.world.read().await)
    }

    /// Changes on their way to proxies, as they are traced.
    pub fn underway(&self) -> Underway {
        self.underway.clone()
    }

    /// The bell: it tells the number of the last change.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(version: &str) -> Option<(Any, String)> {
        Some((Any::default(), version.into()))
    }

    #[test]
    fn only_a_change_of_version_is_a_change() {
        let mut world = World::default();
        assert_eq!(world.set(types::GRANT, "a", body("1")), 1);
        assert_eq!(world.set(types::GRANT, "b", body("1")), 2);
        assert_eq!(world.set(types::GRANT, "a", body("1")), 1, "the change that made it so");
        assert_eq!(world.set(types::GRANT, "a", body("2")), 3);
        assert_eq!(world.set(types::GRANT, "none", None), 3);
        assert_eq!(world.changed_since(types::GRANT, 0), Some(vec!["b", "a"]));
        assert_eq!(world.changed_since(types::GRANT, 2), Some(vec!["a"]));
        assert_eq!(world.changed_since(types::SESSION, 0), Some(vec![]));
    }

    #[test]
    fn a_removal_is_a_change_until_the_resource_is_back() {
        let mut world = World::default();
        world.set(types::GRANT, "a", body("1"));
        assert_eq!(world.set(types::GRANT, "a", None), 2);
        assert_eq!(world.last_change(types::GRANT, "a"), Some(2));
        assert_eq!(world.set(types::GRANT, "a", None), 2, "removed already");
        assert_eq!(world.changed_since(types::GRANT, 1), Some(vec!["a"]));
        assert_eq!(world.set(types::GRANT, "a", body("1")), 3);
        assert_eq!((world.changes.len(), world.removals.len()), (1, 0));
    }

    #[test]
    fn a_resource_is_what_a_version_says_since_a_change() {
        let mut world = World::default();
        world.set(types::GRANT, "a", body("1"));
        world.set(types::GRANT, "a", body("2"));
        let change_to = |world: &World, name, version| world.change_to(types::GRANT, name, version);
        assert_eq!(change_to(&world, "a", Some("2")), Some(2));
        assert_eq!(change_to(&world, "a", None), Some(2));
        assert_eq!(change_to(&world, "a", Some("1")), None);
        assert_eq!(change_to(&world, "a", Some("")), None);
        world.set(types::GRANT, "a", None);
        assert_eq!(change_to(&world, "a", Some("")), Some(3));
        assert_eq!(change_to(&world, "never", Some("")), Some(0));
        assert_eq!(change_to(&world, "never", None), None);
    }

    #[test]
    fn who_is_behind_forgotten_removals_is_told_so() {
        let mut world = World::default();
        for name in ["a", "b", "c", "d"] {
            world.set(types::GRANT, name, body("1"));
        }
        for name in ["a", "b", "c"] {
            world.set(types::GRANT, name, None);
        }
        world.forget(2);
        assert_eq!(world.changed_since(types::GRANT, 5), None);
        assert_eq!(world.changed_since(types::GRANT, 6), Some(vec!["c"]));
        assert_eq!(world.last_change(types::GRANT, "a"), None);
        assert_eq!(world.changes.len(), 2, "one that is there, one removal");
    }
}

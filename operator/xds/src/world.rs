//! Everything that proxies may ask for, and the order in which it changed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use envoy_types::pb::google::protobuf::Any;
use tokio::sync::{RwLock, watch};

/// Type URLs, in the order in which changes are sent: what is referred to before what refers to it.
pub mod types {
    /// Clusters.
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// Listeners.
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// Filter configurations.
    pub const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
    pub use sallyport_policy_proto::resource::{
        BASELINE_TYPE as BASELINE, GRANT_TYPE as GRANT, SESSION_TYPE as SESSION,
    };
    /// All of them.
    pub const ALL: [&str; 6] = [CLUSTER, LISTENER, EXTENSION, GRANT, SESSION, BASELINE];
}

/// Changes remembered for connections that are behind; one that is further behind is compared as a whole.
const LOG_LENGTH: usize = 65_536;

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

#[derive(Clone, Debug)]
struct Logged {
    seq: u64,
    type_url: &'static str,
    name: String,
}

/// All resources of one group of proxies.
#[derive(Debug, Default)]
pub struct World {
    resources: BTreeMap<&'static str, BTreeMap<String, Stored>>,
    log: VecDeque<Logged>,
    seq: u64,
}

impl World {
    /// Number of the last change.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Sets a resource; none: removes it. Nothing changes where the version is the same. Answers with the number of
    /// the change that made the resource what it is.
    pub fn set(&mut self, type_url: &'static str, name: &str, resource: Option<(Any, String)>) -> u64 {
        let resources = self.resources.entry(type_url).or_default();
        match (resource, resources.get(name)) {
            (Some((_, version)), Some(known)) if known.version == version => return known.seq,
            (None, None) => return self.seq,
            (Some((body, version)), _) => {
                self.seq += 1;
                resources.insert(name.to_string(), Stored { body, version, seq: self.seq });
            }
            (None, Some(_)) => {
                self.seq += 1;
                resources.remove(name);
            }
        }
        if self.log.len() == LOG_LENGTH {
            self.log.pop_front();
        }
        self.log.push_back(Logged { seq: self.seq, type_url, name: name.to_string() });
        self.seq
    }

    /// A resource.
    pub fn find(&self, type_url: &str, name: &str) -> Option<&Stored> {
        self.resources.get(type_url)?.get(name)
    }

    /// Number of the change that made a resource what it is, or that removed it; none: nothing is remembered of it.
    pub fn last_change(&self, type_url: &str, name: &str) -> Option<u64> {
        let logged = || self.log.iter().rev().find(|l| l.type_url == type_url && l.name == name).map(|l| l.seq);
        self.find(type_url, name).map(|stored| stored.seq).or_else(logged)
    }

    /// All resources of a type.
    pub fn all(&self, type_url: &str) -> impl Iterator<Item = (&String, &Stored)> {
        self.resources.get(type_url).into_iter().flatten()
    }

    /// How many there are of a type.
    pub fn count(&self, type_url: &str) -> u64 {
        self.resources.get(type_url).map_or(0, |resources| u64::try_from(resources.len()).unwrap_or(u64::MAX))
    }

    /// Names of a type that changed after `seq`, each once; none: that is longer ago than is remembered.
    pub fn changed_since(&self, type_url: &str, seq: u64) -> Option<Vec<&str>> {
        let forgotten = self.seq.saturating_sub(u64::try_from(self.log.len()).unwrap_or(0));
        if seq < forgotten {
            return None;
        }
        let first = self.log.partition_point(|logged| logged.seq <= seq);
        let mut names: Vec<&str> =
            self.log.range(first..).filter(|l| l.type_url == type_url).map(|l| l.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        Some(names)
    }
}

/// The world, shared, with a bell that rings on every change.
#[derive(Clone, Debug)]
pub struct SharedWorld {
    world: Arc<RwLock<World>>,
    bell: Arc<watch::Sender<u64>>,
}

impl Default for SharedWorld {
    fn default() -> Self {
        Self { world: Arc::default(), bell: Arc::new(watch::channel(0).0) }
    }
}

impl SharedWorld {
    /// Changes the world and rings the bell.
    pub async fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world.write().await;
        let result = change(&mut world);
        self.bell.send_replace(world.seq());
        result
    }

    /// Looks at the world.
    pub async fn read<T>(&self, look: impl FnOnce(&World) -> T) -> T {
        look(&*self.world.read().await)
    }

    /// The bell.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }
}

//! Who is connected, and has acknowledged what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::world::types;

/// One connected stream.
#[derive(Clone, Debug)]
pub struct Instance {
    /// The proxy, as its credential says.
    pub proxy: String,
    /// What it calls itself: a filter's worker, or Envoy.
    pub node: String,
    /// It is a filter's: it enforces grants and sessions.
    pub is_filter: bool,
    /// Since when.
    pub connected_at: SystemTime,
    /// Everything up to this change is acknowledged, of grants and of sessions.
    pub grants: u64,
    /// See `grants`.
    pub sessions: u64,
    /// Responses it refused, and why it refused the last one.
    pub refusals: u64,
    /// See `refusals`; none: it has taken everything since.
    pub last_refusal: Option<String>,
}

/// How far a change has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Filters that acknowledged it.
    pub enforced: usize,
    /// Filters connected.
    pub of: usize,
    /// The others.
    pub pending: Vec<String>,
}

/// All connected streams.
#[derive(Clone, Debug)]
pub struct Proxies {
    instances: Arc<Mutex<BTreeMap<u64, Instance>>>,
    bell: Arc<watch::Sender<u64>>,
}

impl Default for Proxies {
    fn default() -> Self {
        Self { instances: Arc::default(), bell: Arc::new(watch::channel(0).0) }
    }
}

impl Proxies {
    /// Everyone, by the number of the stream.
    pub fn all(&self) -> BTreeMap<u64, Instance> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rings whenever anyone comes, goes or acknowledges.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// How far the change numbered `seq` of a grant or session has come.
    pub fn progress(&self, type_url: &str, seq: u64) -> Progress {
        let mut progress = Progress::default();
        for instance in self.all().values().filter(|instance| instance.is_filter) {
            let reached = if type_url == types::GRANT { instance.grants } else { instance.sessions };
            progress.of += 1;
            if reached >= seq {
                progress.enforced += 1;
            } else {
                progress.pending.push(instance.node.clone());
            }
        }
        progress
    }

    pub(crate) fn set(&self, stream: u64, instance: Option<Instance>) {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        match instance {
            Some(instance) => {
                instances.insert(stream, instance);
            }
            None => {
                instances.remove(&stream);
            }
        }
        drop(instances);
        self.bell.send_modify(|rings| *rings = rings.wrapping_add(1));
    }
}

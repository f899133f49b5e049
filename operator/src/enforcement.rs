//! Whether a change is enforced: what this control plane knows, and the others of its kind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::select_all;
use sallyport_api::Kind;
use sallyport_operator_index::{Index, Key};
use sallyport_operator_xds::render::FILTER;
use sallyport_operator_xds::{Obstacle, Progress, Question, Survey, Target, World, types};
use sallyport_policy::ObjectId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::kubernetes::Peers;
use crate::lock::lock;
use crate::targets::Targets;

/// Others are asked for so long at a time, so that a proxy that moves between us and them is found again.
const SLICE: Duration = Duration::from_secs(1);
/// Time between two rounds of asking, at least.
const BREATH: Duration = Duration::from_millis(20);

/// A resource, and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) kind: ItemKind,
    /// As `namespace/name`.
    pub(crate) name: String,
    /// The version that it must have; empty: it must not be there.
    pub(crate) version: String,
}

/// Kind of an object, as the API's paths have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ItemKind {
    Servers,
    Grants,
    Sessions,
}

impl ItemKind {
    const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Server => Self::Servers,
            Kind::Grant => Self::Grants,
            Kind::Session => Self::Sessions,
        }
    }

    /// Type of the resource that proxies get of such an object.
    const fn type_url(self) -> &'static str {
        match self {
            Self::Servers => types::EXTENSION,
            Self::Grants => types::GRANT,
            Self::Sessions => types::SESSION,
        }
    }
}

impl Item {
    /// The resource's name: a server's proxies have one configuration, by a name of its own.
    fn resource(&self) -> &str {
        match self.kind {
            ItemKind::Servers => FILTER,
            ItemKind::Grants | ItemKind::Sessions => &self.name,
        }
    }
}

/// What one replica asks another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// Items by their server, as `namespace/name`.
    pub(crate) servers: BTreeMap<String, Vec<Item>>,
    /// How long to wait until nothing is pending, in milliseconds.
    #[serde(default)]
    pub(crate) timeout_ms: u64,
}

/// What is answered: a survey of each server's items, in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) servers: BTreeMap<String, Survey>,
}

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Enforced {
    /// The version that is there; none: it is not there.
    pub(crate) version: Option<String>,
    /// Every proxy has acknowledged what was asked for, and there is one at least: where no proxy is connected, nobody knows
    /// what is enforced.
    pub(crate) is_complete: bool,
    pub(crate) progress: Progress,
    /// Replicas that do not say what their proxies enforce.
    pub(crate) silent: Vec<String>,
}

/// Answers what is enforced.
#[derive(Clone, Debug)]
pub(crate) struct Enforcement {
    pub(crate) targets: Targets,
    pub(crate) index: Arc<Mutex<Index>>,
    /// Rings when changes of objects were brought to the targets.
    pub(crate) applied: watch::Receiver<u64>,
    /// The other replicas.
    pub(crate) peers: Option<Peers>,
    /// Filters that each proxy has. Fewer are no proof: one may be on its way back from a replica
    /// that was killed.
    pub(crate) filters: usize,
}

impl Enforcement {
    /// Waits until a grant or session is enforced, for `timeout` at most. `version`: what it must be; empty, not there; none,
    /// what it is.
    pub(crate) async fn wait(&self, key: &Key, version: Option<&str>, timeout: Duration) -> Enforced {
        let began = Instant::now();
        loop {
            let round = Instant::now();
            let left = timeout.saturating_sub(began.elapsed());
            let enforced = match &self.peers {
                None => self.wait_here(key, version, left).await,
                Some(peers) => self.wait_everywhere(peers, key, version, left.min(SLICE)).await,
            };
            let left = timeout.saturating_sub(began.elapsed());
            if enforced.is_complete || left.is_zero() {
                return enforced;
            }
            tokio::time::sleep(BREATH.saturating_sub(round.elapsed()).min(left)).await;
        }
    }

    /// How far objects have come as they are now, on all replicas; in the same order. A replica that does not answer is left
    /// out: its proxies are not among those there are.
    pub(crate) async fn reach(&self, keys: &[Key]) -> Vec<Progress> {
        let mut asked = Asked::default();
        let mut places = Vec::new();
        for key in keys {
            let server = match key.0 {
                Kind::Server => Some(key.1.clone()),
                Kind::Grant | Kind::Session => lock(&self.index).named_by(key).cloned(),
            };
            let target = server.and_then(|server| Some((self.targets.find(&server)?, server)));
            let Some((tracked, server)) = target else {
                places.push(None);
                continue;
            };
            let mut item =
                Item { kind: ItemKind::of(key.0), name: key.1.to_string(), version: String::new() };
            item.version = version_of(&tracked.target, &item).await.unwrap_or_default();
            let (server, type_url) = (server.to_string(), item.kind.type_url());
            let items = asked.servers.entry(server.clone()).or_default();
            places.push(Some((server, items.len(), type_url)));
            items.push(item);
        }
        let mut answers = vec![self.survey(&asked).await];
        if let Some(peers) = &self.peers {
            answers.extend(peers.ask(&asked).await.0);
        }
        let progress = |(server, at, type_url): (String, usize, &'static str)| {
            let surveys = answers.iter().filter_map(|answer| answer.servers.get(&server));
            Progress::of_proxies(surveys, at, type_url, self.filters)
        };
        places.into_iter().map(|place| place.map(progress).unwrap_or_default()).collect()
    }

    /// What another replica asked: how far our own streams are, as soon as nothing is pending or its time is over.
    pub(crate) async fn answer(&self, asked: &Asked) -> Answered {
        let (began, timeout) = (Instant::now(), Duration::from_millis(asked.timeout_ms).min(SLICE));
        let servers: Vec<ObjectId> = asked.servers.keys().filter_map(|server| parse(server)).collect();
        loop {
            let targets: Vec<Target> =
                servers.iter().filter_map(|server| Some(self.targets.find(server)?.target)).collect();
            let mut bells = Bells::of(self.applied.clone(), &targets);
            let answered = self.survey(asked).await;
            let is_settled = answered.servers.values().all(|survey| survey.pending.is_empty());
            let left = timeout.saturating_sub(began.elapsed());
            if is_settled || left.is_zero() || !bells.rung(left).await {
                return answered;
            }
        }
    }

    async fn survey(&self, asked: &Asked) -> Answered {
        let mut answered = Answered::default();
        for (server, items) in &asked.servers {
            if let Some(tracked) = parse(server).and_then(|server| self.targets.find(&server)) {
                answered.servers.insert(server.clone(), survey(&tracked.target, items).await);
            }
        }
        answered
    }

    /// The one proxy of all servers, filter by filter.
    async fn wait_here(&self, key: &Key, version: Option<&str>, timeout: Duration) -> Enforced {
        let began = Instant::now();
        let (kind, name) = (ItemKind::of(key.0), key.1.to_string());
        loop {
            let Some((_, target)) = self.targets_of(key).await.into_iter().next() else {
                return Enforced::default();
            };
            let mut bells = Bells::of(self.applied.clone(), std::slice::from_ref(&target));
            let look = |world: &World| {
                let present = world.find(kind.type_url(), &name).map(|stored| stored.version.clone());
                (present, world.change_to(kind.type_url(), &name, version))
            };
            let (present, change) = target.world.read(look).await;
            let question = Question { type_url: kind.type_url(), name: name.clone(), change };
            let progress =
                Progress::of_streams(&target.proxies.survey(&[question]), 0, kind.type_url(), self.filters);
            let is_complete = change.is_some() && progress.is_complete();
            let left = timeout.saturating_sub(began.elapsed());
            if is_complete || left.is_zero() || !bells.rung(left).await {
                return Enforced { version: present, is_complete, progress, silent: Vec::new() };
            }
        }
    }

    /// Our proxies and those of the other replicas, proxy by proxy.
    async fn wait_everywhere(
        &self,
        peers: &Peers,
        key: &Key,
        version: Option<&str>,
        timeout: Duration,
    ) -> Enforced {
        let began = Instant::now();
        let mut item = Item { kind: ItemKind::of(key.0), name: key.1.to_string(), version: String::new() };
        let mut applied = self.applied.clone();
        let (targets, present) = loop {
            applied.mark_unchanged();
            let targets = self.targets_of(key).await;
            let mut present = None;
            for (_, target) in &targets {
                present = present.or(version_of(target, &item).await);
            }
            let is_here = version.is_none_or(|version| version == present.as_deref().unwrap_or_default());
            if is_here && !targets.is_empty() {
                break (targets, present);
            }
            // It has not come to us yet.
            let left = timeout.saturating_sub(began.elapsed());
            let Ok(Ok(())) = tokio::time::timeout(left, applied.changed()).await else {
                return Enforced { version: present, ..Enforced::default() };
            };
        };
        item.version = version.map(String::from).or_else(|| present.clone()).unwrap_or_default();
        let servers = targets.iter().filter_map(|(server, _)| server.as_ref());
        let asked = Asked {
            servers: servers.map(|server| (server.to_string(), vec![item.clone()])).collect(),
            timeout_ms: u64::try_from(timeout.saturating_sub(began.elapsed()).as_millis())
                .unwrap_or(u64::MAX),
        };
        let (here, (there, silent)) = tokio::join!(self.answer(&asked), peers.ask(&asked));
        let surveys = std::iter::once(&here).chain(&there).flat_map(|answer| answer.servers.values());
        let progress = Progress::of_proxies(surveys, 0, item.kind.type_url(), self.filters);
        let is_complete = progress.is_complete() && silent.is_empty();
        Enforced { version: present, is_complete, progress, silent }
    }

    /// Whose proxies must have it, or must have it no more.
    async fn targets_of(&self, key: &Key) -> Vec<(Option<ObjectId>, Target)> {
        let named = lock(&self.index).named_by(key).cloned();
        if let Some(server) = named {
            let tracked = self.targets.find(&server);
            return tracked.map(|tracked| (Some(server), tracked.target)).into_iter().collect();
        }
        let (type_url, name) = (ItemKind::of(key.0).type_url(), key.1.to_string());
        let mut targets = Vec::new();
        for (server, tracked) in self.targets.all() {
            let is_known = |world: &World| world.last_change(type_url, &name).is_some();
            if server.is_none() || tracked.target.world.read(is_known).await {
                targets.push((server, tracked.target));
            }
        }
        targets
    }
}

/// What rings when an answer may be another one.
struct Bells {
    applied: watch::Receiver<u64>,
    answers: Vec<watch::Receiver<u64>>,
}

impl Bells {
    fn of(mut applied: watch::Receiver<u64>, targets: &[Target]) -> Self {
        applied.mark_unchanged();
        Self { applied, answers: targets.iter().map(|target| target.proxies.bell()).collect() }
    }

    /// Waits for one of them, for `limit` at most; false: none will ever ring again.
    async fn rung(&mut self, limit: Duration) -> bool {
        let answered = async {
            if self.answers.is_empty() {
                return std::future::pending().await;
            }
            // A target that went tells nothing more, and the next look finds it gone.
            let _ = select_all(self.answers.iter_mut().map(|bell| Box::pin(bell.changed()))).await;
        };
        tokio::select! {
            rung = self.applied.changed() => rung.is_ok(),
            () = answered => true,
            () = tokio::time::sleep(limit) => true,
        }
    }
}

fn parse(server: &str) -> Option<ObjectId> {
    server.split_once('/').map(|(namespace, name)| ObjectId::new(namespace, name))
}

async fn version_of(target: &Target, item: &Item) -> Option<String> {
    let look = |world: &World| Some(world.find(item.kind.type_url(), item.resource())?.version.clone());
    target.world.read(look).await
}

async fn survey(target: &Target, items: &[Item]) -> Survey {
    let question = |world: &World, item: &Item| {
        let (type_url, name) = (item.kind.type_url(), item.resource().to_string());
        Question { type_url, change: world.change_to(type_url, &name, Some(&item.version)), name }
    };
    let questions: Vec<Question> =
        target.world.read(|world| items.iter().map(|item| question(world, item)).collect()).await;
    target.proxies.survey(&questions)
}

/// Who has not acknowledged, for people to read.
pub(crate) fn pending(enforced: &Enforced) -> Vec<String> {
    let replica = |name: &String| format!("proxies of the replica at {name}: {}", Obstacle::Silent);
    let proxies = enforced.progress.pending.iter().map(ToString::to_string);
    proxies.chain(enforced.silent.iter().map(replica)).collect()
}

#[cfg(test)]
mod tests;

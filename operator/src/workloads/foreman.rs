//! Hands out the work: what changed, who needs a round, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, StreamExt};
use kube::Client;
use sallyport_api::v1alpha1::MCPServer;
use sallyport_operator_index::Index;
use sallyport_policy::ObjectId;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::apply::Memory;
use super::job::{self, Done, Task, Tools};
use super::metrics::WorkloadMetrics;
use super::observed::{Change, Sight, Sightings};
use super::places::losers;
use super::queue::Queue;
use super::report::{Report, Reports, workload};
use super::secrets::{Digests, Rumour, SecretWatches};
use super::watches::{self, WATCHED};
use crate::lock::lock;
use crate::render::{ChildKind, Settings, secret_references};
use crate::status::workload::Revisions;

/// Servers that are worked on at once: enough that a slow API server does not stand in the way, few enough that it is not flooded.
const AT_ONCE: usize = 16;

/// What the work needs.
pub(crate) struct Shop {
    pub(crate) client: Client,
    /// All servers.
    pub(crate) index: Arc<Mutex<Index>>,
    /// Tells of servers that came, changed or went.
    pub(crate) news: BoxStream<'static, BTreeSet<ObjectId>>,
    /// Whether this replica writes. It must not before all servers are known.
    pub(crate) leads: watch::Receiver<bool>,
    /// Settings of the platform; a change of them is one of every server.
    pub(crate) settings: watch::Receiver<Arc<Settings>>,
    /// Who is told how the objects are.
    pub(crate) reports: Reports,
    pub(crate) metrics: WorkloadMetrics,
}

/// Keeps what is rendered while this replica leads, until `shutdown`.
pub(crate) async fn run(mut shop: Shop, shutdown: CancellationToken) {
    loop {
        let is_leading = tokio::select! {
            leads = shop.leads.wait_for(|leads| *leads) => leads.is_ok(),
            // News of those who do not write are old before they do.
            Some(_) = shop.news.next() => continue,
            () = shutdown.cancelled() => return,
        };
        if !is_leading {
            return;
        }
        tracing::info!("keeping the objects of servers");
        let mut leads = shop.leads.clone();
        tokio::select! {
            () = Foreman::new(&mut shop).work() => {}
            _ = leads.wait_for(|leads| !*leads) => {}
            () = shutdown.cancelled() => return,
        }
        shop.reports.clear();
    }
}

/// What is known of a server that is kept.
struct Kept {
    server: Arc<MCPServer>,
    memory: Memory,
    /// Objects that went while a round ran: what it says of them is old.
    lost: BTreeSet<crate::render::ChildKey>,
    /// Of the last round.
    problems: Vec<sallyport_resolve::Problem>,
    rollout: Option<Revisions>,
    failure: Option<String>,
}

struct Foreman<'a> {
    shop: &'a mut Shop,
    tools: Tools,
    settings: Arc<Settings>,
    kept: BTreeMap<ObjectId, Kept>,
    rivals: BTreeMap<ObjectId, ObjectId>,
    sightings: Sightings,
    /// Kinds whose objects are all known.
    listed: BTreeSet<ChildKind>,
    queue: Queue,
    jobs: FuturesUnordered<BoxFuture<'static, (Done, Instant)>>,
    secrets: SecretWatches,
}

impl<'a> Foreman<'a> {
    fn new(shop: &'a mut Shop) -> Self {
        let tools =
            Tools { client: shop.client.clone(), digests: Digests::default(), metrics: shop.metrics.clone() };
        let settings = shop.settings.borrow_and_update().clone();
        Self {
            shop,
            tools,
            settings,
            kept: BTreeMap::new(),
            rivals: BTreeMap::new(),
            sightings: Sightings::default(),
            listed: BTreeSet::new(),
            queue: Queue::default(),
            jobs: FuturesUnordered::new(),
            secrets: SecretWatches::default(),
        }
    }

    async fn work(mut self) {
        let mut sights = watches::all(&self.shop.client);
        let all: Vec<ObjectId> = lock(&self.shop.index).servers().map(|(id, _)| id.clone()).collect();
        self.take_in(all);
        loop {
            self.begin();
            // A round needs all objects: what is not seen counts as gone.
            let due = self.queue.when().filter(|_| self.is_listed() && self.jobs.len() < AT_ONCE);
            tokio::select! {
                Some(servers) = self.shop.news.next() => self.take_in(servers),
                Some((kind, sight)) = sights.next() => self.see(kind, sight),
                Some((done, began)) = self.jobs.next(), if !self.jobs.is_empty() => self.finish(done, began),
                rumour = self.secrets.next() => self.hear(rumour),
                changed = self.shop.settings.changed() => {
                    if changed.is_err() { return }
                    self.settings = self.shop.settings.borrow_and_update().clone();
                    self.judge_places();
                    self.add_all(|_| true);
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    fn is_listed(&self) -> bool {
        self.listed.len() == WATCHED
    }

    /// Starts what is due.
    fn begin(&mut self) {
        while self.is_listed() && self.jobs.len() < AT_ONCE {
            let now = Instant::now();
            let Some(id) = self.queue.next(now) else { return };
            let Some(kept) = self.kept.get_mut(&id) else {
                self.queue.done(&id, true, now);
                continue;
            };
            kept.lost.clear();
            let task = Task {
                server: kept.server.clone(),
                settings: self.settings.clone(),
                children: self.sightings.of(&id),
                memory: std::mem::take(&mut kept.memory),
                rival: self.rivals.get(&id).cloned(),
                id,
            };
            let tools = self.tools.clone();
            self.jobs.push(Box::pin(async move { (job::run(tools, task).await, now) }));
        }
    }

    /// Servers came, changed or went.
    fn take_in(&mut self, servers: impl IntoIterator<Item = ObjectId>) {
        let now = Instant::now();
        let mut is_moved = false;
        for id in servers {
            let server = lock(&self.shop.index).server(&id).cloned();
            // One that is being deleted takes its objects with it.
            match server.filter(|server| server.metadata.deletion_timestamp.is_none()) {
                Some(server) => {
                    let known = self.kept.get(&id).map(|kept| kept.server.clone());
                    if known.as_ref().is_some_and(|known| is_same(known, &server)) {
                        continue;
                    }
                    is_moved |= known.is_none_or(|known| {
                        known.spec != server.spec || known.metadata.uid != server.metadata.uid
                    });
                    self.keep(&id, server);
                    self.queue.add(id, now);
                }
                None if self.kept.remove(&id).is_some() => {
                    is_moved = true;
                    self.queue.forget(&id);
                    self.shop.reports.set(&id, None);
                }
                None => {}
            }
        }
        if is_moved {
            self.judge_places();
            self.watch_secrets();
            self.tools.metrics.servers.set(i64::try_from(self.kept.len()).unwrap_or(i64::MAX));
        }
    }

    fn keep(&mut self, id: &ObjectId, server: Arc<MCPServer>) {
        let uid = server.metadata.uid.clone().unwrap_or_default();
        match self.kept.get_mut(id) {
            Some(kept) => {
                if kept.server.metadata.uid != server.metadata.uid {
                    kept.memory = Memory::of(uid);
                }
                kept.server = server;
            }
            None => {
                let kept = Kept {
                    server,
                    memory: Memory::of(uid),
                    lost: BTreeSet::new(),
                    problems: Vec::new(),
                    rollout: None,
                    failure: None,
                };
                self.kept.insert(id.clone(), kept);
            }
        }
    }

    fn judge_places(&mut self) {
        let servers = self.kept.iter().map(|(id, kept)| (id, kept.server.as_ref()));
        let rivals = losers(servers, &self.settings);
        let before = std::mem::replace(&mut self.rivals, rivals);
        let is_changed = |id: &ObjectId| before.get(id) != self.rivals.get(id);
        let changed: Vec<ObjectId> = self.kept.keys().filter(|id| is_changed(id)).cloned().collect();
        let now = Instant::now();
        changed.into_iter().for_each(|id| self.queue.add(id, now));
    }

    fn watch_secrets(&mut self) {
        let refers =
            self.kept.iter().filter(|(_, kept)| secret_references(&kept.server.spec).next().is_some());
        let namespaces = refers.map(|(id, _)| id.namespace.clone()).collect();
        for namespace in self.secrets.watch(&self.tools.client, &namespaces) {
            self.tools.digests.forget(&namespace);
        }
    }

    fn add_all(&mut self, which: impl Fn(&ObjectId) -> bool) {
        let now = Instant::now();
        for id in self.kept.keys().filter(|id| which(id)) {
            self.queue.add(id.clone(), now);
        }
    }

    /// A rendered object changed.
    fn see(&mut self, kind: ChildKind, sight: Sight) {
        if matches!(sight, Sight::Complete) {
            self.listed.insert(kind);
        }
        let now = Instant::now();
        for (id, key, change) in self.sightings.take(kind, sight) {
            let Some(kept) = self.kept.get_mut(&id) else { continue };
            if change == Change::Lost {
                kept.memory.forget(&key);
                kept.lost.insert(key);
            }
            self.queue.add(id.clone(), now);
            self.report(&id);
        }
    }

    /// A Secret changed.
    fn hear(&mut self, (namespace, secret): Rumour) {
        let Some((name, version)) = secret else {
            self.tools.digests.forget(&namespace);
            let refers = |kept: &Kept| secret_references(&kept.server.spec).next().is_some();
            let kept: BTreeSet<ObjectId> =
                self.kept.iter().filter(|(_, kept)| refers(kept)).map(|(id, _)| id.clone()).collect();
            self.add_all(|id| id.namespace == namespace && kept.contains(id));
            return;
        };
        let refers =
            |kept: &Kept| secret_references(&kept.server.spec).any(|reference| reference.name == name);
        let of_namespace = self.kept.iter().filter(|(id, kept)| id.namespace == namespace && refers(kept));
        let concerned: BTreeSet<ObjectId> = of_namespace.map(|(id, _)| id.clone()).collect();
        if !concerned.is_empty() && self.tools.digests.hear(&namespace, &name, &version) {
            self.add_all(|id| concerned.contains(id));
        }
    }

    /// A round ended.
    fn finish(&mut self, done: Done, began: Instant) {
        let now = Instant::now();
        self.tools.metrics.rounds.observe(began.elapsed().as_secs_f64());
        if let Some(failure) = done.failure.as_ref().filter(|_| !done.is_stale) {
            self.tools.metrics.failures.inc();
            tracing::warn!(server = %done.id, failure, "objects of a server cannot be kept");
        }
        self.queue.done(&done.id, done.failure.is_none(), now);
        let Some(kept) = self.kept.get_mut(&done.id) else { return };
        // A server of the same name that came meanwhile begins anew.
        if kept.server.metadata.uid.as_deref().unwrap_or_default() == done.memory.server {
            kept.memory = done.memory;
        }
        for key in &kept.lost {
            kept.memory.forget(key);
        }
        let lost = std::mem::take(&mut kept.lost);
        if !done.is_stale {
            kept.problems = done.problems;
            kept.failure = done.failure;
        }
        if done.rollout.is_some() {
            kept.rollout = done.rollout;
        }
        for key in done.deleted {
            self.sightings.take(key.0, Sight::Gone(done.id.clone(), key.1));
        }
        for (key, seen) in done.seen {
            if !lost.contains(&key) {
                self.sightings.see(done.id.clone(), key, seen);
            }
        }
        self.report(&done.id);
    }

    fn report(&self, id: &ObjectId) {
        let Some(kept) = self.kept.get(id) else { return };
        let workload = workload(&id.name, &self.sightings.of(id), kept.failure.clone());
        let report = Report { workload, problems: kept.problems.clone(), rollout: kept.rollout };
        self.shop.reports.set(id, Some(report));
    }
}

/// Whether nothing changed that objects depend on: its own status is none of it.
fn is_same(before: &MCPServer, after: &MCPServer) -> bool {
    before.spec == after.spec
        && before.metadata.uid == after.metadata.uid
        && before.metadata.annotations == after.metadata.annotations
}

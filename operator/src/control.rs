//! Changes of objects in, worlds of proxies out: what both sources feed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use sallyport_api::{Kind, Object};
use sallyport_operator_index::{Change, Encoded, Index, Key, Plan, ServerPlan};
use sallyport_operator_ir::{Address, ProxyPlan};
use sallyport_operator_xds::{World, render, types};
use sallyport_policy::ObjectId;
use sallyport_policy_proto::{v1, wire};
use sallyport_resolve::Problem;
use tokio::sync::watch;

use crate::digest_key::DigestKey;
use crate::lock::lock;
use crate::metrics::{KindLabel, Metrics};
use crate::revisions::{Revisions, stamp_edition};
use crate::targets::{Targets, Tracked};

/// Envoy clusters of the bootstrap.
const XDS_CLUSTER: &str = "sallyport_control_plane";
const AUDIT_CLUSTER: &str = "sallyport_ingest";

/// What became of an object.
#[derive(Debug)]
pub(crate) enum Delta {
    /// It was added or changed; a time in seconds since 1970 counts for a session that does not say when it was created.
    Upsert(Object, Option<i64>),
    /// It is not as it must be: what is left of it, and what is wrong.
    Reject(Key, Option<Object>, Vec<Problem>),
    /// It is gone.
    Remove(Key),
}

impl Delta {
    /// Whose it is.
    pub(crate) fn key(&self) -> Key {
        match self {
            Self::Upsert(object, _) => {
                let (namespace, name) = object.id();
                (object.kind(), ObjectId::new(namespace, name))
            }
            Self::Reject(key, ..) | Self::Remove(key) => key.clone(),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Upsert(object, _) => object.kind(),
            Self::Reject(key, ..) | Self::Remove(key) => key.0,
        }
    }
}

/// What every proxy's configuration has in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// Address that proxies listen on; the port counts where their server names none.
    pub(crate) listen: Address,
    /// The filter's module, as the proxy finds it.
    pub(crate) module: String,
    /// Name of the proxy; empty: each goes by its own.
    pub(crate) proxy: String,
    /// Key of argument digests.
    pub(crate) digest_key: DigestKey,
}

/// Brings changes of objects to the proxies that they concern.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) targets: Targets,
    pub(crate) metrics: Metrics,
    pub(crate) common: Common,
    pub(crate) revisions: Revisions,
    /// Rung when changes were brought to the targets.
    pub(crate) applied: watch::Sender<u64>,
}

/// A grant or session as proxies must have it; none: not.
type Access = (Key, Option<Encoded>);

/// What the proxies of one target must learn.
#[derive(Debug, Default)]
struct Lesson {
    accesses: Vec<Access>,
    plan: Option<ProxyPlan>,
}

impl Control {
    /// Takes in what became of some objects. Answers with the targets that are new.
    pub(crate) async fn apply(&mut self, deltas: Vec<Delta>) -> Vec<(ObjectId, Tracked)> {
        for delta in &deltas {
            self.metrics.changes.get_or_create(&KindLabel { kind: delta.kind().as_str() }).inc();
        }
        let changes = self.take_in(deltas);
        self.bring(changes).await
    }

    /// Another key of argument digests counts from now on, in every configuration. Answers with the targets that are new.
    pub(crate) async fn rekey(&mut self, key: DigestKey) -> Vec<(ObjectId, Tracked)> {
        if self.common.digest_key == key {
            return Vec::new();
        }
        self.common.digest_key = key;
        let all = lock(&self.index).servers().map(|(id, _)| Change::Server(id.clone())).collect();
        self.bring(all).await
    }

    async fn bring(&mut self, changes: Vec<Change>) -> Vec<(ObjectId, Tracked)> {
        let made = match &self.targets {
            Targets::Single(tracked) => {
                let tracked = tracked.clone();
                let lesson = self.lesson_for_all(changes);
                teach(&tracked, lesson).await;
                Vec::new()
            }
            Targets::PerServer(_) => self.teach_each(changes).await,
        };
        self.applied.send_modify(|rings| *rings = rings.wrapping_add(1));
        made
    }

    fn take_in(&self, deltas: Vec<Delta>) -> Vec<Change> {
        // Servers first: what names them resolves once.
        let (servers, others): (Vec<_>, Vec<_>) =
            deltas.into_iter().partition(|delta| delta.kind() == Kind::Server);
        let mut index = lock(&self.index);
        let mut changes = Vec::new();
        for delta in servers.into_iter().chain(others) {
            changes.extend(match delta {
                Delta::Upsert(object, issued_at) => index.upsert(object, issued_at),
                Delta::Reject(key, left, problems) => index.reject(key, left, problems),
                Delta::Remove(key) => index.remove(&key),
            });
        }
        report(&index, &changes);
        changes
    }

    /// Everything, for the one proxy of all servers.
    fn lesson_for_all(&mut self, changes: Vec<Change>) -> Lesson {
        let is_planned = |change: &Change| matches!(change, Change::Server(_));
        let is_first = self.revisions.is_fresh();
        let plan = (is_first || changes.iter().any(is_planned)).then(|| lock(&self.index).plan());
        let plan = plan.map(|plan| {
            let config = self.revisions.stamp(self.filter_config(&plan));
            self.proxy_plan(plan, &config, None)
        });
        let accesses = changes.into_iter().filter_map(access).collect();
        Lesson { accesses, plan }
    }

    /// To each target what concerns its server.
    async fn teach_each(&mut self, changes: Vec<Change>) -> Vec<(ObjectId, Tracked)> {
        let mut by_server: BTreeMap<ObjectId, (bool, Vec<Access>)> = BTreeMap::new();
        for change in changes {
            let (is_planned, accesses) = by_server.entry(change.server().clone()).or_default();
            match access(change) {
                Some(access) => accesses.push(access),
                None => *is_planned = true,
            }
        }
        let now = Instant::now();
        let mut made = Vec::new();
        for (server, (is_planned, accesses)) in by_server {
            let plan = lock(&self.index).plan_of(&server);
            let tracked = if plan.is_some() {
                let (tracked, is_new) = self.targets.make(&server);
                if is_new {
                    made.push((server.clone(), tracked.clone()));
                }
                tracked
            } else {
                self.targets.retire(&server, now);
                // What names a server that is not there is nobody's to know.
                let Some(tracked) = self.targets.find(&server) else { continue };
                tracked
            };
            let plan = is_planned.then(|| self.plan_for(&server, plan));
            teach(&tracked, Lesson { accesses, plan }).await;
        }
        self.targets.sweep(now);
        made
    }

    /// What proxies of one server do; nothing, where it is gone.
    fn plan_for(&self, server: &ObjectId, plan: Option<ServerPlan>) -> ProxyPlan {
        let (plan, port, edition) = match plan {
            Some(ServerPlan { plan, port, edition }) => (plan, Some(port), Some(edition)),
            None => (Plan::default(), None, None),
        };
        let edition = self.targets.edition(server, edition);
        let edition = format!("{edition}/{}", self.common.digest_key.version);
        let config = stamp_edition(self.filter_config(&plan), &edition);
        self.proxy_plan(plan, &config, port)
    }

    fn filter_config(&self, plan: &Plan) -> v1::FilterConfig {
        let mut config = v1::FilterConfig {
            servers: plan.servers.iter().map(v1::Server::from).collect(),
            xds_cluster: XDS_CLUSTER.into(),
            audit_cluster: AUDIT_CLUSTER.into(),
            proxy: self.common.proxy.clone(),
            digest_key: self.common.digest_key.bytes.to_vec(),
            ..v1::FilterConfig::default()
        };
        config.needs = wire::needed(&config);
        config
    }

    fn proxy_plan(&self, plan: Plan, config: &v1::FilterConfig, port: Option<u16>) -> ProxyPlan {
        let listen = &self.common.listen;
        ProxyPlan {
            listen: Address { host: listen.host.clone(), port: port.unwrap_or(listen.port) },
            max_body_bytes: plan.servers.iter().map(|server| server.max_request_bytes).max().unwrap_or(0),
            routes: plan.routes,
            upstreams: plan.upstreams,
            module: self.common.module.clone(),
            filter_config: config.encode_to_vec(),
            filter_needs: config.needs,
        }
    }
}

/// A change of a grant or session; none: it is one of a server.
fn access(change: Change) -> Option<Access> {
    match change {
        Change::Access { key, encoded, .. } => Some((key, encoded)),
        Change::Server(_) => None,
    }
}

/// Brings a target's world to what its proxies must know.
async fn teach(tracked: &Tracked, lesson: Lesson) {
    let change = |world: &mut World| {
        for (key, encoded) in lesson.accesses {
            apply_access(world, &key, encoded);
        }
        if let Some(plan) = &lesson.plan {
            render::apply(plan, world);
        }
    };
    tracked.target.world.change(change).await;
}

fn apply_access(world: &mut World, (kind, id): &Key, encoded: Option<Encoded>) {
    let type_url = match kind {
        Kind::Grant => types::GRANT,
        Kind::Session => types::SESSION,
        Kind::Server => return,
    };
    let body = encoded.map(|e| (Any { type_url: type_url.into(), value: e.bytes }, e.version));
    world.set(type_url, &id.to_string(), body);
}

/// Tells of what is wrong with the objects that changed.
fn report(index: &Index, changes: &[Change]) {
    for change in changes {
        let key = match change {
            Change::Server(id) => &(Kind::Server, id.clone()),
            Change::Access { key, .. } => key,
        };
        for problem in index.problems().get(key).into_iter().flatten() {
            tracing::warn!(
                object = %format_args!("{} {}", key.0.as_str(), key.1), path = problem.path, reason = problem.reason,
                "{}", problem.message
            );
        }
    }
}

#[cfg(test)]
mod tests;

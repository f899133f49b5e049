//! All objects, resolved.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sallyport_api::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};
use sallyport_api::{Kind, Object, ObjectMeta};
use sallyport_operator_ir::{Route, Upstream};
use sallyport_policy::{ObjectId, ServerPolicy};
use sallyport_policy_proto::resource;
use sallyport_resolve::{
    Place, Problem, Resolved, Settings, collision, exposure, object_id, resolve_grant, resolve_server,
    resolve_session, server_of,
};

use crate::expose::expose;
use crate::places::{Claim, Places};

/// An object by kind and id.
pub type Key = (Kind, ObjectId);

/// A grant or session as proxies get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Its message.
    pub bytes: Vec<u8>,
    /// Its version.
    pub version: String,
}

/// A change that proxies must learn of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What is exposed of this server changed.
    Server(ObjectId),
    /// A grant or session has another form for proxies of a server.
    Access {
        /// Which one.
        key: Key,
        /// The server that it names.
        server: ObjectId,
        /// The form; none: it is gone there, or has no effect.
        encoded: Option<Encoded>,
    },
}

impl Change {
    /// The server whose proxies must learn of it.
    pub fn server(&self) -> &ObjectId {
        match self {
            Self::Server(server) | Self::Access { server, .. } => server,
        }
    }
}

/// Servers as a proxy exposes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Their policies.
    pub servers: Vec<ServerPolicy>,
    /// Ways in.
    pub routes: Vec<Route>,
    /// Ways out.
    pub upstreams: Vec<Upstream>,
}

/// One server as its own proxies expose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPlan {
    /// The server alone.
    pub plan: Plan,
    /// Port that its gateways listen on.
    pub port: u16,
    /// Which object this is, and which edition of it: one that is past never comes back.
    pub edition: String,
}

/// A server, resolved.
#[derive(Debug)]
struct Exposed {
    claim: Claim,
    place: Place,
    /// Whose the place is, where it is another's.
    holder: Option<ObjectId>,
    policy: ServerPolicy,
    /// Version of the policy's message.
    revision: String,
    /// None: it is not exposed, and `problems` says why.
    way: Option<(Route, Upstream)>,
    problems: Vec<Problem>,
}

/// All objects, resolved.
#[derive(Debug, Default)]
pub struct Index {
    settings: Settings,
    servers: BTreeMap<ObjectId, Arc<MCPServer>>,
    exposed: BTreeMap<ObjectId, Exposed>,
    places: Places,
    grants: BTreeMap<ObjectId, Arc<MCPAccessGrant>>,
    sessions: BTreeMap<ObjectId, (Arc<MCPAgentSession>, Option<i64>)>,
    /// Grants and sessions by the server they name, and the other way round.
    dependents: BTreeMap<ObjectId, BTreeSet<Key>>,
    named: BTreeMap<Key, ObjectId>,
    /// What the source found wrong with objects.
    found: BTreeMap<Key, Vec<Problem>>,
    problems: BTreeMap<Key, Vec<Problem>>,
}

impl Index {
    /// An empty index.
    pub fn new(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// An object was added or changed. `issued_at` (seconds since 1970) counts for a session whose metadata does not
    /// say when it was created.
    pub fn upsert(&mut self, object: Object, issued_at: Option<i64>) -> Vec<Change> {
        let key = key_of(&object);
        let was_found = self.found.remove(&key).is_some();
        self.put(key, object, issued_at, was_found)
    }

    /// The source found these `problems` in an object. What is `left` of it takes effect; none: nothing.
    pub fn reject(&mut self, key: Key, left: Option<Object>, problems: Vec<Problem>) -> Vec<Change> {
        self.found.insert(key.clone(), problems);
        match left {
            Some(object) => self.put(key, object, None, true),
            None => {
                let changes = self.withdraw(&key);
                self.set_problems(key, Vec::new());
                changes
            }
        }
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &Key) -> Vec<Change> {
        self.found.remove(key);
        self.withdraw(key)
    }

    /// Nothing depends on an object's status: only where something else changed, or `anew`, it is resolved.
    fn put(&mut self, key: Key, object: Object, issued_at: Option<i64>, anew: bool) -> Vec<Change> {
        let id = key.1.clone();
        match object {
            Object::Server(server) => {
                let server: Arc<MCPServer> = server.into();
                let before = self.servers.insert(id.clone(), server.clone());
                let is_same = |before: Arc<MCPServer>| {
                    before.spec == server.spec && is_same(&before.metadata, &server.metadata)
                };
                if before.is_some_and(is_same) && !anew { Vec::new() } else { self.server_changed(&id) }
            }
            Object::Grant(grant) => {
                let grant: Arc<MCPAccessGrant> = grant.into();
                let before = self.grants.insert(id.clone(), grant.clone());
                let is_same = |before: Arc<MCPAccessGrant>| {
                    before.spec == grant.spec && is_same(&before.metadata, &grant.metadata)
                };
                if before.is_some_and(is_same) && !anew {
                    return Vec::new();
                }
                self.access_changed(&key, server_of(&grant.spec.server_ref, &id.namespace))
            }
            Object::Session(session) => {
                let session: Arc<MCPAgentSession> = session.into();
                let before = self.sessions.insert(id.clone(), (session.clone(), issued_at));
                let is_same = |(before, issued): (Arc<MCPAgentSession>, Option<i64>)| {
                    let is_same = before.spec == session.spec && is_same(&before.metadata, &session.metadata);
                    is_same && issued == issued_at
                };
                if before.is_some_and(is_same) && !anew {
                    return Vec::new();
                }
                self.access_changed(&key, server_of(&session.spec.server_ref, &id.namespace))
            }
        }
    }

    fn withdraw(&mut self, key: &Key) -> Vec<Change> {
        self.problems.remove(key);
        match key.0 {
            Kind::Server => {
                self.servers.remove(&key.1);
                return self.server_changed(&key.1);
            }
            Kind::Grant => drop(self.grants.remove(&key.1)),
            Kind::Session => drop(self.sessions.remove(&key.1)),
        }
        let left = self.depend(key, None);
        left.map(|server| Change::Access { key: key.clone(), server, encoded: None }).into_iter().collect()
    }

    /// Problems of every object that has some.
    pub fn problems(&self) -> &BTreeMap<Key, Vec<Problem>> {
        &self.problems
    }

    /// Every object, also those of which nothing is left.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        let servers = self.servers.keys().map(|id| (Kind::Server, id.clone()));
        let grants = self.grants.keys().map(|id| (Kind::Grant, id.clone()));
        let sessions = self.sessions.keys().map(|id| (Kind::Session, id.clone()));
        let is_left = |(kind, id): &Key| match kind {
            Kind::Server => self.servers.contains_key(id),
            Kind::Grant => self.grants.contains_key(id),
            Kind::Session => self.sessions.contains_key(id),
        };
        let rejected = self.found.keys().filter(move |key| !is_left(key)).cloned();
        servers.chain(grants).chain(sessions).chain(rejected)
    }

    /// A server.
    pub fn server(&self, id: &ObjectId) -> Option<&Arc<MCPServer>> {
        self.servers.get(id)
    }

    /// A grant.
    pub fn grant(&self, id: &ObjectId) -> Option<&Arc<MCPAccessGrant>> {
        self.grants.get(id)
    }

    /// A session.
    pub fn session(&self, id: &ObjectId) -> Option<&Arc<MCPAgentSession>> {
        self.sessions.get(id).map(|(session, _)| session)
    }

    /// Who has what the place of a server excludes, by the rule that decides on its routes; whether that server is known here, or
    /// older, makes no difference.
    pub fn in_the_way(&self, server: &MCPServer) -> Option<&ObjectId> {
        let id = object_id(&server.metadata);
        self.places.rivals(&sallyport_resolve::place(server), &id).min().map(|(_, other)| other)
    }

    /// All servers.
    pub fn servers(&self) -> impl Iterator<Item = (&ObjectId, &Arc<MCPServer>)> {
        self.servers.iter()
    }

    /// All sessions.
    pub fn sessions(&self) -> impl Iterator<Item = (&ObjectId, &Arc<MCPAgentSession>)> {
        self.sessions.iter().map(|(id, (session, _))| (id, session))
    }

    /// The server that a grant or session names, whether or not it is there.
    pub fn named_by(&self, key: &Key) -> Option<&ObjectId> {
        self.named.get(key)
    }

    /// Grants and sessions that name a server, whether or not it is there.
    pub fn dependents(&self, server: &ObjectId) -> impl Iterator<Item = &Key> {
        self.dependents.get(server).into_iter().flatten()
    }

    /// What a proxy of all servers exposes. A server that cannot be exposed is left out, with a problem.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        for exposed in self.exposed.values() {
            if let (Some((route, upstream)), None) = (&exposed.way, &exposed.holder) {
                plan.routes.push(route.clone());
                plan.upstreams.push(upstream.clone());
                plan.servers.push(exposed.policy.clone());
            }
        }
        // A longer path is more specific, and a host more specific than none.
        plan.routes.sort_by(|a, b| {
            let rank = |r: &Route| (r.host.is_none(), Reverse(r.path.len()));
            rank(a).cmp(&rank(b)).then(a.name.cmp(&b.name))
        });
        plan
    }

    /// What a proxy of this server alone exposes; none: there is no such server, or it has no gateway. It is reached by any
    /// host: the cluster's own names lead to it as well. Where its place is another's, no route leads to it.
    pub fn plan_of(&self, id: &ObjectId) -> Option<ServerPlan> {
        let (exposed, server) = (self.exposed.get(id)?, self.servers.get(id)?);
        let gateway = server.spec.gateway.as_ref().filter(|gateway| gateway.enabled)?;
        let mut plan = Plan { servers: vec![exposed.policy.clone()], ..Plan::default() };
        if let (Some((route, upstream)), None) = (&exposed.way, &exposed.holder) {
            plan.routes.push(Route { host: None, ..route.clone() });
            plan.upstreams.push(upstream.clone());
        }
        let uid = server.metadata.uid.as_deref().unwrap_or_default();
        let edition = format!("{uid}/{}", server.metadata.generation.unwrap_or_default());
        Some(ServerPlan { plan, port: u16::try_from(gateway.port).unwrap_or_default(), edition })
    }

    /// Revision of a server's policy: the same for the same policy, whatever else of the server changed. None: there is no such
    /// server, or it has no gateway.
    pub fn policy_revision(&self, id: &ObjectId) -> Option<&str> {
        self.servers.get(id)?.spec.gateway.as_ref().filter(|gateway| gateway.enabled)?;
        self.exposed.get(id).map(|exposed| exposed.revision.as_str())
    }

    /// An object names this server now; none: no more any. Answers with the one it named before.
    fn depend(&mut self, key: &Key, server: Option<ObjectId>) -> Option<ObjectId> {
        let before = self.named.remove(key);
        if let Some(before) = &before
            && let Some(dependents) = self.dependents.get_mut(before)
        {
            dependents.remove(key);
            if dependents.is_empty() {
                self.dependents.remove(before);
            }
        }
        if let Some(server) = server {
            self.dependents.entry(server.clone()).or_default().insert(key.clone());
            self.named.insert(key.clone(), server);
        }
        before
    }

    fn access_changed(&mut self, key: &Key, server: ObjectId) -> Vec<Change> {
        let before = self.depend(key, Some(server.clone()));
        let left = before.filter(|before| *before != server);
        let mut changes: Vec<Change> = left
            .map(|server| Change::Access { key: key.clone(), server, encoded: None })
            .into_iter()
            .collect();
        changes.extend(self.resolve(key));
        changes
    }

    fn server_changed(&mut self, id: &ObjectId) -> Vec<Change> {
        let mut changes = vec![Change::Server(id.clone())];
        changes.extend(self.expose(id).into_iter().map(Change::Server));
        let keys: Vec<Key> = self.dependents(id).cloned().collect();
        changes.extend(keys.iter().filter_map(|key| self.resolve(key)));
        changes
    }

    /// Resolves a server. Answers with the others that got or lost a place by it.
    fn expose(&mut self, id: &ObjectId) -> BTreeSet<ObjectId> {
        let mut rivals = BTreeSet::new();
        let known = |(_, id): &Claim| id.clone();
        if let Some(Exposed { claim, place, .. }) = self.exposed.remove(id) {
            rivals.extend(self.places.rivals(&place, id).map(known));
            self.places.give_up(&place, &claim);
        }
        if let Some(server) = self.servers.get(id) {
            let (policy, mut problems) = resolve_server(server, &self.settings);
            let age = server.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
            let (claim, place) = ((age, id.clone()), sallyport_resolve::place(server));
            let way = exposure(server).and_then(|exposure| expose(id, &exposure));
            let way = way.map_err(|problem| problems.push(problem)).ok();
            rivals.extend(self.places.rivals(&place, id).map(known));
            self.places.claim(&place, claim.clone());
            let (_, revision) = resource::server(&policy);
            let exposed = Exposed { claim, place, holder: None, policy, revision, way, problems };
            self.exposed.insert(id.clone(), exposed);
        }
        self.judge_place(id);
        rivals.retain(|rival| self.judge_place(rival));
        rivals
    }

    /// Finds who stands in a server's way, and writes that down with its other problems. Answers whether the server got or lost
    /// its place.
    fn judge_place(&mut self, id: &ObjectId) -> bool {
        let (Some(exposed), Some(server)) = (self.exposed.get_mut(id), self.servers.get(id)) else {
            return false;
        };
        let holder = self.places.holder(&exposed.place, &exposed.claim).cloned();
        let taken = holder.as_ref().map(|holder| collision(server, &exposed.place, holder));
        let problems = exposed.problems.iter().cloned().chain(taken).collect();
        let has_moved = holder.is_some() != exposed.holder.is_some();
        exposed.holder = holder;
        self.set_problems((Kind::Server, id.clone()), problems);
        has_moved
    }

    /// Writes down what is wrong with an object, beside what the source found.
    fn set_problems(&mut self, key: Key, resolved: Vec<Problem>) {
        let found = self.found.get(&key).into_iter().flatten().cloned();
        let problems: Vec<Problem> = found.chain(resolved).collect();
        if problems.is_empty() {
            self.problems.remove(&key);
        } else {
            self.problems.insert(key, problems);
        }
    }

    /// Resolves a grant or session that names a server.
    fn resolve(&mut self, key: &Key) -> Option<Change> {
        let id = &key.1;
        let server = self.named.get(key)?.clone();
        let named = self.servers.get(&server).map(Arc::as_ref);
        let (encoded, problems) = match key.0 {
            Kind::Grant => {
                let Resolved { value, problems } = resolve_grant(self.grants.get(id)?, named);
                (value.map(|grant| resource::grant(&grant)), problems)
            }
            Kind::Session => {
                let (session, issued_at) = self.sessions.get(id)?;
                let Resolved { value, problems } = resolve_session(session, named, *issued_at);
                (value.map(|session| resource::session(&session)), problems)
            }
            Kind::Server => return None,
        };
        self.set_problems(key.clone(), problems);
        let encoded = encoded.map(|(bytes, version)| Encoded { bytes, version });
        Some(Change::Access { key: key.clone(), server, encoded })
    }
}

fn key_of(object: &Object) -> Key {
    let (namespace, name) = object.id();
    (object.kind(), ObjectId::new(namespace, name))
}

/// Whether it is the same object, as far as anything here depends on its metadata.
fn is_same(before: &ObjectMeta, after: &ObjectMeta) -> bool {
    before.uid == after.uid && before.creation_timestamp == after.creation_timestamp
}

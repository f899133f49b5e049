//! Watch events in; what each proxy must do and know out. No client calls, no clock.
//!
//! A change of a grant or session resolves that object alone, a change of a server its grants and sessions as well.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod expose;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use sallyport_api::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};
use sallyport_api::{Kind, Object};
use sallyport_operator_ir::{Route, Upstream};
use sallyport_policy::{ObjectId, ServerPolicy};
use sallyport_policy_proto::resource;
use sallyport_resolve::{
    Problem, Resolved, Settings, exposure, resolve_grant, resolve_server, resolve_session, server_of,
};

use expose::expose;

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
    /// Servers, routes or upstreams changed.
    Plan,
    /// A grant or session has this form now; none: it is gone, or has no effect.
    Access(Key, Option<Encoded>),
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

/// All objects, resolved.
#[derive(Debug, Default)]
pub struct Index {
    settings: Settings,
    servers: BTreeMap<ObjectId, MCPServer>,
    grants: BTreeMap<ObjectId, MCPAccessGrant>,
    sessions: BTreeMap<ObjectId, (MCPAgentSession, Option<i64>)>,
    /// Grants and sessions by the server they name, and the other way round.
    dependents: BTreeMap<ObjectId, BTreeSet<Key>>,
    named: BTreeMap<Key, ObjectId>,
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
        let (namespace, name) = object.id();
        let id = ObjectId::new(namespace, name);
        let key = (object.kind(), id.clone());
        match object {
            Object::Server(server) => {
                self.servers.insert(id.clone(), *server);
                self.server_changed(&id)
            }
            Object::Grant(grant) => {
                self.depend(&key, Some(server_of(&grant.spec.server_ref, &id.namespace)));
                self.grants.insert(id, *grant);
                vec![self.resolve(&key)]
            }
            Object::Session(session) => {
                self.depend(&key, Some(server_of(&session.spec.server_ref, &id.namespace)));
                self.sessions.insert(id, (*session, issued_at));
                vec![self.resolve(&key)]
            }
        }
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &Key) -> Vec<Change> {
        self.problems.remove(key);
        match key.0 {
            Kind::Server => {
                self.servers.remove(&key.1);
                self.server_changed(&key.1)
            }
            Kind::Grant | Kind::Session => {
                self.grants.remove(&key.1);
                self.sessions.remove(&key.1);
                self.depend(key, None);
                vec![Change::Access(key.clone(), None)]
            }
        }
    }

    /// Problems of every object that has some.
    pub fn problems(&self) -> &BTreeMap<Key, Vec<Problem>> {
        &self.problems
    }

    /// Every object.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        let servers = self.servers.keys().map(|id| (Kind::Server, id.clone()));
        let grants = self.grants.keys().map(|id| (Kind::Grant, id.clone()));
        servers.chain(grants).chain(self.sessions.keys().map(|id| (Kind::Session, id.clone())))
    }

    /// What proxies expose. A server that cannot be exposed is left out, with a problem; of two that claim one place,
    /// the first by name has it.
    pub fn plan(&mut self) -> Plan {
        let mut plan = Plan::default();
        let mut taken: BTreeMap<(Option<String>, String), ObjectId> = BTreeMap::new();
        for (id, server) in &self.servers {
            let (policy, mut problems) = resolve_server(server, &self.settings);
            match exposure(server).and_then(|exposure| expose(id, &exposure, &mut taken)) {
                Ok((route, upstream)) => {
                    plan.routes.push(route);
                    plan.upstreams.push(upstream);
                    plan.servers.push(policy);
                }
                Err(problem) => problems.push(problem),
            }
            self.problems.insert((Kind::Server, id.clone()), problems);
        }
        // A longer path is more specific, and a host more specific than none.
        plan.routes.sort_by(|a, b| {
            let rank = |r: &Route| (r.host.is_none(), Reverse(r.path.len()));
            rank(a).cmp(&rank(b)).then(a.name.cmp(&b.name))
        });
        plan
    }

    /// An object names this server now; none: no more any.
    fn depend(&mut self, key: &Key, server: Option<ObjectId>) {
        if let Some(before) = self.named.remove(key)
            && let Some(dependents) = self.dependents.get_mut(&before)
        {
            dependents.remove(key);
            if dependents.is_empty() {
                self.dependents.remove(&before);
            }
        }
        if let Some(server) = server {
            self.dependents.entry(server.clone()).or_default().insert(key.clone());
            self.named.insert(key.clone(), server);
        }
    }

    fn server_changed(&mut self, id: &ObjectId) -> Vec<Change> {
        let keys: Vec<Key> = self.dependents.get(id).into_iter().flatten().cloned().collect();
        let mut changes = vec![Change::Plan];
        changes.extend(keys.iter().map(|key| self.resolve(key)));
        changes
    }

    fn resolve(&mut self, key: &Key) -> Change {
        let id = &key.1;
        let (encoded, problems) = match key.0 {
            Kind::Grant => match self.grants.get(id) {
                Some(grant) => {
                    let server = self.servers.get(&server_of(&grant.spec.server_ref, &id.namespace));
                    let Resolved { value, problems } = resolve_grant(grant, server);
                    (value.map(|grant| resource::grant(&grant)), problems)
                }
                None => (None, Vec::new()),
            },
            Kind::Session => match self.sessions.get(id) {
                Some((session, issued_at)) => {
                    let server = self.servers.get(&server_of(&session.spec.server_ref, &id.namespace));
                    let Resolved { value, problems } = resolve_session(session, server, *issued_at);
                    (value.map(|session| resource::session(&session)), problems)
                }
                None => (None, Vec::new()),
            },
            Kind::Server => return Change::Plan,
        };
        self.problems.insert(key.clone(), problems);
        Change::Access(key.clone(), encoded.map(|(bytes, version)| Encoded { bytes, version }))
    }
}

#[cfg(test)]
mod tests;

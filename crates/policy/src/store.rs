//! What a proxy knows: servers, grants and sessions, each found in constant time, each changed on its own.

mod grants;
mod servers;
mod sessions;

use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::{DefaultHashBuilder, HashMap};

pub use grants::GrantEntry;
pub use servers::Server;
pub use sessions::{IdentifiersTooLong, SessionEntry};

use crate::{Grant, ObjectId, ServerPolicy, Session};
use grants::Grants;
use sessions::Sessions;

/// A server's place in the store. It outlives changes of the server itself, so grants and sessions that arrive before
/// their server, or stay while it is replaced, keep their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerKey(u32);

/// Servers, grants and sessions, indexed for [`crate::decide`].
///
/// Every change is incremental and costs the same whatever the store holds.
#[derive(Debug, Default)]
pub struct Store {
    keys: HashMap<ObjectId, ServerKey>,
    servers: Vec<Server>,
    routes: HashMap<String, usize>,
    grants: Grants,
    sessions: Sessions,
    hasher: DefaultHashBuilder,
}

impl Store {
    /// An empty store: it denies everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces all servers.
    pub fn set_servers(&mut self, policies: Vec<ServerPolicy>) {
        self.routes.clear();
        self.servers.clear();
        for policy in policies {
            let key = self.key(&policy.id);
            self.routes.insert(policy.route.clone(), self.servers.len());
            self.servers.push(Server::new(policy, key));
        }
    }

    /// The servers.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server that a route leads to. A server without a route of its own answers for every route, if it is the
    /// only one.
    pub fn server_for_route(&self, route: &str) -> Option<&Server> {
        match self.servers.as_slice() {
            [only] if only.policy().route.is_empty() => Some(only),
            servers => self.routes.get(route).and_then(|index| servers.get(*index)),
        }
    }

    /// Whether [`Store::server_for_route`] needs no route.
    pub fn has_single_server(&self) -> bool {
        matches!(self.servers.as_slice(), [only] if only.policy().route.is_empty())
    }

    /// The server of this id.
    pub fn server(&self, id: &ObjectId) -> Option<&Server> {
        self.servers.iter().find(|server| server.policy().id == *id)
    }

    /// Adds or replaces a grant. `version` is whatever the caller wants to find again with it.
    pub fn upsert_grant(&mut self, grant: Grant, version: u64) {
        let key = self.key(&grant.server);
        self.grants.upsert(&self.hasher, grant, version, key);
    }

    /// Removes a grant by its resource name, `namespace/name`; false: there was none.
    pub fn remove_grant(&mut self, name: &str) -> bool {
        self.grants.remove(&self.hasher, name)
    }

    /// How many grants are held.
    pub fn grants(&self) -> usize {
        self.grants.len()
    }

    /// All grants, in no order.
    pub fn all_grants(&self) -> impl Iterator<Item = &GrantEntry> {
        self.grants.iter()
    }

    /// Adds or replaces a session. `version` is whatever the caller wants to find again with it; `now`, in seconds
    /// since 1970, counts as its last use when it is new.
    ///
    /// # Errors
    /// Its identifiers are longer than 64 KiB together; nothing is changed.
    pub fn upsert_session(
        &mut self,
        session: &Session,
        version: u64,
        now: i64,
    ) -> Result<(), IdentifiersTooLong> {
        let key = self.key(&session.server);
        self.sessions.upsert(&self.hasher, session, version, key, now)
    }

    /// Removes a session by its resource name, `namespace/name`; false: there was none.
    pub fn remove_session(&mut self, name: &str) -> bool {
        name.split_once('/')
            .is_some_and(|(namespace, name)| self.sessions.remove(&self.hasher, namespace, name))
    }

    /// The session of this id.
    pub fn session(&self, namespace: &str, name: &str) -> Option<&SessionEntry> {
        self.sessions.find(&self.hasher, namespace, name)
    }

    /// How many sessions are held.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// All sessions, in no order.
    pub fn all_sessions(&self) -> impl Iterator<Item = &SessionEntry> {
        self.sessions.iter()
    }

    /// Forgets grants and sessions; servers stay.
    pub fn clear_access(&mut self) {
        self.grants = Grants::default();
        self.sessions = Sessions::default();
    }

    pub(crate) fn matching_grants<'a, 'c>(
        &'a self,
        server: ServerKey,
        identity: &crate::Identity<'c>,
    ) -> impl Iterator<Item = &'a GrantEntry> + use<'a, 'c> {
        self.grants.matching(&self.hasher, server, *identity)
    }

    fn key(&mut self, id: &ObjectId) -> ServerKey {
        if let Some(key) = self.keys.get(id) {
            return *key;
        }
        let key = ServerKey(u32::try_from(self.keys.len()).unwrap_or(u32::MAX));
        self.keys.insert(id.clone(), key);
        key
    }
}

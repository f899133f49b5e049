//! Servers, grants and sessions, wherever they are kept.

use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rpds::RedBlackTreeMapSync;
use sallyport_api::manifest::ManifestProblem;
use sallyport_api::schema::SchemaProblem;
use sallyport_api::v1alpha1::MCPServer;
use sallyport_api::{Kind, Object};
use sallyport_policy::ObjectId;
use sallyport_resolve::{Problem, resolve_grant, resolve_session, server_of};
use serde_json::{Map, Value};

/// Kind and id.
pub(crate) type Key = (Kind, ObjectId);

/// A resource as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    /// The resource.
    pub(crate) object: Object,
    /// When it was made, where its metadata does not say: seconds since 1970.
    pub(crate) issued_at: Option<i64>,
    /// Where it is: file and line, or its path in the API server.
    pub(crate) origin: String,
}

/// All resources at one moment. A clone shares them: it costs the same however many there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) objects: RedBlackTreeMapSync<Key, Arc<Stored>>,
    pub(crate) problems: Vec<ManifestProblem>,
}

impl View {
    /// Those of a kind, by id.
    pub(crate) fn list(&self, kind: Kind) -> impl Iterator<Item = (&ObjectId, &Stored)> {
        let first = (kind, ObjectId::new("", ""));
        self.objects
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(move |(key, _)| key.0 == kind)
            .map(|(key, stored)| (&key.1, stored.as_ref()))
    }

    /// One.
    pub(crate) fn get(&self, kind: Kind, id: &ObjectId) -> Result<&Stored, ResourceError> {
        let stored = self.objects.get(&(kind, id.clone())).map(AsRef::as_ref);
        stored.ok_or_else(|| ResourceError::NotFound { kind, id: id.clone() })
    }

    /// A server.
    pub(crate) fn server(&self, id: &ObjectId) -> Option<&MCPServer> {
        match &self.objects.get(&(Kind::Server, id.clone()))?.object {
            Object::Server(server) => Some(server),
            Object::Grant(_) | Object::Session(_) => None,
        }
    }

    /// What a grant or session means to proxies, with its version there; and what is wrong with it.
    pub(crate) fn resolve(&self, id: &ObjectId, stored: &Stored) -> (Option<Access>, Vec<Problem>) {
        match &stored.object {
            Object::Grant(grant) => {
                let server = self.server(&server_of(&grant.spec.server_ref, &id.namespace));
                let resolved = resolve_grant(grant, server);
                (resolved.value.map(Access::Grant), resolved.problems)
            }
            Object::Session(session) => {
                let server = self.server(&server_of(&session.spec.server_ref, &id.namespace));
                let resolved = resolve_session(session, server, stored.issued_at);
                (resolved.value.map(Access::Session), resolved.problems)
            }
            Object::Server(_) => (None, Vec::new()),
        }
    }
}

/// A resolved grant or session.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// A grant.
    Grant(sallyport_policy::Grant),
    /// A session.
    Session(sallyport_policy::Session),
}

impl Access {
    /// The server it is for.
    pub(crate) fn server(&self) -> &ObjectId {
        match self {
            Self::Grant(grant) => &grant.server,
            Self::Session(session) => &session.server,
        }
    }

    /// Its version on its way to proxies.
    pub(crate) fn version(&self) -> String {
        match self {
            Self::Grant(grant) => sallyport_policy_proto::resource::grant(grant).1,
            Self::Session(session) => sallyport_policy_proto::resource::session(session).1,
        }
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The object is new.
    Created,
    /// It is different now.
    Updated,
    /// It was as wanted already.
    None,
}

/// The state after a write.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) change: Change,
    pub(crate) view: Arc<View>,
}

/// Why resources could not be read or changed; in each case nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResourceError {
    /// There is none.
    #[error("{} `{id}` does not exist", kind.as_str())]
    NotFound {
        /// Of this kind.
        kind: Kind,
        /// With this id.
        id: ObjectId,
    },
    /// It would not be valid.
    #[error("the object is not valid")]
    Invalid(Vec<SchemaProblem>),
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// Files cannot be read or written.
    #[error("{path} cannot be read or written")]
    Files {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// YAML cannot say it.
    #[error("the object cannot be written as YAML: {0}")]
    Unrepresentable(String),
    /// Somebody does not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// Where they are kept, nobody answers.
    #[error("{0}")]
    Unavailable(String),
    /// The task ended early.
    #[error("the task that reads and writes has stopped")]
    Stopped,
}

/// Where resources are kept. A directory is, and a Kubernetes API server.
#[async_trait]
pub(crate) trait Resources: Send + Sync + std::fmt::Debug {
    /// A word for where they are kept.
    fn source(&self) -> &'static str;

    /// All, as they are now: list and get.
    async fn view(&self) -> Result<Arc<View>, ResourceError>;

    /// Why the view may be older than what is kept; none: it is not.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Gives an object this spec, making it if it is new. A kill switch that the spec does not name stays as it is.
    async fn put(&self, key: Key, spec: Map<String, Value>, now: Timestamp)
    -> Result<Written, ResourceError>;

    /// Sets these fields of an existing object's spec.
    async fn patch(
        &self,
        key: Key,
        fields: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Written, ResourceError>;
}

/// The field that switches a grant or session off.
pub(crate) const fn kill_switch(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Grant => Some("disabled"),
        Kind::Session => Some("revoked"),
        Kind::Server => None,
    }
}

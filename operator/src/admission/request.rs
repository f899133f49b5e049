//! The API server's question, as far as it matters here.

use k8s_openapi::api::authentication::v1::UserInfo;
use sallyport_api::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};
use sallyport_api::{Kind, Object};
use sallyport_policy::ObjectId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// Something is done through it, which our kinds do not offer.
    Connect,
}

/// A change that somebody wants.
#[derive(Clone, Debug)]
pub struct Request {
    /// Identifies the request.
    pub uid: String,
    /// What is done.
    pub operation: Operation,
    /// To which object.
    pub id: ObjectId,
    /// By whom.
    pub user: UserInfo,
    /// The object as it would be; none: it would be gone.
    pub object: Option<Object>,
    /// The object as it is; none: there is none, or it cannot be read by today's types.
    pub old: Option<Object>,
}

/// A review that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It has another form.
    #[error("is no AdmissionReview of admission.k8s.io/v1: {0}")]
    Review(#[source] serde_json::Error),
    /// It is about another kind.
    #[error("is about `{0}`, which is not judged here")]
    Kind(String),
    /// The object has another form than its schema allows.
    #[error("holds an object that does not fit its kind: {cause}")]
    Object {
        /// The request.
        uid: String,
        /// Why not.
        #[source]
        cause: serde_json::Error,
    },
}

#[derive(Debug, Deserialize)]
struct Review {
    request: Raw,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    uid: String,
    kind: RawKind,
    operation: Operation,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    user_info: UserInfo,
    object: Option<Value>,
    old_object: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct RawKind {
    kind: String,
}

impl Request {
    /// Reads a review about an object of `kind`.
    ///
    /// # Errors
    /// It cannot be understood.
    pub fn read(kind: Kind, body: &[u8]) -> Result<Self, Unreadable> {
        let Review { request } = serde_json::from_slice(body).map_err(Unreadable::Review)?;
        if request.kind.kind != kind.as_str() {
            return Err(Unreadable::Kind(request.kind.kind));
        }
        let object = request.object.map(|value| typed(kind, value)).transpose();
        let object = object.map_err(|cause| Unreadable::Object { uid: request.uid.clone(), cause })?;
        // What is older than today's types counts as changed in everything.
        let old = request.old_object.and_then(|value| typed(kind, value).ok());
        let generated = || object.as_ref().map(|object| object.id().1).unwrap_or_default();
        let name = if request.name.is_empty() { generated() } else { request.name };
        Ok(Self {
            uid: request.uid,
            operation: request.operation,
            id: ObjectId::new(request.namespace, name),
            user: request.user_info,
            object,
            old,
        })
    }
}

fn typed(kind: Kind, value: Value) -> serde_json::Result<Object> {
    fn read<T: DeserializeOwned>(value: Value) -> serde_json::Result<Box<T>> {
        serde_json::from_value(value).map(Box::new)
    }
    match kind {
        Kind::Server => read::<MCPServer>(value).map(Object::Server),
        Kind::Grant => read::<MCPAccessGrant>(value).map(Object::Grant),
        Kind::Session => read::<MCPAgentSession>(value).map(Object::Session),
    }
}

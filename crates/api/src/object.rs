//! Any of the three resources.

use kube::core::ObjectMeta;
use serde_json::Value;

use crate::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};

/// Which resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `MCPServer`.
    Server,
    /// `MCPAccessGrant`.
    Grant,
    /// `MCPAgentSession`.
    Session,
}

impl Kind {
    /// All.
    pub const ALL: [Self; 3] = [Self::Server, Self::Grant, Self::Session];

    /// As `kind` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "MCPServer",
            Self::Grant => "MCPAccessGrant",
            Self::Session => "MCPAgentSession",
        }
    }

    /// The resource's plural.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Server => "mcpservers",
            Self::Grant => "mcpaccessgrants",
            Self::Session => "mcpagentsessions",
        }
    }
}

/// A resource of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A server.
    Server(Box<MCPServer>),
    /// A grant.
    Grant(Box<MCPAccessGrant>),
    /// A session.
    Session(Box<MCPAgentSession>),
}

impl Object {
    /// Which resource it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Server(_) => Kind::Server,
            Self::Grant(_) => Kind::Grant,
            Self::Session(_) => Kind::Session,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Server(object) => &object.metadata,
            Self::Grant(object) => &object.metadata,
            Self::Session(object) => &object.metadata,
        }
    }

    /// Namespace and name.
    pub fn id(&self) -> (String, String) {
        let metadata = self.metadata();
        let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".into());
        (namespace, metadata.name.clone().unwrap_or_default())
    }

    /// As JSON.
    ///
    /// # Errors
    /// Never for objects that were read from JSON.
    pub fn to_json(&self) -> serde_json::Result<Value> {
        match self {
            Self::Server(object) => serde_json::to_value(object),
            Self::Grant(object) => serde_json::to_value(object),
            Self::Session(object) => serde_json::to_value(object),
        }
    }
}

//! Places at which servers are reached, and which of them exclude each other.

use sallyport_api::v1alpha1::MCPServer;
use sallyport_policy::ObjectId;

use crate::problem::Problem;

/// Where a server is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Host in lower case; none: any.
    pub host: Option<String>,
    /// Path, with a leading and no trailing slash.
    pub path: String,
}

/// The path at which a server is reached, with a leading and no trailing slash.
pub fn public_path(server: &MCPServer) -> String {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    match (&server.spec.public_path_prefix, &server.spec.ingress_path) {
        (Some(prefix), _) => format!("/{}/mcp", prefix.trim_matches('/')),
        (None, Some(path)) => format!("/{}", path.trim_matches('/')),
        (None, None) => format!("/{name}/mcp"),
    }
}

/// The place of a server, with or without a gateway.
pub fn place(server: &MCPServer) -> Place {
    // Host names have no case.
    Place {
        host: server.spec.ingress_host.as_deref().map(str::to_ascii_lowercase),
        path: public_path(server),
    }
}

impl Place {
    /// Whether a server here takes calls that were for a server there. Within a namespace a host may be singled out
    /// from a place of any host; another namespace's calls cannot be had like that.
    pub fn excludes(&self, is_same_namespace: bool, other: &Self) -> bool {
        let is_same_host = self.host == other.host;
        let is_any_host = self.host.is_none() || other.host.is_none();
        self.path == other.path && (is_same_host || (is_any_host && !is_same_namespace))
    }
}

/// The place of a server is another's. What other namespaces hold is not told.
pub fn collision(server: &MCPServer, place: &Place, holder: &ObjectId) -> Problem {
    let namespace = server.metadata.namespace.as_deref().unwrap_or("default");
    let holder = if holder.namespace == namespace {
        format!("MCPServer {holder}")
    } else {
        "a server of another namespace".into()
    };
    let field = match (&server.spec.public_path_prefix, &server.spec.ingress_path) {
        (Some(_), _) => "spec.publicPathPrefix",
        (None, Some(_)) => "spec.ingressPath",
        (None, None) => "metadata.name",
    };
    let message = format!("gives the path `{}`, which {holder} has already; choose another path", place.path);
    Problem::error(field, "RouteCollision", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: Option<&str>, path: &str) -> Place {
        Place { host: host.map(Into::into), path: path.into() }
    }

    #[test]
    fn a_host_may_be_singled_out_at_home_only() {
        let (any, one, two) = (at(None, "/a"), at(Some("one"), "/a"), at(Some("two"), "/a"));
        assert!(!any.excludes(true, &one) && !one.excludes(true, &any));
        assert!(any.excludes(false, &one) && one.excludes(false, &any));
        assert!(!one.excludes(false, &two), "hosts of their own");
        assert!(one.excludes(true, &one) && any.excludes(true, &any));
        assert!(!any.excludes(false, &at(None, "/b")));
    }

    #[test]
    fn the_prefix_wins_and_hosts_have_no_case() {
        let mut server = MCPServer::new("s", Default::default());
        server.metadata.name = Some("s".into());
        assert_eq!(place(&server), at(None, "/s/mcp"));
        server.spec.ingress_path = Some("/x/".into());
        assert_eq!(place(&server), at(None, "/x"));
        server.spec.public_path_prefix = Some("/team/s/".into());
        server.spec.ingress_host = Some("MCP.Example.com".into());
        assert_eq!(place(&server), at(Some("mcp.example.com"), "/team/s/mcp"));
    }

    #[test]
    fn what_other_namespaces_hold_is_not_told() {
        let mut server = MCPServer::new("s", Default::default());
        server.metadata.namespace = Some("mine".into());
        let told = |holder: ObjectId| collision(&server, &at(None, "/a"), &holder).message;
        assert!(told(ObjectId::new("mine", "other")).contains("mine/other"));
        assert!(!told(ObjectId::new("theirs", "secret-project")).contains("secret-project"));
    }
}

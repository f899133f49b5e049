//! Names, labels and annotations of what is rendered.

use std::collections::BTreeMap;

/// What a pod runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// The last promoted template.
    Stable,
    /// A template on trial.
    Canary,
}

impl Track {
    /// As in labels and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Canary => "canary",
        }
    }
}

/// Field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "sallyport-operator";
/// Label of every object that the operator renders, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "sallyport");
/// Label: the server's name, as the original has it.
pub const APP: &str = "app";
/// Label: the server's name.
pub const SERVER: &str = "mcpruntime.org/server";
/// Label of Deployments and pods: `stable` or `canary`.
pub const TRACK: &str = "mcpruntime.org/rollout-track";
/// Label of a ControllerRevision, annotation of a Deployment: the revision's number.
pub const REVISION: &str = "mcpruntime.org/revision";
/// Label of a ControllerRevision: the digest of its template.
pub const TEMPLATE_HASH: &str = "mcpruntime.org/template-hash";
/// Annotation of a ControllerRevision: its place in the order of promotions.
pub const PROMOTED: &str = "mcpruntime.org/promoted";
/// Annotation of a Deployment: the replicas that were asked of it last, and of its server, as `2 of 3`. Where the Deployment has
/// others since, somebody else (an autoscaler) sets them.
pub const REPLICAS: &str = "mcpruntime.org/replicas";
/// Annotation of an MCPServer: the revision that shall leave the canary and become the stable one.
pub const PROMOTE: &str = "mcpruntime.org/promote";
/// Annotation of an MCPServer: the revision that shall not run.
pub const ROLLBACK: &str = "mcpruntime.org/rollback";
/// Annotation of pod templates: digest of the gateway's bootstrap.
pub const CONFIG_HASH: &str = "mcpruntime.org/config-hash";
/// Annotation of pod templates: digest of what the referenced Secrets hold.
pub const SECRETS_HASH: &str = "mcpruntime.org/secrets-hash";

/// Name of the gateway's container.
pub const GATEWAY: &str = "mcp-gateway";
/// Ending of the canary Deployment's name.
pub const CANARY_SUFFIX: &str = "-canary";

/// Name of a track's Deployment.
pub fn deployment(server: &str, track: Track) -> String {
    match track {
        Track::Stable => server.into(),
        Track::Canary => format!("{server}{CANARY_SUFFIX}"),
    }
}

/// ServiceAccount of a server's pods: who a proxy is.
pub fn service_account(server: &str) -> String {
    format!("mcp-workload-{server}")
}

/// ConfigMap with what the gateway starts from.
pub fn gateway_config(server: &str) -> String {
    format!("{server}-gateway")
}

/// Secret to pull with from the provisioned registry.
pub fn pull_secret(server: &str) -> String {
    format!("{server}-registry-pull")
}

/// Labels of every object of a server.
pub fn labels(server: &str) -> BTreeMap<String, String> {
    let own = [(MANAGED_BY.0, MANAGED_BY.1), (APP, server), (SERVER, server)];
    own.into_iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// Labels that select the pods of one track, or of both.
pub fn selector(server: &str, track: Option<Track>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(APP.to_string(), server.to_string())]);
    match track {
        // A Deployment's selector can never change; this is the one that the original's Deployments have.
        Some(track) => labels.insert(TRACK.into(), track.as_str().into()),
        None => labels.insert(MANAGED_BY.0.into(), MANAGED_BY.1.into()),
    };
    labels
}

//! What pods pull with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use sallyport_api::v1alpha1::MCPServerSpec;
use serde_json::json;

use super::names;
use super::settings::Registry;

/// Where the credentials of the provisioned registry come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pull {
    /// The server names its own Secrets, or does not use that registry.
    Own,
    /// A Secret that the platform puts into the namespace.
    Named(String),
    /// A Secret that is rendered, with this content.
    Rendered(String),
}

/// How a server's pods pull. Only those that use the provisioned registry get its credentials.
pub(super) fn pull(spec: &MCPServerSpec, registry: &Registry) -> Pull {
    if !spec.use_provisioned_registry || !spec.image_pull_secrets.is_empty() {
        return Pull::Own;
    }
    if let Some(name) = &registry.secret_name {
        return Pull::Named(name.clone());
    }
    match (&registry.url, &registry.username, &registry.password) {
        (Some(url), Some(username), Some(password)) => {
            let auth = STANDARD.encode(format!("{username}:{password}"));
            // Credentials are for a registry, and not for a path within it.
            let host = url.split('/').next().unwrap_or(url);
            let credentials = json!({ "username": username, "password": password, "auth": auth });
            Pull::Rendered(json!({ "auths": { host: credentials } }).to_string())
        }
        _ => Pull::Own,
    }
}

impl Pull {
    /// Secrets that the ServiceAccount names: another password there restarts nothing.
    pub(super) fn secret(&self, server: &str) -> Option<String> {
        match self {
            Self::Own => None,
            Self::Named(name) => Some(name.clone()),
            Self::Rendered(_) => Some(names::pull_secret(server)),
        }
    }

    /// Content of the Secret that is rendered.
    pub(super) fn content(&self) -> Option<ByteString> {
        match self {
            Self::Rendered(content) => Some(ByteString(content.clone().into_bytes())),
            Self::Own | Self::Named(_) => None,
        }
    }
}

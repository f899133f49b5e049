//! The gateway beside a server in Kubernetes: where its files lie, and what they hold.
//!
//! The files of [`Sidecar::files`] go into one ConfigMap, mounted at [`FOLDER`]. Only [`AUTHORITY_KEY`] changes while a
//! pod lives (it is followed without a restart), so a digest that restarts pods must leave it out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use crate::bootstrap::{Bootstrap, Service, Watched, authority_file, render, token_file};

/// Where the ConfigMap is mounted.
pub const FOLDER: &str = "/etc/sallyport/gateway";
/// Where the token is projected.
pub const TOKEN_FOLDER: &str = "/var/run/sallyport/token";
/// Name of the token's file in [`TOKEN_FOLDER`].
pub const TOKEN_NAME: &str = "token";
/// Audience of the projected token, and its life in seconds.
pub const TOKEN_AUDIENCE: &str = "sallyport";
/// Life of the projected token, in seconds; the kubelet renews it at four fifths.
pub const TOKEN_SECONDS: i64 = 3600;
/// Key of Envoy's bootstrap.
pub const BOOTSTRAP_KEY: &str = "bootstrap.yaml";
/// Key of the certificate authorities, as PEM.
pub const AUTHORITY_KEY: &str = "ca.pem";
/// Envoy's admin interface, on the pod's loopback.
pub const ADMIN_PORT: u16 = 9901;
/// Port of `GET /drain` and `GET /metrics`.
pub const LIFECYCLE_PORT: u16 = 15021;

/// Keys of the files that tell Envoy where the token and the authorities lie.
const TOKEN_SECRET_KEY: &str = "token.json";
const AUTHORITY_SECRET_KEY: &str = "ca.json";

/// The track of a rollout that a pod belongs to; the filter tells it with every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

    /// The value of Envoy's flag `--service-cluster` for a pod of `server`: `server:track`. No name of an object has a
    /// colon, so the filter can tell the two apart.
    pub fn service_cluster(self, server: &str) -> String {
        format!("{server}:{}", self.as_str())
    }
}

/// What the gateways of all servers have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// The control plane's xDS server.
    pub control_plane: Service,
    /// The audit ingest.
    pub ingest: Service,
    /// Certificates of the authorities that may vouch for both, as PEM.
    pub authority: String,
}

impl Sidecar {
    /// Content of the ConfigMap, by key.
    pub fn files(&self) -> BTreeMap<String, String> {
        let path = |key: &str| format!("{FOLDER}/{key}");
        let bootstrap = Bootstrap {
            node: None,
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT)),
            control_plane: self.control_plane.clone(),
            ingest: self.ingest.clone(),
            authority: Watched { secret: path(AUTHORITY_SECRET_KEY), folder: FOLDER.into() },
            token: Watched { secret: path(TOKEN_SECRET_KEY), folder: TOKEN_FOLDER.into() },
            lifecycle: Some(LIFECYCLE_PORT),
        };
        let files = [
            (BOOTSTRAP_KEY, render(&bootstrap)),
            (TOKEN_SECRET_KEY, token_file(&format!("{TOKEN_FOLDER}/{TOKEN_NAME}"))),
            (AUTHORITY_SECRET_KEY, authority_file(&path(AUTHORITY_KEY))),
            (AUTHORITY_KEY, self.authority.clone()),
        ];
        files.map(|(key, content)| (key.to_string(), content)).into()
    }
}

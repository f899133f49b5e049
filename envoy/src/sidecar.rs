//! The gateway beside a server in Kubernetes: where its files lie, and what they hold.
//!
//! The [`Files`] go into one ConfigMap, mounted at [`FOLDER`]. The authorities in it may change while a pod lives; a digest
//! that restarts pods takes in [`Files::of_start`] only.

use std::net::{Ipv4Addr, SocketAddr};

pub use sallyport_api::{
    GATEWAY_ADMIN_PORT as ADMIN_PORT, GATEWAY_LIFECYCLE_PORT as LIFECYCLE_PORT, GATEWAY_PORTS as PORTS,
};

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
/// Envoy's worker threads. Each has a filter of its own.
pub const WORKERS: usize = 2;
/// Filters of a gateway that follow the control plane: of the workers and of the main thread. Where an upgrade changes it,
/// proofs wait until the gateways of before are replaced.
pub const FILTERS: usize = WORKERS + 1;
/// Stands in the bootstrap for the last segment of the path that drains a gateway.
const DRAIN_KEY: &str = "{drain_key}";

/// The path at which the gateways of a server drain, by `GET` on [`LIFECYCLE_PORT`]. Whoever reaches that port and knows the
/// key takes a gateway out of service, so it is the server's own and not to be guessed.
pub fn drain_path(key: &str) -> String {
    format!("/drain/{key}")
}

/// Keys of the files that tell Envoy where the token and the authorities lie.
const TOKEN_SECRET_KEY: &str = "token.json";
const AUTHORITY_SECRET_KEY: &str = "ca.json";

/// The value of Envoy's flag `--service-cluster` for a pod of `server` on `track` (`stable` or `canary`, or what names it in
/// an argument): `server:track`. No name of an object has a colon, so the filter can tell the two apart; it tells the track
/// with every event.
pub fn service_cluster(server: &str, track: &str) -> String {
    format!("{server}:{track}")
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

/// What the gateway's folder holds, the same for every server until [`Files::of_server`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// [`BOOTSTRAP_KEY`]. Envoy reads it when it starts, so another one needs new pods.
    pub bootstrap: String,
    /// Tells Envoy where the token lies. Read when Envoy starts.
    pub token: String,
    /// Tells Envoy where the authorities lie. Read when Envoy starts.
    pub authority: String,
    /// [`AUTHORITY_KEY`]: the authorities. Followed while Envoy runs.
    pub ca: String,
}

impl Files {
    /// Those of the gateways of one server, which drain at [`drain_path`] of `drain_key`: letters and digits alone.
    #[must_use]
    pub fn of_server(&self, drain_key: &str) -> Self {
        Self { bootstrap: self.bootstrap.replace(DRAIN_KEY, drain_key), ..self.clone() }
    }

    /// Keys of the ConfigMap with their content.
    pub fn entries(&self) -> [(&'static str, &str); 4] {
        [
            (BOOTSTRAP_KEY, &self.bootstrap),
            (TOKEN_SECRET_KEY, &self.token),
            (AUTHORITY_SECRET_KEY, &self.authority),
            (AUTHORITY_KEY, &self.ca),
        ]
    }

    /// What only a new start of Envoy takes in.
    pub fn of_start(&self) -> String {
        [&self.bootstrap, &self.token, &self.authority].map(String::as_str).join("\n")
    }
}

impl Sidecar {
    /// The files.
    pub fn files(&self) -> Files {
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
        Files {
            bootstrap: render(&bootstrap),
            token: token_file(&format!("{TOKEN_FOLDER}/{TOKEN_NAME}")),
            authority: authority_file(&path(AUTHORITY_KEY)),
            ca: self.authority.clone(),
        }
    }
}

//! The template, filled in.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

const TEMPLATE: &str = include_str!("../bootstrap.yaml");
const LIFECYCLE: &str = include_str!("../lifecycle.yaml");

/// A service that the proxy calls over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// An address, or a name that DNS knows.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The name that its certificate must prove.
    pub server_name: String,
}

/// A secret in Envoy's form, and the folder whose change says that it is to be read anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The file that [`token_file`] or [`authority_file`] is the content of.
    pub secret: String,
    /// The folder of the file that the secret names.
    pub folder: String,
}

/// What a proxy calls itself where no flag of Envoy says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
}

/// What differs between proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// None: Envoy's flags `--service-node` and `--service-cluster` say it.
    pub node: Option<Node>,
    /// Address of Envoy's admin interface; should be on loopback.
    pub admin: SocketAddr,
    /// The control plane's xDS server.
    pub control_plane: Service,
    /// The audit ingest.
    pub ingest: Service,
    /// The certificate authority of both.
    pub authority: Watched,
    /// The proxy's bearer token.
    pub token: Watched,
    /// Port of the listener for `/drain/{drain_key}`, which [`crate::sidecar::Files::of_server`] fills in, and `/metrics`. With it, the admin interface offers only what these two and a
    /// look at the state need: others share a pod's loopback. None: no such listener, the whole admin interface.
    pub lifecycle: Option<u16>,
}

/// The content of the file that tells Envoy in which file the bearer token lies.
pub fn token_file(token: &str) -> String {
    secret("token", "generic_secret", "secret", token)
}

/// The content of the file that tells Envoy in which file the certificate authorities lie.
pub fn authority_file(authority: &str) -> String {
    secret("authority", "validation_context", "trusted_ca", authority)
}

fn secret(name: &str, kind: &str, field: &str, path: &str) -> String {
    let secret = json!({ "resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": name,
        kind: { field: { "filename": path } },
    }]});
    format!("{secret:#}\n")
}

/// Envoy's bootstrap, as YAML. Texts are quoted, whatever they hold.
pub fn render(bootstrap: &Bootstrap) -> String {
    let Bootstrap { node, admin, control_plane, ingest, authority, token, lifecycle } = bootstrap;
    let text = |text: &str| json!(text).to_string();
    let discovery = |service: &Service| match service.host.parse::<IpAddr>() {
        Ok(_) => "STATIC".to_string(),
        Err(_) => "STRICT_DNS".to_string(),
    };
    let node =
        node.as_ref().map(|node| format!("node: {}", json!({ "id": node.id, "cluster": node.cluster })));
    let values = [
        // First: it brings blanks of its own.
        ("lifecycle", lifecycle.map_or("", |_| LIFECYCLE).to_string()),
        ("lifecycle_port", lifecycle.unwrap_or_default().to_string()),
        ("node", node.unwrap_or_default()),
        ("admin_host", text(&admin.ip().to_string())),
        ("admin_port", admin.port().to_string()),
        ("admin_paths", lifecycle.map_or("", |_| ADMIN_PATHS).to_string()),
        ("xds_discovery", discovery(control_plane)),
        ("xds_host", text(&control_plane.host)),
        ("xds_port", control_plane.port.to_string()),
        ("xds_name", text(&control_plane.server_name)),
        ("ingest_discovery", discovery(ingest)),
        ("ingest_host", text(&ingest.host)),
        ("ingest_port", ingest.port.to_string()),
        ("ingest_name", text(&ingest.server_name)),
        ("authority_secret", text(&authority.secret)),
        ("authority_folder", text(&authority.folder)),
        ("token_secret", text(&token.secret)),
        ("token_folder", text(&token.folder)),
    ];
    let filled = values
        .iter()
        .fold(TEMPLATE.to_string(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
    let lines = filled.lines().filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Nothing that changes a proxy but draining, and nothing that shows keys (`config_dump`): the server in a pod reaches the
/// proxy's loopback.
const ADMIN_PATHS: &str = "  allow_paths: [{ prefix: /drain_listeners }, { prefix: /stats }, { prefix: /ready }, { prefix: /clusters }, { prefix: /memory }]";

#[cfg(test)]
mod tests {
    use super::*;

    fn service(host: &str) -> Service {
        Service { host: host.into(), port: 18000, server_name: "name.test".into() }
    }

    fn bootstrap() -> Bootstrap {
        let watched = || Watched { secret: "/a/b.json".into(), folder: "/a".into() };
        Bootstrap {
            node: Some(Node { id: "n".into(), cluster: "c".into() }),
            admin: "127.0.0.1:9901".parse().unwrap(),
            control_plane: service("127.0.0.1"),
            ingest: service("ingest.svc"),
            authority: watched(),
            token: watched(),
            lifecycle: None,
        }
    }

    #[test]
    fn every_blank_is_filled_in() {
        for lifecycle in [None, Some(15021)] {
            let text = render(&Bootstrap { lifecycle, ..bootstrap() });
            let yaml = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            let mut blanks = yaml.flat_map(|line| line.split('{').skip(1)).filter(|part| {
                let name = part.split('}').next().unwrap_or_default();
                part.contains('}')
                    && !name.is_empty()
                    // Each server's own, filled in later.
                    && name != "drain_key"
                    && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            });
            assert_eq!(blanks.next(), None);
        }
    }

    #[test]
    fn addresses_are_used_as_they_are_and_names_are_looked_up() {
        let text = render(&bootstrap());
        assert!(text.contains("type: STATIC\n") && text.contains("type: STRICT_DNS\n"), "{text}");
    }

    #[test]
    fn a_text_cannot_break_out_of_its_place() {
        let hostile = "x\" } }\nadmin: { ";
        let text = render(&Bootstrap { control_plane: service(hostile), ..bootstrap() });
        assert_eq!(text.lines().filter(|line| line.starts_with("admin:")).count(), 1, "{text}");
    }

    #[test]
    fn the_admin_interface_is_narrow_where_others_share_its_loopback() {
        assert!(!render(&bootstrap()).contains("allow_paths"));
        let text = render(&Bootstrap { lifecycle: Some(15021), ..bootstrap() });
        assert!(text.contains("allow_paths") && text.contains("port_value: 15021"));
    }
}

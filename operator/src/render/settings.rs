//! What the platform adds to every server.

use sallyport_envoy::Service;
use sallyport_envoy::sidecar::{Files as GatewayFiles, Sidecar};

use crate::certificates::server_name;

use super::prepare::is_subdomain;

/// Settings of the platform.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Image of the gateway, where the server names none.
    pub gateway_image: String,
    /// A server without a gateway is not exposed.
    pub require_gateway: bool,
    /// What the gateway starts from: the same for every server, since Envoy is told its server by its arguments.
    pub gateway_files: GatewayFiles,
    /// Namespaces from which the gateways' figures may be taken.
    pub metrics_namespaces: Vec<String>,
    /// Defaults of Ingresses.
    pub ingress: IngressDefaults,
    /// The platform's own registry.
    pub registry: Registry,
}

/// What gateways start from where operator and ingest are in `namespace`, and `authorities` (PEM) vouch for them.
pub fn gateway_files(namespace: &str, authorities: &str) -> GatewayFiles {
    let service = |name: &str, port| {
        let host = server_name(name, namespace);
        Service { server_name: host.clone(), host, port }
    };
    let sidecar = Sidecar {
        control_plane: service("sallyport-operator", 18_000),
        ingest: service("sallyport-ingest", 18_001),
        authority: authorities.into(),
    };
    sidecar.files()
}

/// Defaults of Ingresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressDefaults {
    /// Host of servers that name neither host nor path prefix.
    pub host: Option<String>,
    /// Class of servers that name none.
    pub class: String,
    /// Entry points of Traefik.
    pub entrypoints: String,
    /// Traefik's routers are for TLS.
    pub tls: bool,
}

impl Default for IngressDefaults {
    fn default() -> Self {
        Self { host: None, class: "traefik".into(), entrypoints: "web".into(), tls: false }
    }
}

/// The platform's own registry. Its credentials must be able to pull and nothing else: they reach every namespace that uses it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// Registry, as `registry.example.com:5000` or with a path.
    pub url: Option<String>,
    /// Where nodes pull from when `url` is not set.
    pub pull_host: Option<String>,
    /// User to pull as.
    pub username: Option<String>,
    /// That user's password.
    pub password: Option<String>,
    /// Secret that the platform puts into each namespace itself; then none is rendered.
    pub secret_name: Option<String>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A name that a namespace can have: any other would make a policy that the API server refuses.
fn namespace(text: &str) -> Result<String, String> {
    if text.len() <= 63 && !text.contains('.') && is_subdomain(text) {
        return Ok(text.into());
    }
    Err("must be the name of a namespace: at most 63 lower-case letters, digits and `-`".into())
}

/// What is rendered for every server, as flags.
#[derive(Clone, Debug, clap::Args)]
pub struct RenderArgs {
    /// Image of the gateway, where a server names none.
    #[arg(long, env = "SALLYPORT_GATEWAY_IMAGE", default_value = concat!("sallyport-envoy:", env!("CARGO_PKG_VERSION")))]
    pub gateway_image: String,
    /// Refuse servers without a gateway: nothing runs ungoverned.
    #[arg(long, env = "SALLYPORT_REQUIRE_GATEWAY")]
    pub require_gateway: bool,
    /// Namespace whose pods may take the figures of gateways, such as that of Prometheus; several with commas.
    #[arg(long, env = "SALLYPORT_METRICS_NAMESPACE", value_delimiter = ',', value_parser = namespace)]
    pub metrics_namespace: Vec<String>,
    /// Host of servers that name neither host nor path prefix.
    #[arg(long, env = "MCP_DEFAULT_INGRESS_HOST")]
    pub default_ingress_host: Option<String>,
    /// Class of Ingresses of servers that name none.
    #[arg(long, env = "DEFAULT_INGRESS_CLASS", default_value = "traefik")]
    pub ingress_class: String,
    /// Entry points of Traefik.
    #[arg(long, env = "MCP_DEFAULT_INGRESS_ENTRYPOINTS", default_value = "web")]
    pub ingress_entrypoints: String,
    /// Traefik's routers are for TLS.
    #[arg(long, env = "MCP_DEFAULT_INGRESS_TLS")]
    pub ingress_tls: bool,
    /// The platform's own registry, as `registry.example.com:5000` or with a path.
    #[arg(long, env = "PROVISIONED_REGISTRY_URL")]
    pub registry_url: Option<String>,
    /// Where nodes pull from, where that is another name.
    #[arg(long, env = "MCP_REGISTRY_PULL_HOST")]
    pub registry_pull_host: Option<String>,
    /// User to pull as. It must be able to pull and nothing else: what it may reaches every namespace that pulls.
    #[arg(long, env = "PROVISIONED_REGISTRY_USERNAME")]
    pub registry_username: Option<String>,
    /// That user's password.
    #[arg(long, env = "PROVISIONED_REGISTRY_PASSWORD", hide_env_values = true)]
    pub registry_password: Option<String>,
    /// Secret to pull with that the platform puts into each namespace itself; then none is rendered.
    #[arg(long, env = "PROVISIONED_REGISTRY_SECRET_NAME")]
    pub registry_secret_name: Option<String>,
}

impl RenderArgs {
    /// The settings, where gateways start from `gateway_files`.
    pub fn settings(&self, gateway_files: GatewayFiles) -> Settings {
        Settings {
            gateway_image: self.gateway_image.clone(),
            require_gateway: self.require_gateway,
            gateway_files,
            metrics_namespaces: self.metrics_namespace.clone(),
            ingress: IngressDefaults {
                host: self.default_ingress_host.clone(),
                class: self.ingress_class.clone(),
                entrypoints: self.ingress_entrypoints.clone(),
                tls: self.ingress_tls,
            },
            registry: Registry {
                url: self.registry_url.clone(),
                pull_host: self.registry_pull_host.clone(),
                username: self.registry_username.clone(),
                password: self.registry_password.clone(),
                secret_name: self.registry_secret_name.clone(),
            },
        }
    }
}

//! Neutral picture of what one proxy must do: no Envoy words, no Kubernetes words.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

/// What a proxy does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyPlan {
    /// Address that it listens on.
    pub listen: Address,
    /// Ways in, in order of precedence.
    pub routes: Vec<Route>,
    /// Ways out.
    pub upstreams: Vec<Upstream>,
    /// Largest request body that any route takes, in bytes.
    pub max_body_bytes: u32,
    /// The filter's code.
    pub module: String,
    /// The filter's configuration, encoded.
    pub filter_config: Vec<u8>,
    /// The oldest wire version of a filter that does what it says.
    pub filter_needs: u32,
}

/// Host and port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Host name or IP address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// One way in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Name; the filter knows its server by it.
    pub name: String,
    /// Host that the request must name; none: any.
    pub host: Option<String>,
    /// Path, which matches itself and everything below it.
    pub path: String,
    /// What stands in place of `path` upstream; none: it stays.
    pub rewrite: Option<String>,
    /// Name of the upstream.
    pub upstream: String,
}

/// One way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Name.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// Over TLS, with this name to be proven.
    pub tls: Option<String>,
}

//! Where a server is reached, and where it is.

use sallyport_api::v1alpha1::MCPServer;

use crate::place::{Place, place};
use crate::problem::Problem;

/// Where calls go on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Over TLS.
    pub tls: bool,
    /// Path that takes the place of the public one; empty: the public one stays.
    pub path: String,
}

/// The public side of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Path, with a leading and no trailing slash.
    pub path: String,
    /// Host; none: any.
    pub host: Option<String>,
    /// Removed from the front of the path.
    pub strip_prefix: Option<String>,
    /// The server itself.
    pub upstream: Upstream,
}

/// The exposure of a server.
///
/// # Errors
/// It is not governed, or its upstream cannot be understood.
pub fn exposure(server: &MCPServer) -> Result<Exposure, Problem> {
    let gateway = server.spec.gateway.clone().unwrap_or_default();
    if !gateway.enabled {
        let message = "is off, so calls would not be governed; the server is not exposed here";
        return Err(Problem::error("spec.gateway.enabled", "NotGoverned", message));
    }
    let Place { host, path } = place(server);
    let url = gateway.upstream_url.unwrap_or_else(|| format!("http://127.0.0.1:{}", server.spec.port));
    let upstream = Upstream::read(&url).ok_or_else(|| {
        let message = format!("is `{url}`; must be like http://host:port or https://host/path");
        Problem::error("spec.gateway.upstreamURL", "WrongUpstream", message)
    })?;
    Ok(Exposure { path, host, strip_prefix: gateway.strip_prefix, upstream })
}

impl Upstream {
    /// Reads a URL like `http://host:port` or `https://host/path`; none: it is no such.
    pub fn read(url: &str) -> Option<Self> {
        let (tls, rest) = match url.split_once("://")? {
            ("http", rest) => (false, rest),
            ("https", rest) => (true, rest),
            _ => return None,
        };
        let (authority, path) =
            rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
        if authority.contains('@') || path.contains(['?', '#']) {
            return None;
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let host = host.trim_matches(['[', ']']);
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        (!host.is_empty()).then(|| Self { host: host.into(), port, tls, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read() {
        let read = |url| Upstream::read(url).map(|u| (u.host, u.port, u.tls, u.path));
        assert_eq!(read("http://127.0.0.1:8088"), Some(("127.0.0.1".into(), 8088, false, String::new())));
        assert_eq!(
            read("https://mcp.example.com/mcp/"),
            Some(("mcp.example.com".into(), 443, true, "/mcp".into()))
        );
        assert_eq!(read("http://[::1]:9"), Some(("::1".into(), 9, false, String::new())));
        for url in ["ftp://a", "http://", "http://u:p@h", "http://h:x", "http://h/p?q"] {
            assert_eq!(read(url), None, "{url}");
        }
    }
}

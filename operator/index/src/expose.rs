//! A server's way in and way out. Every proxy takes what passes here: one server's odd path or host must not cost the
//! others their routes.

use sallyport_operator_ir::{Address, Route, Upstream};
use sallyport_policy::ObjectId;
use sallyport_resolve::{Exposure, Problem, Severity};

/// The route and upstream of a server.
pub(crate) fn expose(id: &ObjectId, exposure: &Exposure) -> Result<(Route, Upstream), Problem> {
    check_path("spec.ingressPath", &exposure.path)?;
    // Host names have no case.
    let host = exposure.host.as_deref().map(str::to_ascii_lowercase);
    if let Some(host) = &host {
        check_host("spec.ingressHost", host)?;
    }
    let upstream = &exposure.upstream;
    check_host("spec.gateway.upstreamURL", &upstream.host)?;
    if !upstream.path.is_empty() {
        check_path("spec.gateway.upstreamURL", &upstream.path)?;
    }
    if upstream.port == 0 {
        return Err(problem(
            "spec.gateway.upstreamURL",
            "WrongUpstream",
            "has port 0; must be 1 to 65535".into(),
        ));
    }
    let name = format!("mcp/{id}");
    let route = Route {
        name: id.to_string(),
        host,
        path: exposure.path.clone(),
        rewrite: rewrite(exposure),
        upstream: name.clone(),
    };
    let address = Address { host: upstream.host.clone(), port: upstream.port };
    Ok((route, Upstream { name, address, tls: upstream.tls.then(|| upstream.host.clone()) }))
}

fn problem(path: &str, reason: &'static str, message: String) -> Problem {
    Problem { severity: Severity::Error, path: path.into(), reason, message }
}

/// What the upstream sees in the path's place: its own path, or what is left without `stripPrefix`.
fn rewrite(exposure: &Exposure) -> Option<String> {
    if !exposure.upstream.path.is_empty() {
        return Some(exposure.upstream.path.clone());
    }
    let prefix = exposure.strip_prefix.as_deref()?.trim_end_matches('/');
    let rest = exposure.path.strip_prefix(prefix)?;
    match rest {
        "" => Some("/".into()),
        // Only at a segment's border, and only where something goes.
        rest => (rest.starts_with('/') && !prefix.is_empty()).then(|| rest.to_string()),
    }
}

/// Requests' paths are normalised before they are matched, so only a normal path can be reached.
fn check_path(field: &str, path: &str) -> Result<(), Problem> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b);
    let is_normal = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(fits);
    let is_root = path == "/";
    if is_root || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_normal)) {
        return Ok(());
    }
    let message =
        format!("gives the path `{path}`; must be like /name/mcp, without empty, `.` or escaped segments");
    Err(problem(field, "WrongPath", message))
}

fn check_host(field: &str, host: &str) -> Result<(), Problem> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let is_name =
        host.len() <= 253 && host.split('.').all(|label| !label.is_empty() && label.bytes().all(fits));
    if is_name || host.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    Err(problem(field, "WrongHost", format!("gives the host `{host}`; must be a host name or an IP address")))
}

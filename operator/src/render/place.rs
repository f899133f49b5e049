//! Where a server is reached from outside.

use std::collections::BTreeMap;

use sallyport_api::v1alpha1::{AuthMode, MCPServer};
use sallyport_resolve::{Problem, public_path};

use super::prepare::{error, is_subdomain};
use super::settings::{IngressDefaults, Settings};

/// Where OAuth clients look for what protects a path (RFC 9728).
const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";
/// The annotation that came before `spec.ingressClassName`; an Ingress may have one of the two.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Where a server is reached from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// None: any.
    pub(super) host: Option<String>,
    /// The server's path first.
    pub(super) paths: Vec<String>,
    /// None: an annotation names it.
    pub(super) class: Option<String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// Host, if it matters, and path that a server claims.
pub fn claim(server: &MCPServer, settings: &Settings) -> (Option<String>, String) {
    let place = place(server, &settings.ingress, &mut Vec::new());
    (place.host, public_path(server))
}

/// The place of a server, whether or not another server has it already.
pub(super) fn place(server: &MCPServer, defaults: &IngressDefaults, problems: &mut Vec<Problem>) -> Place {
    let spec = &server.spec;
    // The platform's host is for those who say nothing at all of where they want to be.
    let default_host = defaults.host.as_ref().filter(|_| spec.public_path_prefix.is_none());
    let host = spec.ingress_host.as_ref().or(default_host).map(|host| host.to_ascii_lowercase());
    if let Some(host) = host.as_deref().filter(|host| !is_host(host)) {
        let message = format!(
            "gives the host `{host}`; an Ingress needs a DNS name, as mcp.example.com or *.example.com"
        );
        problems.push(error("spec.ingressHost", "WrongHost", message));
    }
    let path = public_path(server);
    if !is_path(&path) {
        let field =
            if spec.public_path_prefix.is_some() { "spec.publicPathPrefix" } else { "spec.ingressPath" };
        let message = format!(
            "gives the path `{path}`; must be like /name/mcp, without empty, `.` or escaped segments"
        );
        problems.push(error(field, "WrongPath", message));
    }
    let mut paths = vec![path.clone()];
    if spec.auth.as_ref().is_some_and(|auth| auth.mode == AuthMode::Oauth) {
        paths.push(format!("{PROTECTED_RESOURCE}{}", path.trim_end_matches('/')));
    }
    let class = spec
        .ingress_class
        .clone()
        .filter(|class| !class.is_empty())
        .unwrap_or_else(|| defaults.class.clone());
    if !is_subdomain(&class) {
        let message = format!("is `{class}`; must be the name of an IngressClass");
        problems.push(error("spec.ingressClass", "InvalidReference", message));
    }
    let mut annotations = for_class(&class, defaults);
    for (key, value) in &spec.ingress_annotations {
        if !is_annotation(key) {
            let message = format!("has the key `{key}`; must be like example.com/name");
            problems.push(error("spec.ingressAnnotations", "InvalidAnnotation", message));
        }
        annotations.insert(key.clone(), value.clone());
    }
    let class = (!annotations.contains_key(CLASS_ANNOTATION)).then_some(class);
    Place { host, paths, class, annotations }
}

/// What controllers of a class must be told. None is told to rewrite the path: the gateway knows the public one.
fn for_class(class: &str, defaults: &IngressDefaults) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    let mut say = |key: &str, value: &str| annotations.insert(key.to_string(), value.to_string());
    match class {
        "traefik" => {
            say("traefik.ingress.kubernetes.io/router.entrypoints", &defaults.entrypoints);
            if defaults.tls {
                say("traefik.ingress.kubernetes.io/router.tls", "true");
            }
        }
        "nginx" => drop(say("nginx.ingress.kubernetes.io/ssl-redirect", "false")),
        // Istio's controller needs no IngressClass object this way.
        "istio" => drop(say(CLASS_ANNOTATION, "istio")),
        _ => {}
    }
    annotations
}

fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    is_subdomain(name) && host.parse::<std::net::IpAddr>().is_err()
}

fn is_path(path: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b);
    let is_normal = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(fits);
    path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_normal))
}

fn is_annotation(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    prefix.is_none_or(|prefix| is_subdomain(&prefix.to_ascii_lowercase()))
        && name.len() <= 63
        && name.bytes().all(fits)
        && is_edge(name.as_bytes().first())
        && is_edge(name.as_bytes().last())
}

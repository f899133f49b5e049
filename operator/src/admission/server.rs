//! Servers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sallyport_api::v1alpha1::{MCPServer, MCPServerSpec};
use sallyport_envoy::sidecar;
use sallyport_resolve::{Problem, Settings, Severity, Upstream, collision, exposure, place, resolve_server};

use crate::render::check;

use super::access::secret_need;
use super::findings::{Findings, Right};
use super::request::Request;
use super::review::{Rules, World};

/// More Secrets than this in one server would cost more to judge than one request may.
const MOST_SECRETS: usize = 64;

/// A server that is made or changed. What was there already needs no right, and is a warning at most.
pub(super) fn examine(
    request: &Request,
    new: &MCPServer,
    old: Option<&MCPServer>,
    rules: &Rules<'_>,
    world: &dyn World,
    findings: &mut Findings,
) {
    let known = old.map(|old| problems(old, rules, world)).unwrap_or_default();
    for problem in problems(new, rules, world) {
        match problem.severity {
            Severity::Error if !known.contains(&problem) => findings.errors.push(problem),
            Severity::Error | Severity::Warning => findings.warnings.push(problem),
        }
    }
    let is_governed = new.spec.gateway.as_ref().is_some_and(|gateway| gateway.enabled);
    match (is_governed, rules.settings.require_gateway) {
        (false, true) => {
            let message = "must be true: this platform runs no server without a gateway";
            findings.errors.push(Problem::error("spec.gateway.enabled", "GatewayRequired", message));
        }
        (false, false) => {
            let message = "is false, so calls to this server are not governed";
            findings.warnings.push(Problem::warning("spec.gateway.enabled", "NotGoverned", message));
        }
        (true, _) => {}
    }
    let old = old.map(|old| &old.spec);
    privileged(request, &new.spec, old, findings);
    secrets(&new.spec, old, findings);
}

/// What is wrong with a server, by the code that decides on its effect.
fn problems(server: &MCPServer, rules: &Rules<'_>, world: &dyn World) -> Vec<Problem> {
    let mut problems = resolve_server(server, &Settings::default()).1;
    match exposure(server) {
        Ok(exposure) => problems.extend(reserved(server, &exposure.upstream)),
        // Direct mode is judged by the platform's rules.
        Err(problem) if problem.reason == "NotGoverned" => {}
        Err(problem) => problems.push(problem),
    }
    let rendered = check(server, rules.settings);
    // Whether a gateway is demanded does not depend on what was there before.
    problems.extend(rendered.into_iter().filter(|problem| problem.reason != "GatewayRequired"));
    problems.extend(taken(server, world));
    problems
}

/// The place is another's.
fn taken(server: &MCPServer, world: &dyn World) -> Option<Problem> {
    world.in_the_way(server).map(|holder| collision(server, &place(server), &holder))
}

fn is_in_pod(upstream: &Upstream) -> bool {
    let is_loopback = upstream.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || upstream.host.eq_ignore_ascii_case("localhost")
}

/// Behind these ports of the pod is the gateway itself.
fn reserved(server: &MCPServer, upstream: &Upstream) -> Option<Problem> {
    let own = server.spec.gateway.as_ref().and_then(|gateway| u16::try_from(gateway.port).ok());
    let is_reserved = sidecar::PORTS.contains(&upstream.port) || own == Some(upstream.port);
    (is_in_pod(upstream) && is_reserved).then(|| {
        let message = format!("leads to port {} of the pod, which is the gateway's own", upstream.port);
        Problem::error("spec.gateway.upstreamURL", "ReservedPort", message)
    })
}

/// Fields that reach beyond the server's own pods.
fn privileged(request: &Request, new: &MCPServerSpec, old: Option<&MCPServerSpec>, findings: &mut Findings) {
    let name = request.id.name.as_str();
    let mut need = |verb, path: &str, why: &str| {
        findings.need(Right::on_server(verb, name), path, "NotAllowed", why);
    };
    let image = |spec: &MCPServerSpec| spec.gateway.as_ref().and_then(|gateway| gateway.image.clone());
    if image(new).is_some() && old.and_then(image) != image(new) {
        need("use-gateway-image", "spec.gateway.image", "to replace the platform's gateway");
    }
    let annotations = |spec: &MCPServerSpec| spec.ingress_annotations.clone();
    if old.map(annotations).unwrap_or_default() != new.ingress_annotations {
        need("use-ingress-annotations", "spec.ingressAnnotations", "to change how the ingress behaves");
    }
    let upstream = |spec: &MCPServerSpec| {
        let gateway = spec.gateway.as_ref()?;
        Some((gateway.upstream_url.clone()?, gateway.enabled))
    };
    if old.and_then(upstream) != upstream(new)
        && upstream(new)
            .is_some_and(|(url, _)| !Upstream::read(&url).is_some_and(|upstream| is_in_pod(&upstream)))
    {
        need("use-upstream-url", "spec.gateway.upstreamURL", "to lead calls out of the server's own pod");
    }
}

/// A Secret may be named by those who may read it. Whoever changes what runs gets what the Secrets hold, too, and is judged
/// on all of them.
fn secrets(new: &MCPServerSpec, old: Option<&MCPServerSpec>, findings: &mut Findings) {
    let runs = |spec: &MCPServerSpec| {
        let gateway = spec.gateway.as_ref().and_then(|gateway| gateway.image.clone());
        let registry = (spec.registry_override.clone(), spec.use_provisioned_registry);
        (spec.image.clone(), spec.image_tag.clone(), registry, gateway)
    };
    let is_same_code = old.is_some_and(|old| runs(old) == runs(new));
    let known: BTreeSet<String> = match old {
        Some(old) if is_same_code => named_secrets(old).map(|(_, name)| name.to_string()).collect(),
        Some(_) | None => BTreeSet::new(),
    };
    let mut judged = BTreeSet::new();
    for (path, name) in named_secrets(new) {
        if !known.contains(name) && judged.insert(name.to_string()) {
            findings.needs.push(secret_need(&path, name));
        }
    }
    if judged.len() > MOST_SECRETS {
        findings.needs.clear();
        let message = format!("names {} Secrets; at most {MOST_SECRETS} can be judged at once", judged.len());
        findings.errors.push(Problem::error("spec.secretEnvVars", "TooManySecrets", message));
    }
}

/// Secrets with the fields that name them.
fn named_secrets(spec: &MCPServerSpec) -> impl Iterator<Item = (String, &str)> {
    let variables = [("secretEnvVars", &spec.secret_env_vars), ("envFromSecret", &spec.env_from_secret)];
    let variables = variables.into_iter().flat_map(|(field, variables)| {
        variables.iter().enumerate().map(move |(index, variable)| {
            (format!("spec.{field}[{index}].secretKeyRef.name"), variable.secret_key_ref.name.as_str())
        })
    });
    let pull = spec.image_pull_secrets.iter().enumerate();
    let pull = pull.map(|(index, name)| (format!("spec.imagePullSecrets[{index}]"), name.as_str()));
    let key = spec.analytics.iter().filter_map(|analytics| analytics.api_key_secret_ref.as_ref());
    let key = key.map(|secret| ("spec.analytics.apiKeySecretRef.name".to_string(), secret.name.as_str()));
    variables.chain(pull).chain(key)
}

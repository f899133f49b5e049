//! From a server to its pod template, or to all that is wrong with it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sallyport_api::v1alpha1::{MCPServer, MCPServerSpec, RolloutConfig, RolloutStrategy};
use sallyport_envoy::sidecar;
use sallyport_resolve::{Problem, Severity};

use super::place::{Place, place};
use super::registry::{Pull, pull};
use super::settings::Settings;
use super::template::{Secrets, Template, digest};
use super::{container, env, gateway, image, names};

/// What can be made of a server.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// All of it can be rendered.
    Ready(Box<Prepared>),
    /// It has no gateway, and the platform demands one: it must not be reached.
    Refused(Problem),
    /// Nothing of it can be rendered; what is there stays.
    Invalid(Vec<Problem>),
}

/// A server of which everything can be rendered.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The pod template that its spec asks for.
    pub template: Template,
    /// That template's digest.
    pub hash: String,
    /// Calls go straight to the server: nobody governs them.
    pub is_direct: bool,
    /// The port that Service and NetworkPolicy lead to.
    pub(super) served_port: i32,
    pub(super) place: Place,
    pub(super) pull: Pull,
    pub(super) strategy: Strategy,
}

/// How a Deployment replaces its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    Recreate,
    Rolling { max_unavailable: IntOrString, max_surge: IntOrString },
}

/// All that keeps a server from being rendered. Nothing depends on what Secrets hold.
pub fn check(server: &MCPServer, settings: &Settings) -> Vec<Problem> {
    match prepare(server, settings, &Secrets::Unknown) {
        Outcome::Ready(_) => Vec::new(),
        Outcome::Refused(problem) => vec![problem],
        Outcome::Invalid(problems) => problems,
    }
}

/// Makes ready what is rendered of a server.
pub fn prepare(server: &MCPServer, settings: &Settings, secrets: &Secrets) -> Outcome {
    let spec = &server.spec;
    let is_direct = !spec.gateway.as_ref().is_some_and(|gateway| gateway.enabled);
    if is_direct && settings.require_gateway {
        let message =
            "is off, and this platform demands a gateway; the server is not reachable until it is on";
        return Outcome::Refused(error("spec.gateway.enabled", "GatewayRequired", message));
    }
    let mut problems = Vec::new();
    let name = server.metadata.name.as_deref().unwrap_or_default();
    check_name(name, &mut problems);
    check_ports(spec, &mut problems);
    check_pull_secrets(spec, &mut problems);
    let strategy = strategy(spec, &mut problems);
    let place = place(server, &settings.ingress, &mut problems);
    let sidecar = (!is_direct).then(|| sidecar(server, settings, &mut problems)).flatten();
    let image = image::of_server(spec, &settings.registry).map_err(|problem| problems.push(problem)).ok();
    let environment = env::environment(spec, &mut problems);
    let resources = container::resources("spec.resources", spec.resources.as_ref(), &mut problems);
    let (Some(image), true) = (image, problems.is_empty()) else {
        return Outcome::Invalid(problems);
    };
    let main = container::server(name, spec, image, environment, resources, !is_direct);
    let annotations = annotations(settings, secrets, is_direct);
    let template = Template::new(name, main, sidecar, &spec.image_pull_secrets, annotations);
    let hash = match template.hash() {
        Ok(hash) => hash,
        Err(cause) => {
            return Outcome::Invalid(vec![error(
                "spec",
                "NotRendered",
                format!("cannot be rendered: {cause}"),
            )]);
        }
    };
    let gateway_port = spec.gateway.as_ref().map_or(spec.port, |gateway| gateway.port);
    let served_port = if is_direct { spec.port } else { gateway_port };
    let pull = pull(spec, &settings.registry);
    Outcome::Ready(Box::new(Prepared { template, hash, is_direct, served_port, place, pull, strategy }))
}

/// What the path that drains a server's gateways ends with. The uid is random, and known to those alone who may read the
/// server; it is that of this object for ever, so that no pod restarts for it.
pub(super) fn drain_key(server: &MCPServer) -> String {
    digest(format!("drain {}", server.metadata.uid.as_deref().unwrap_or_default()).as_bytes())
}

fn sidecar(
    server: &MCPServer,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<k8s_openapi::api::core::v1::Container> {
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let given = server.spec.gateway.clone().unwrap_or_default();
    let resources = container::resources("spec.gateway.resources", given.resources.as_ref(), problems);
    let reference =
        given.image.as_deref().filter(|image| !image.is_empty()).unwrap_or(&settings.gateway_image);
    match image::of_gateway("spec.gateway.image", reference) {
        Ok(image) => Some(gateway::container(name, image, given.port, resources, &drain_key(server))),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

/// What restarts pods beside the template's own fields.
fn annotations(settings: &Settings, secrets: &Secrets, is_direct: bool) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    if !is_direct {
        let config = digest(settings.gateway_files.of_start().as_bytes());
        annotations.insert(names::CONFIG_HASH.into(), config);
    }
    if let Secrets::Known(hash) = secrets {
        annotations.insert(names::SECRETS_HASH.into(), hash.clone());
    }
    annotations
}

/// Names of Services are the strictest of all that a server's name is in.
fn check_name(name: &str, problems: &mut Vec<Problem>) {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_label =
        name.bytes().all(fits) && name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-');
    if !is_label || name.len() > 63 {
        let message = format!(
            "is `{name}`; a Service is named after it, so it must be at most 63 lower-case letters, digits and `-`, and begin with a letter"
        );
        problems.push(error("metadata.name", "InvalidName", message));
    }
    if name == names::GATEWAY || name.ends_with(names::CANARY_SUFFIX) {
        let message = format!(
            "is `{name}`; `{}` is the gateway's, and names that end with `{}` are those of canaries; choose another",
            names::GATEWAY,
            names::CANARY_SUFFIX
        );
        problems.push(error("metadata.name", "ReservedName", message));
    }
}

/// Both containers are in one network.
fn check_ports(spec: &MCPServerSpec, problems: &mut Vec<Problem>) {
    let gateway = spec.gateway.as_ref().filter(|gateway| gateway.enabled);
    let fields = [("spec.port", Some(spec.port)), ("spec.servicePort", Some(spec.service_port))];
    let fields = fields.into_iter().chain([("spec.gateway.port", gateway.map(|gateway| gateway.port))]);
    for (path, port) in fields.filter_map(|(path, port)| Some((path, port?))) {
        if !(1..=65_535).contains(&port) {
            problems.push(error(path, "InvalidPort", format!("is {port}; must be 1 to 65535")));
        }
    }
    let Some(gateway) = gateway else {
        return;
    };
    if gateway.port == spec.port {
        let message =
            format!("is {}, as spec.port is; both listen in one pod, so they must differ", spec.port);
        problems.push(error("spec.gateway.port", "PortCollision", message));
    }
    for (path, port) in [("spec.port", spec.port), ("spec.gateway.port", gateway.port)] {
        if sidecar::PORTS.map(i32::from).contains(&port) {
            let message = format!("is {port}, which the gateway needs for itself; choose another");
            problems.push(error(path, "PortCollision", message));
        }
    }
}

fn check_pull_secrets(spec: &MCPServerSpec, problems: &mut Vec<Problem>) {
    for (index, name) in spec.image_pull_secrets.iter().enumerate() {
        let path = format!("spec.imagePullSecrets[{index}]");
        if !is_subdomain(name) {
            problems.push(error(
                path,
                "InvalidReference",
                format!("is `{name}`, which is no name of a Secret"),
            ));
        } else if spec.image_pull_secrets.iter().take(index).any(|before| before == name) {
            problems.push(error(
                path,
                "Duplicate",
                format!("is `{name}`, which stands there already; remove one"),
            ));
        }
    }
}

fn strategy(spec: &MCPServerSpec, problems: &mut Vec<Problem>) -> Strategy {
    let rollout = spec.rollout.clone().unwrap_or_default();
    if spec.replicas < 0 {
        problems.push(error(
            "spec.replicas",
            "InvalidReplicas",
            format!("is {}; must be zero or more", spec.replicas),
        ));
    }
    if rollout.strategy == RolloutStrategy::Recreate {
        return Strategy::Recreate;
    }
    if rollout.strategy == RolloutStrategy::Canary
        && rollout.canary_replicas.is_none_or(|replicas| replicas < 1)
    {
        let message = "must be at least 1 for a canary";
        problems.push(error("spec.rollout.canaryReplicas", "InvalidReplicas", message));
    }
    let RolloutConfig { max_unavailable, max_surge, .. } = rollout;
    let max_unavailable = amount("spec.rollout.maxUnavailable", max_unavailable, Some(100), problems);
    let max_surge = amount("spec.rollout.maxSurge", max_surge, None, problems);
    let is_none = |amount: &IntOrString| match amount {
        IntOrString::Int(number) => *number == 0,
        IntOrString::String(percentage) => percentage.trim_end_matches('%').parse() == Ok(0),
    };
    if is_none(&max_unavailable) && is_none(&max_surge) {
        let message = "is 0, and so is maxSurge: no pod could ever be replaced; raise one of them";
        problems.push(error("spec.rollout.maxUnavailable", "InvalidAmount", message));
    }
    Strategy::Rolling { max_unavailable, max_surge }
}

/// A number or a percentage.
fn amount(
    path: &str,
    text: Option<String>,
    highest: Option<i32>,
    problems: &mut Vec<Problem>,
) -> IntOrString {
    let text = text.unwrap_or_else(|| "25%".into());
    let number = text.strip_suffix('%').unwrap_or(&text).parse::<i32>().ok().filter(|number| *number >= 0);
    match number {
        Some(number) if !text.ends_with('%') => IntOrString::Int(number),
        Some(number) if highest.is_none_or(|highest| number <= highest) => {
            IntOrString::String(format!("{number}%"))
        }
        _ => {
            let message = format!("is `{text}`; must be a number or a percentage, as 1 or 25%");
            problems.push(error(path, "InvalidAmount", message));
            IntOrString::Int(0)
        }
    }
}

/// A DNS name in lower case, as most names of Kubernetes are.
pub(super) fn is_subdomain(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// It has no effect.
pub(super) fn error(path: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Problem {
    Problem { severity: Severity::Error, path: path.into(), reason, message: message.into() }
}

/// It works, and probably not as meant.
pub(super) fn warning(path: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Problem {
    Problem { severity: Severity::Warning, path: path.into(), reason, message: message.into() }
}

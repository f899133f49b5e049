//! What both containers have in common, and the server's.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sallyport_api::v1alpha1::{MCPServerSpec, ResourceList, ResourceRequirements};
use sallyport_resolve::Problem;

use super::image::Image;
use super::prepare::error;
use super::quantity;

/// The user of every image of the platform. A server's image runs as it too: the `restricted` profile wants another than root.
pub(super) const USER: i64 = 65_532;
/// How long the server goes on after its pod was told to end: the gateway's drain, and what is left of its calls.
pub(super) const SERVER_LINGER_SECONDS: i64 = 12;
/// Without a gateway, until nobody sends it calls any more.
const DIRECT_LINGER_SECONDS: i64 = 5;

/// Resource, request and limit where none is given.
const DEFAULTS: [(&str, &str, &str); 2] = [("cpu", "50m", "500m"), ("memory", "64Mi", "256Mi")];

/// The server's container.
pub(super) fn server(
    name: &str,
    spec: &MCPServerSpec,
    image: Image,
    environment: Vec<core::EnvVar>,
    resources: core::ResourceRequirements,
    is_governed: bool,
) -> core::Container {
    let probe = |delay, period| core::Probe {
        tcp_socket: Some(core::TCPSocketAction { port: IntOrString::Int(spec.port), host: None }),
        initial_delay_seconds: Some(delay),
        period_seconds: Some(period),
        ..core::Probe::default()
    };
    let seconds = if is_governed { SERVER_LINGER_SECONDS } else { DIRECT_LINGER_SECONDS };
    core::Container {
        name: name.into(),
        image: Some(image.reference),
        image_pull_policy: Some(image.pull_policy.into()),
        env: (!environment.is_empty()).then_some(environment),
        ports: Some(vec![port("http", spec.port)]),
        liveness_probe: Some(probe(5, 10)),
        readiness_probe: Some(probe(3, 5)),
        lifecycle: Some(core::Lifecycle {
            pre_stop: Some(core::LifecycleHandler {
                sleep: Some(core::SleepAction { seconds }),
                ..core::LifecycleHandler::default()
            }),
            ..core::Lifecycle::default()
        }),
        resources: Some(resources),
        security_context: Some(security(None)),
        ..core::Container::default()
    }
}

/// A port. Server-side apply tells ports apart by number and protocol, so the protocol stands there.
pub(super) fn port(name: &str, number: i32) -> core::ContainerPort {
    core::ContainerPort {
        name: Some(name.into()),
        container_port: number,
        protocol: Some("TCP".into()),
        ..core::ContainerPort::default()
    }
}

/// What the `restricted` profile demands of a container.
pub(super) fn security(read_only_root: Option<bool>) -> core::SecurityContext {
    core::SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(core::Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
        read_only_root_filesystem: read_only_root,
        run_as_non_root: Some(true),
        seccomp_profile: Some(seccomp()),
        ..core::SecurityContext::default()
    }
}

/// The runtime's own filter of system calls.
pub(super) fn seccomp() -> core::SeccompProfile {
    core::SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None }
}

/// Requests and limits. What is missing has a default, moved to where it does not contradict what is given.
pub(super) fn resources(
    path: &str,
    given: Option<&ResourceRequirements>,
    problems: &mut Vec<Problem>,
) -> core::ResourceRequirements {
    let list = |list: Option<&ResourceList>, name: &str| {
        let list = list?;
        let amount = if name == "cpu" { list.cpu.clone() } else { list.memory.clone() };
        amount.filter(|amount| !amount.is_empty())
    };
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    for (name, default_request, default_limit) in DEFAULTS {
        let request = list(given.and_then(|given| given.requests.as_ref()), name);
        let limit = list(given.and_then(|given| given.limits.as_ref()), name);
        let mut amount = |field: &str, text: &str| {
            let amount = quantity::parse(text);
            if amount.is_none() {
                let message = format!("is `{text}`; must be an amount like 100m or 64Mi");
                problems.push(error(format!("{path}.{field}.{name}"), "InvalidQuantity", message));
            }
            amount
        };
        let low = amount("requests", request.as_deref().unwrap_or(default_request));
        let high = amount("limits", limit.as_deref().unwrap_or(default_limit));
        let is_beyond = matches!((low, high), (Some(low), Some(high)) if low > high);
        let (request, limit) = match (request, limit) {
            (Some(request), Some(limit)) => {
                if is_beyond {
                    let message = format!("is {request}, which is beyond the limit of {limit}");
                    problems.push(error(format!("{path}.requests.{name}"), "BeyondLimit", message));
                }
                (request, limit)
            }
            (Some(request), None) if is_beyond => (request.clone(), request),
            (None, Some(limit)) if is_beyond => (limit.clone(), limit),
            (request, limit) => (
                request.unwrap_or_else(|| default_request.into()),
                limit.unwrap_or_else(|| default_limit.into()),
            ),
        };
        requests.insert(name.to_string(), Quantity(request));
        limits.insert(name.to_string(), Quantity(limit));
    }
    core::ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(requests: [Option<&str>; 2], limits: [Option<&str>; 2]) -> (String, Vec<String>) {
        let list = |[cpu, memory]: [Option<&str>; 2]| {
            Some(ResourceList { cpu: cpu.map(Into::into), memory: memory.map(Into::into) })
        };
        let mut problems = Vec::new();
        let given = ResourceRequirements { requests: list(requests), limits: list(limits) };
        let rendered = resources("spec.resources", Some(&given), &mut problems);
        let text = |list: Option<BTreeMap<String, Quantity>>| {
            list.unwrap().into_values().map(|amount| amount.0).collect::<Vec<_>>().join(" ")
        };
        let problems =
            problems.into_iter().map(|problem| format!("{} {}", problem.path, problem.reason)).collect();
        (format!("{} < {}", text(rendered.requests), text(rendered.limits)), problems)
    }

    #[test]
    fn a_default_gives_way_to_what_is_given() {
        let none = [None, None];
        assert_eq!(rendered(none, none).0, "50m 64Mi < 500m 256Mi");
        assert_eq!(rendered([Some("1"), None], none).0, "1 64Mi < 1 256Mi");
        assert_eq!(rendered(none, [None, Some("32Mi")]).0, "50m 32Mi < 500m 32Mi");
        assert_eq!(rendered([Some(""), None], none).0, "50m 64Mi < 500m 256Mi");
    }

    #[test]
    fn what_cannot_be_is_told_with_its_field() {
        assert_eq!(
            rendered([Some("lots"), None], [None, None]).1,
            ["spec.resources.requests.cpu InvalidQuantity"]
        );
        assert_eq!(
            rendered([None, None], [None, Some("-1")]).1,
            ["spec.resources.limits.memory InvalidQuantity"]
        );
        assert_eq!(
            rendered([Some("2"), None], [Some("1"), None]).1,
            ["spec.resources.requests.cpu BeyondLimit"]
        );
    }
}

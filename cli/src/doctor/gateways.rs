//! Servers as their status tells them, and pods that do not come up.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use sallyport_api::v1alpha1::MCPServer;

use super::{Finding, some_of};

const PROXIES: &str = "proxies";
const PODS: &str = "pods";

/// All servers, and the pods that are rendered for them.
pub(super) async fn check(client: &kube::Client) -> Vec<Finding> {
    let servers: Api<MCPServer> = Api::all(client.clone());
    let mut findings = match servers.list(&ListParams::default()).await {
        Ok(list) => enforcement(&list.items),
        Err(error) => vec![Finding::blind(PROXIES, &error)],
    };
    findings.extend(pods(client, None).await);
    findings
}

/// Whether what servers say is enforced.
pub(super) fn enforcement(servers: &[MCPServer]) -> Vec<Finding> {
    let (mut open, mut behind) = (Vec::new(), Vec::new());
    for server in servers {
        let name = format!("{}/{}", server.namespace().unwrap_or_default(), server.name_any());
        if !server.spec.gateway.as_ref().is_some_and(|gateway| gateway.enabled) {
            open.push(name);
            continue;
        }
        let conditions = server.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let enforced = conditions.iter().find(|condition| condition.type_ == "Enforced");
        match enforced {
            Some(condition) if condition.status == "True" => {}
            Some(condition) => {
                behind.push(format!("{name} ({}: {})", condition.reason, condition.message));
            }
            None => behind.push(format!("{name} (no status yet)")),
        }
    }
    let mut findings = Vec::new();
    if !behind.is_empty() {
        findings.push(Finding::failure(
            PROXIES,
            format!("not enforced everywhere: {}", some_of(&behind)),
            "see `kubectl describe mcpserver`, and the log of the container mcp-gateway of the pods that are named",
        ));
    }
    if !open.is_empty() {
        findings.push(Finding::warning(
            PROXIES,
            format!("without a gateway, so ungoverned: {}", some_of(&open)),
            "set spec.gateway.enabled, or run the operator with --require-gateway",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            PROXIES,
            format!("{} servers, each enforced on all of its proxies", servers.len()),
        ));
    }
    findings
}

/// Pods of ours that do not come up: in one namespace, or those rendered for servers.
pub(super) async fn pods(client: &kube::Client, namespace: Option<&str>) -> Vec<Finding> {
    let (api, params): (Api<Pod>, _) = match namespace {
        Some(namespace) => (
            Api::namespaced(client.clone(), namespace),
            ListParams::default().labels("app.kubernetes.io/part-of=sallyport"),
        ),
        None => {
            (Api::all(client.clone()), ListParams::default().labels("app.kubernetes.io/managed-by=sallyport"))
        }
    };
    match api.list(&params).await {
        Ok(list) => list.items.iter().flat_map(pod).collect(),
        Err(error) => vec![Finding::blind(PODS, &error)],
    }
}

pub(super) fn pod(pod: &Pod) -> Vec<Finding> {
    let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let status = pod.status.as_ref();
    let containers = status.into_iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    let mut findings: Vec<Finding> =
        containers.filter_map(|container| container_trouble(&name, container)).collect();
    let conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    let unscheduled =
        conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    findings.extend(unscheduled.map(|condition| {
        Finding::failure(
            PODS,
            format!("{name} finds no node: {}", condition.message.as_deref().unwrap_or_default()),
            "give the cluster room, or lower what the pod asks for",
        )
    }));
    findings
}

fn container_trouble(pod: &str, container: &ContainerStatus) -> Option<Finding> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let (reason, name) = (waiting.reason.as_deref().unwrap_or_default(), &container.name);
    let (namespace, pod_name) = pod.split_once('/').unwrap_or_default();
    match reason {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
            Some(Finding::failure(
                PODS,
                format!("{pod} does not get the image {} of {name} ({reason})", container.image),
                "see that its registry has it, and that the pod has a pull Secret for it",
            ))
        }
        "CrashLoopBackOff" | "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let message = waiting.message.as_deref().unwrap_or_default();
            Some(Finding::failure(
                PODS,
                format!("{pod} does not get {name} to run ({reason}): {message}"),
                format!("see `kubectl -n {namespace} logs {pod_name} -c {name} --previous`"),
            ))
        }
        _ => None,
    }
}

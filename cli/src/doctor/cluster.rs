//! The cluster itself: version, definitions of our kinds, clocks, Ingress classes.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use sallyport_api::v1alpha1::MCPServer;

use super::{Finding, SKEW, some_of};

const VERSION: &str = "api-server";
const DEFINITIONS: &str = "crds";
const CLOCKS: &str = "clocks";
const INGRESS: &str = "ingress-class";
/// Native sidecars are there from this minor version on.
const OLDEST: u32 = 29;
/// A node tells that it is alive every 10 s.
const NODE_SILENT: i64 = 60;

/// All but the version.
pub(super) async fn check(client: &kube::Client) -> Vec<Finding> {
    let (mut findings, clocks, ingress) =
        tokio::join!(definitions(client), clocks(client), ingress_classes(client));
    findings.extend(clocks);
    findings.push(ingress);
    findings
}

/// Whether there is a cluster, and one that is new enough.
pub(super) async fn api_server(client: &kube::Client) -> Finding {
    match client.apiserver_version().await {
        Ok(info) => version(&info.git_version, &info.minor),
        Err(error) => Finding::failure(
            VERSION,
            format!("cannot be reached: {error}"),
            "see that the kubeconfig names the cluster, and that it runs",
        ),
    }
}

pub(super) fn version(name: &str, minor: &str) -> Finding {
    // Some distributions write `29+`.
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(minor) if minor >= OLDEST => Finding::ok(VERSION, format!("Kubernetes {name}")),
        _ => Finding::failure(
            VERSION,
            format!("Kubernetes {name} has no native sidecars"),
            format!("upgrade the cluster to 1.{OLDEST} or newer"),
        ),
    }
}

async fn definitions(client: &kube::Client) -> Vec<Finding> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut findings = Vec::new();
    for ours in sallyport_api::crds() {
        findings.push(match api.get_opt(&ours.name_any()).await {
            Ok(live) => definition(&ours, live.as_ref()),
            Err(error) => Finding::blind(DEFINITIONS, &error),
        });
    }
    findings
}

pub(super) fn definition(
    ours: &CustomResourceDefinition,
    live: Option<&CustomResourceDefinition>,
) -> Finding {
    let name = ours.name_any();
    let Some(live) = live else {
        return Finding::failure(DEFINITIONS, format!("{name} is not defined"), "run `sallyport install`");
    };
    let conditions = live.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is_established = conditions
        .is_some_and(|list| list.iter().any(|one| one.type_ == "Established" && one.status == "True"));
    if !is_established {
        return Finding::failure(
            DEFINITIONS,
            format!("{name} is not established"),
            format!("see `kubectl describe crd {name}`: another definition may have its names"),
        );
    }
    let schemas = |crd: &CustomResourceDefinition| {
        let versions = crd.spec.versions.iter();
        versions.map(|version| serde_json::to_value(&version.schema).unwrap_or_default()).collect::<Vec<_>>()
    };
    if schemas(ours) != schemas(live) {
        return Finding::warning(
            DEFINITIONS,
            format!("{name} is not that of this version ({})", env!("CARGO_PKG_VERSION")),
            "use the `sallyport` of the installed version, or run `sallyport install` to bring it to this one",
        );
    }
    Finding::ok(DEFINITIONS, format!("{name} is that of {}", env!("CARGO_PKG_VERSION")))
}

async fn clocks(client: &kube::Client) -> Vec<Finding> {
    let before = Timestamp::now();
    let Some(server) = server_time(client).await else {
        return vec![Finding::warning(
            CLOCKS,
            "the API server does not tell its time",
            "compare the clocks of nodes by hand",
        )];
    };
    let mut findings = vec![skew("this machine", before, server)];
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    match leases.list(&ListParams::default()).await {
        Ok(list) => findings.extend(list.items.iter().filter_map(|lease| node(lease, server))),
        Err(error) => findings.push(Finding::blind(CLOCKS, &error)),
    }
    findings
}

/// Time by the header of an answer.
async fn server_time(client: &kube::Client) -> Option<Timestamp> {
    let request = http::Request::get("/version").body(kube::client::Body::empty()).ok()?;
    let answer = client.send(request).await.ok()?;
    let date = answer.headers().get(http::header::DATE)?.to_str().ok()?;
    Some(rfc2822::parse(date).ok()?.timestamp())
}

pub(super) fn skew(whose: &str, theirs: Timestamp, server: Timestamp) -> Finding {
    let seconds = theirs.as_second() - server.as_second();
    if seconds.abs() <= SKEW {
        return Finding::ok(CLOCKS, format!("{whose} agrees with the API server"));
    }
    let word = if seconds > 0 { "ahead of" } else { "behind" };
    Finding::warning(
        CLOCKS,
        format!("{whose} is {} s {word} the API server", seconds.abs()),
        "keep clocks by NTP: gateways judge by theirs when a session ends",
    )
}

/// A node's clock, as its sign of life shows it.
pub(super) fn node(lease: &Lease, server: Timestamp) -> Option<Finding> {
    let renewed = lease.spec.as_ref()?.renew_time.as_ref()?.0;
    let name = lease.name_any();
    if renewed.as_second() - server.as_second() > SKEW {
        return Some(skew(&format!("node {name}"), renewed, server));
    }
    let age = server.as_second() - renewed.as_second();
    (age > NODE_SILENT).then(|| {
        Finding::warning(
            CLOCKS,
            format!(
                "the last sign of life of node {name} is {age} s old: it is down, or its clock is behind"
            ),
            "see `kubectl get nodes`, and the clock of that node",
        )
    })
}

async fn ingress_classes(client: &kube::Client) -> Finding {
    let classes: Api<IngressClass> = Api::all(client.clone());
    let servers: Api<MCPServer> = Api::all(client.clone());
    let all = ListParams::default();
    let (classes, servers) = tokio::join!(classes.list(&all), servers.list(&all));
    match (classes, servers) {
        (Ok(classes), servers) => {
            let classes: Vec<String> = classes.items.iter().map(ResourceExt::name_any).collect();
            ingress(&classes, &servers.map(|list| list.items).unwrap_or_default())
        }
        (Err(error), _) => Finding::blind(INGRESS, &error),
    }
}

pub(super) fn ingress(classes: &[String], servers: &[MCPServer]) -> Finding {
    let homeless: Vec<String> = servers
        .iter()
        .filter(|server| server.spec.ingress_class.as_ref().is_some_and(|class| !classes.contains(class)))
        .map(|server| format!("{}/{}", server.namespace().unwrap_or_default(), server.name_any()))
        .collect();
    if !homeless.is_empty() {
        return Finding::failure(
            INGRESS,
            format!("{} name a class that the cluster does not have", some_of(&homeless)),
            format!("correct spec.ingressClass (there is: {}), or install that controller", some_of(classes)),
        );
    }
    if classes.is_empty() {
        return Finding::warning(
            INGRESS,
            "the cluster has no IngressClass: servers are reached from inside only",
            "install an Ingress controller, such as Traefik, if agents call from outside",
        );
    }
    Finding::ok(INGRESS, some_of(classes))
}

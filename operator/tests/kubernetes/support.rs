//! A cluster of a test's own, and operators on it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http;
use clap::{Args as _, FromArgMatches};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::ApiResource;
use kube::{Client, Config, ResourceExt};
use sallyport_api::Kind;
use sallyport_operator::Args;
use sallyport_runtime::tls;
use sallyport_test_support::{ApiServer, free_address};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::filter::Filter;

/// Everything comes to pass within it, on a machine with much else to do.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Namespace of the objects.
pub const NAMESPACE: &str = "ns";
/// Namespace of the operator.
pub const INSTALLED: &str = "sallyport-system";
/// As whom the operator acts.
const OPERATOR: &str = "system:serviceaccount:sallyport-system:sallyport-operator";

/// An API server with our kinds, and the operator's roles.
pub struct Cluster {
    pub server: ApiServer,
    /// The administrator's.
    pub client: Client,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// None where there is no API server to be had.
    pub async fn start() -> Option<Self> {
        let cluster = Self::without_our_kinds().await?;
        cluster.define();
        Some(cluster)
    }

    pub async fn without_our_kinds() -> Option<Self> {
        let server = ApiServer::start()?;
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        for namespace in [NAMESPACE, INSTALLED] {
            server.kubectl(&["create", "namespace", namespace], "");
        }
        let roles = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/rbac/operator.yaml");
        server.kubectl(&["apply", "--server-side", "-f", roles], "");
        let folder = tempfile::tempdir().unwrap();
        let cluster = Self { server, client, folder };
        std::fs::write(cluster.kubeconfig_path(), cluster.kubeconfig()).unwrap();
        Some(cluster)
    }

    /// The operator's kubeconfig: it has the rights of the role as it is installed.
    pub fn kubeconfig(&self) -> String {
        self.server.kubeconfig_as(OPERATOR)
    }

    fn kubeconfig_path(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Applies our definitions as they are installed.
    pub fn define(&self) {
        for name in ["mcpservers", "mcpaccessgrants", "mcpagentsessions"] {
            let file = format!("{}/../config/crd/mcpruntime.org_{name}.yaml", env!("CARGO_MANIFEST_DIR"));
            self.server.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file], "");
            let crd = format!("crd/{name}.mcpruntime.org");
            self.server.kubectl(&["wait", "--for=condition=Established", &crd], "");
        }
    }

    /// Defines our kinds so that everything is stored, as if by a version that knew no rules.
    pub fn define_without_rules(&self) {
        for kind in ["MCPServer", "MCPAccessGrant", "MCPAgentSession"] {
            let plural = format!("{}s", kind.to_lowercase());
            let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
            let schema = json!({ "type": "object", "properties": { "spec": anything, "status": anything } });
            let version = json!({ "name": "v1alpha1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": schema }, "subresources": { "status": {} } });
            let crd = json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": { "name": format!("{plural}.mcpruntime.org") },
                "spec": { "group": "mcpruntime.org", "scope": "Namespaced", "versions": [version],
                          "names": { "kind": kind, "plural": plural, "singular": kind.to_lowercase() } },
            });
            self.server.kubectl(&["apply", "--server-side", "-f", "-"], &crd.to_string());
            let crd = format!("crd/{plural}.mcpruntime.org");
            self.server.kubectl(&["wait", "--for=condition=Established", &crd], "");
        }
    }

    /// Stores an object, whatever fields it has; whether the API server took it.
    pub async fn store(&self, kind: Kind, object: &Value) -> bool {
        let (group, plural) = (sallyport_api::API_VERSION, kind.plural());
        let path = format!("/apis/{group}/namespaces/{NAMESPACE}/{plural}?fieldValidation=Ignore");
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(serde_json::to_vec(object).unwrap()).unwrap();
        let Err(error) = self.client.request::<Value>(request).await else { return true };
        let is_refused =
            matches!(&error, kube::Error::Api(status) if [400, 409, 413, 422].contains(&status.code));
        assert!(is_refused, "{error}");
        false
    }

    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        self.api_in(NAMESPACE, kind)
    }

    pub fn api_in(&self, namespace: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: "mcpruntime.org".into(),
            version: "v1alpha1".into(),
            api_version: "mcpruntime.org/v1alpha1".into(),
            kind: kind.into(),
            plural: format!("{}s", kind.to_lowercase()),
        };
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    pub async fn make(&self, kind: &str, name: &str, spec: Value) {
        self.make_in(NAMESPACE, kind, name, spec).await;
    }

    pub async fn make_in(&self, namespace: &str, kind: &str, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "mcpruntime.org/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.api_in(namespace, kind).create(&PostParams::default(), &object).await.unwrap();
    }

    pub async fn server(&self, name: &str) {
        self.make("MCPServer", name, json!({ "image": "i", "gateway": { "enabled": true } })).await;
    }

    pub async fn session(&self, name: &str, server: &str) {
        let spec = json!({ "serverRef": { "name": server }, "subject": { "humanID": "h" } });
        self.make("MCPAgentSession", name, spec).await;
    }

    pub async fn revoke(&self, session: &str) {
        self.change("MCPAgentSession", session, json!({ "revoked": true })).await;
    }

    /// Changes fields of an object's spec.
    pub async fn change(&self, kind: &str, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.api(kind).patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// The phase that an object's status tells; empty: it has none yet.
    pub async fn phase(&self, namespace: &str, kind: &str, name: &str) -> String {
        let object = self.api_in(namespace, kind).get(name).await.unwrap();
        text(&object.data["status"]["phase"])
    }

    pub async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// A pod of a server, and the token that the kubelet would give it.
    pub async fn pod_token(&self, server: &str, pod: &str) -> String {
        let account = format!("mcp-workload-{server}");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        if accounts.get_opt(&account).await.unwrap().is_none() {
            let object = serde_json::from_value(json!({ "metadata": { "name": account } })).unwrap();
            // The operator makes it as well.
            let _ = accounts.create(&PostParams::default(), &object).await;
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let object = json!({
            "metadata": { "name": pod },
            "spec": { "serviceAccountName": account, "containers": [{ "name": "c", "image": "i" }] },
        });
        let made =
            pods.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
        let bound = BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(pod.into()),
            uid: made.uid(),
        };
        let spec = TokenRequestSpec {
            audiences: vec!["sallyport".into()],
            bound_object_ref: Some(bound),
            expiration_seconds: Some(3600),
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(&account, &PostParams::default(), &request).await.unwrap();
        answer.status.unwrap().token
    }
}

/// A running operator, until it is dropped.
pub struct Operator {
    folder: tempfile::TempDir,
    pub xds: SocketAddr,
    pub admin: SocketAddr,
    shutdown: CancellationToken,
    ended: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Operator {
    /// Starts one on the cluster of a kubeconfig.
    pub fn start(kubeconfig: &Path, name: &str, more: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        tls::make_self_signed(folder.path()).unwrap();
        let (xds, admin) = (free_address(), free_address());
        let flags = [
            ("kubeconfig", kubeconfig.display().to_string()),
            ("listen", xds.to_string()),
            ("admin", admin.to_string()),
            ("webhook", free_address().to_string()),
            ("tls-dir", folder.path().display().to_string()),
            ("namespace", INSTALLED.into()),
            ("pod-name", name.into()),
        ];
        // Proxies of most tests are one filter each.
        let filters = more.iter().all(|flag| !flag.starts_with("--gateway-filters"));
        let flags = flags.into_iter().chain(filters.then(|| ("gateway-filters", "1".into())));
        let flags = flags.map(|(name, value)| format!("--{name}={value}"));
        let given = ["operator".to_string(), "--kubernetes".into()].into_iter().chain(flags);
        let command = Args::augment_args(clap::Command::new("operator"));
        let matches = command.try_get_matches_from(given.chain(more.iter().cloned())).unwrap();
        let args = Args::from_arg_matches(&matches).unwrap();
        let shutdown = CancellationToken::new();
        let ended = Some(tokio::spawn(sallyport_operator::run(args, shutdown.clone())));
        Self { folder, xds, admin, shutdown, ended }
    }

    /// Starts one on `cluster`, and waits until it serves.
    pub async fn ready(cluster: &Cluster, name: &str, more: &[String]) -> Self {
        let operator = Self::start(&cluster.kubeconfig_path(), name, more);
        until("the operator is ready", async || operator.is_ready().await).await;
        operator
    }

    pub async fn is_ready(&self) -> bool {
        reqwest::get(format!("http://{}/readyz", self.admin)).await.is_ok_and(|a| a.status().is_success())
    }

    /// Ends it as a signal does, and waits until it is gone.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        self.ended.take().unwrap().await.unwrap().unwrap();
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = reqwest::get(format!("http://{}/v1/{path}", self.admin)).await.unwrap();
        answer.json().await.unwrap()
    }

    /// Reasons of the problems of an object, as `MCPServer/name`.
    pub async fn problems(&self, object: &str) -> Vec<String> {
        let problems = self.get("problems").await;
        let all = problems["objects"].as_array().unwrap().iter();
        let is_meant =
            |problem: &&Value| object == format!("{}/{}", text(&problem["kind"]), text(&problem["name"]));
        all.filter(is_meant).map(|problem| text(&problem["reason"])).collect()
    }

    pub async fn metric(&self, name: &str) -> Option<f64> {
        let answer = reqwest::get(format!("http://{}/metrics", self.admin)).await.ok()?;
        let metrics = answer.text().await.ok()?;
        let line = metrics
            .lines()
            .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The sum of all figures of a name that have these labels, each as `label="value"`; 0 where there is none.
    pub async fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = reqwest::get(format!("http://{}/metrics", self.admin)).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        let is_meant = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        metrics.lines().filter(is_meant).map(value).sum()
    }

    pub async fn leads(&self) -> bool {
        self.metric("sallyport_operator_leader").await == Some(1.0)
    }

    /// A filter's stream that has taken all there is.
    pub async fn filter(&self, token: &str, node: &str) -> Filter {
        let mut filter = Filter::connect(self.folder.path(), self.xds, Some(token)).await.unwrap();
        filter.subscribe(node);
        filter.synchronise().await;
        filter
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().into()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().into()
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Names in the next response that tells anything but a baseline: `+set`, `-removed`.
pub async fn told(filter: &mut Filter) -> Vec<String> {
    let response = filter.next_within(LIMIT).await;
    filter.acknowledge(&response);
    let set = response.resources.iter().map(|resource| format!("+{}", resource.name));
    set.chain(response.removed_resources.iter().map(|name| format!("-{name}"))).collect()
}

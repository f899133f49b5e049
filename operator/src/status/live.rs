//! Statuses as a real API server gets them, from the whole operator, which has the rights of its role and no more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::FromArgMatches;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use sallyport_api::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};
use sallyport_runtime::tls;
use sallyport_test_support::ApiServer;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::Args;

const LIMIT: Duration = Duration::from_secs(180);
const NAMESPACE: &str = "live";
/// Namespace of the operator.
const INSTALLED: &str = "sallyport-system";
/// As whom it acts.
const OPERATOR: &str = "system:serviceaccount:sallyport-system:sallyport-operator";

struct Live {
    server: ApiServer,
    /// The administrator's.
    client: Client,
    folder: tempfile::TempDir,
}

/// An operator, until it is dropped.
struct Operator {
    shutdown: CancellationToken,
    ended: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Operator {
    async fn stop(self) {
        self.shutdown.cancel();
        self.ended.await.unwrap().unwrap();
    }
}

impl Live {
    /// None where there is no API server to be had.
    async fn start() -> Option<Self> {
        let server = ApiServer::start()?;
        for name in ["mcpservers", "mcpaccessgrants", "mcpagentsessions"] {
            let file = format!("{}/../config/crd/mcpruntime.org_{name}.yaml", env!("CARGO_MANIFEST_DIR"));
            server.kubectl(&["apply", "--server-side", "-f", &file], "");
            let crd = format!("crd/{name}.mcpruntime.org");
            server.kubectl(&["wait", "--for=condition=Established", &crd], "");
        }
        let client = client(&server.kubeconfig()).await;
        let folder = tempfile::tempdir().unwrap();
        tls::make_self_signed(folder.path()).unwrap();
        let this = Self { server, client, folder };
        let namespaces: Api<Namespace> = Api::all(this.client.clone());
        for name in [NAMESPACE, INSTALLED] {
            let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        }
        let roles = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/rbac/operator.yaml");
        this.server.kubectl(&["apply", "--server-side", "-f", roles], "");
        Some(this)
    }

    async fn operator(&self, more: &[&str]) -> Operator {
        let tls_dir = format!("--tls-dir={}", self.folder.path().display());
        let ours = [
            "operator",
            "--kubernetes",
            "--listen=127.0.0.1:0",
            "--admin=127.0.0.1:0",
            "--webhook=127.0.0.1:0",
            "--gateway-filters=1",
            &tls_dir,
        ];
        let command = <Args as clap::Args>::augment_args(clap::Command::new("operator"));
        let namespace = format!("--namespace={INSTALLED}");
        let flags = ours.iter().chain(more).copied().chain([namespace.as_str()]);
        let args = Args::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap();
        let shutdown = CancellationToken::new();
        let client = client(&self.server.kubeconfig_as(OPERATOR)).await;
        let ended = tokio::spawn(crate::kubernetes::run_on(client, args, shutdown.clone()));
        Operator { shutdown, ended }
    }

    fn ours<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    async fn make_server(&self, name: &str, gateway: bool) {
        let server = json!({
            "apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPServer", "metadata": {"name": name},
            "spec": {"image": "i", "gateway": {"enabled": gateway}},
        });
        let server: MCPServer = serde_json::from_value(server).unwrap();
        self.ours().create(&PostParams::default(), &server).await.unwrap();
    }

    async fn make_session(&self, name: &str, server: &str) {
        let session = json!({
            "apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPAgentSession", "metadata": {"name": name},
            "spec": {"serverRef": {"name": server}, "subject": {"humanID": "h"}},
        });
        let session: MCPAgentSession = serde_json::from_value(session).unwrap();
        self.ours().create(&PostParams::default(), &session).await.unwrap();
    }

    async fn patch_session(&self, name: &str, spec: Value) {
        let patch = json!({"spec": spec});
        let sessions: Api<MCPAgentSession> = self.ours();
        sessions.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Waits until a session has this phase; how long that took.
    async fn phase(&self, name: &str, phase: &str) -> Duration {
        let began = Instant::now();
        let sessions: Api<MCPAgentSession> = self.ours();
        loop {
            let status = sessions.get(name).await.unwrap().status.unwrap_or_default();
            if status.phase == phase {
                return began.elapsed();
            }
            assert!(began.elapsed() < LIMIT, "{name} is {status:?}, not {phase}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Reasons of events by object, as they were told.
    async fn events(&self) -> Vec<String> {
        let events: Api<Event> = self.ours();
        let all = events.list(&ListParams::default()).await.unwrap();
        let mut told: Vec<String> = all
            .iter()
            .map(|event| {
                let about = event.regarding.as_ref().and_then(|about| about.name.clone()).unwrap_or_default();
                format!("{about} {}", event.reason.clone().unwrap_or_default())
            })
            .collect();
        told.sort();
        told
    }

    /// Requests that changed something, as the API server counts them; a Lease's renewal is none.
    async fn writes(&self) -> Vec<String> {
        let verbs = ["APPLY", "PATCH", "POST", "PUT", "DELETE", "DELETECOLLECTION"];
        self.requests(|line| {
            verbs.iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
                && !line.contains("resource=\"leases\"")
                && !line.contains("resource=\"subjectaccessreviews\"")
        })
        .await
    }

    /// Requests of these kinds, as the API server counts them.
    async fn requests(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let request = axum::http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = self.client.request_text(request).await.unwrap();
        let all = text.lines().filter(|line| line.starts_with("apiserver_request_total{"));
        all.filter(|line| is_meant(line)).map(ToString::to_string).collect()
    }

    /// The role suffices: nothing was refused, and the operator's own Secrets are there.
    async fn assert_role_suffices(&self) {
        let refused = self.requests(|line| line.contains("code=\"403\"")).await;
        assert!(refused.is_empty(), "{refused:#?}");
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), INSTALLED);
        let names: Vec<String> =
            secrets.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect();
        assert_eq!(
            names,
            ["sallyport-ca", "sallyport-digest-key", "sallyport-ingest-tls", "sallyport-operator-tls"]
        );
    }
}

async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Past, and within the retention.
fn an_hour_ago() -> String {
    let hour = k8s_openapi::jiff::SignedDuration::from_hours(1);
    (k8s_openapi::jiff::Timestamp::now() - hour).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_appear_events_come_once_and_a_settled_cluster_sees_no_write() {
    let Some(live) = Live::start().await else { return };
    live.make_server("pay", true).await;
    live.make_server("open", false).await;
    live.make_session("s", "pay").await;
    live.make_session("lost", "nowhere").await;
    let operator = live.operator(&[]).await;
    live.phase("s", "Pending").await;
    live.phase("lost", "Rejected").await;
    live.patch_session("s", json!({"revoked": true})).await;
    live.phase("s", "Revoked").await;
    live.patch_session("s", json!({"revoked": false, "expiresAt": an_hour_ago()})).await;
    live.phase("s", "Expired").await;
    let servers: Api<MCPServer> = live.ours();
    let status = servers.get("pay").await.unwrap().status.unwrap();
    assert_eq!((status.enforced.as_str(), status.observed_generation), ("0/0", Some(1)));
    assert_eq!(status.selector, "mcpruntime.org/server=pay");
    let told = ["open DirectMode", "s Revoked", "s Unrevoked"];
    assert_eq!(live.events().await, told);
    // The same operator, and then another one in its place, find nothing to write.
    let settled = live.writes().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(live.writes().await, settled);
    operator.stop().await;
    let operator = live.operator(&[]).await;
    live.make_session("new", "pay").await;
    live.phase("new", "Pending").await;
    let settled = live.writes().await;
    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(live.writes().await, settled);
    assert_eq!(live.events().await, told);
    live.assert_role_suffices().await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_is_not_kept_waiting_by_five_thousand_sessions() {
    let Some(live) = Live::start().await else { return };
    let live = Arc::new(live);
    live.make_server("pay", true).await;
    let made = futures::stream::iter(0..5000).for_each_concurrent(32, |number| {
        let live = live.clone();
        async move { live.make_session(&format!("s{number}"), "pay").await }
    });
    made.await;
    let operator = live.operator(&["--status-writes-per-second=50"]).await;
    live.phase("s0", "Pending").await;
    live.patch_session("s4999", json!({"revoked": true})).await;
    let took = live.phase("s4999", "Revoked").await;
    let sessions: Api<MCPAgentSession> = live.ours();
    let all = sessions.list(&ListParams::default()).await.unwrap();
    let waiting = all.iter().filter(|session| session.status.is_none()).count();
    assert!(waiting > 3000, "{waiting} wait: too few to be kept waiting by");
    assert!(took < Duration::from_secs(3), "{took:?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_past_its_retention_is_deleted_and_no_other() {
    let Some(live) = Live::start().await else { return };
    live.make_server("pay", true).await;
    for name in ["over", "ended", "endless"] {
        live.make_session(name, "pay").await;
    }
    live.patch_session("over", json!({"expiresAt": "2020-01-01T00:00:00Z"})).await;
    live.patch_session("ended", json!({"expiresAt": an_hour_ago()})).await;
    let operator = live.operator(&["--session-retention=2h"]).await;
    let sessions: Api<MCPAgentSession> = live.ours();
    let began = Instant::now();
    while sessions.get_opt("over").await.unwrap().is_some() {
        assert!(began.elapsed() < LIMIT * 2, "it is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    live.phase("ended", "Expired").await;
    let left = sessions.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["ended", "endless"]);
    let grants: Api<MCPAccessGrant> = live.ours();
    assert!(grants.list(&ListParams::default()).await.unwrap().items.is_empty());
    live.assert_role_suffices().await;
    operator.stop().await;
    drop(live.server);
}

/// What people type.
#[tokio::test(flavor = "multi_thread")]
async fn kubectl_has_names_columns_words_and_a_scale_for_our_kinds() {
    let Some(live) = Live::start().await else { return };
    live.make_server("pay", true).await;
    live.make_session("s", "pay").await;
    let grant = json!({
        "apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPAccessGrant", "metadata": {"name": "g"},
        "spec": {"serverRef": {"name": "pay"}, "subject": {"humanID": "h"}},
    });
    let grant: MCPAccessGrant = serde_json::from_value(grant).unwrap();
    live.ours().create(&PostParams::default(), &grant).await.unwrap();
    let kubectl = |arguments: &[&str]| live.server.kubectl(&[&["-n", NAMESPACE], arguments].concat(), "");
    for (short, columns) in [
        ("mcps", "NAME TEAM PHASE POLICY GATEWAY READY ENFORCED REASON AGE"),
        ("mcpgrant", "NAME SERVER HUMAN AGENT TEAM TRUST DISABLED ENFORCED REASON AGE"),
        ("mcpsession", "NAME SERVER HUMAN AGENT TEAM TRUST REVOKED EXPIRES ENFORCED REASON AGE"),
    ] {
        let table = kubectl(&["get", short]);
        let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(header.join(" "), columns, "{short}");
    }
    let all = kubectl(&["get", "mcp", "-o", "name"]);
    let mut all: Vec<&str> = all.lines().collect();
    all.sort_unstable();
    let group = [
        "mcpaccessgrant.mcpruntime.org/g",
        "mcpagentsession.mcpruntime.org/s",
        "mcpserver.mcpruntime.org/pay",
    ];
    assert_eq!(all, group);
    // The API server publishes the words a moment after the definition counts.
    let began = Instant::now();
    loop {
        let told = live.server.try_kubectl(&["explain", "mcpserver.spec.gateway"], "").unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        if ["The gateway before the server.", "Calls pass the gateway and are governed."]
            .iter()
            .all(|w| told.contains(w))
        {
            break;
        }
        assert!(began.elapsed() < LIMIT, "{told}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let operator = live.operator(&[]).await;
    let deployments: Api<Deployment> = live.ours();
    let replicas = async |wanted: i32| {
        let began = Instant::now();
        while deployments.get_opt("pay").await.unwrap().and_then(|d| d.spec?.replicas) != Some(wanted) {
            assert!(began.elapsed() < LIMIT, "the Deployment has not {wanted} replicas");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    replicas(1).await;
    kubectl(&["scale", "mcps/pay", "--replicas=3"]);
    assert_eq!(kubectl(&["get", "mcps/pay", "-o", "jsonpath={.spec.replicas}"]), "3");
    replicas(3).await;
    operator.stop().await;
}

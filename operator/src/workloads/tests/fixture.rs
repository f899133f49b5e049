//! A namespace of an API server, and the work on its servers.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config, Resource};
use prometheus_client::registry::Registry;
use sallyport_api::v1alpha1::MCPServer;
use sallyport_api::{Kind, Object, crds};
use sallyport_operator_index::Index;
use sallyport_policy::ObjectId;
use sallyport_test_support::ApiServer;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower::util::MapRequestLayer;

use crate::lock::lock;
use crate::render::{ChildKind, GatewayFiles, Settings};
use crate::workloads::report::Report;
use crate::workloads::{Reports, Shop, WorkloadMetrics, run};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// As whom the operator acts.
const OPERATOR: &str = "system:serviceaccount:sallyport-system:sallyport-operator";

/// All tests share it; it ends with the process.
static SERVER: OnceLock<Option<ApiServer>> = OnceLock::new();
/// What every test needs of it, once.
static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// A namespace of its own, and the work on the servers in it.
pub(super) struct Fixture {
    /// As administrator.
    pub(super) admin: Client,
    pub(super) namespace: String,
    /// Requests of the operator that are no reads.
    pub(super) writes: Arc<AtomicUsize>,
    /// Called whenever a report changes.
    changed: watch::Receiver<u64>,
    reports: Reports,
    index: Arc<Mutex<Index>>,
    news: mpsc::UnboundedSender<ObjectId>,
    leads: watch::Sender<bool>,
    settings: watch::Sender<Arc<Settings>>,
    shutdown: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        gateway_image: "sallyport-envoy:0.1.0".into(),
        gateway_files: GatewayFiles { bootstrap: "admin: {}\n".into(), ..GatewayFiles::default() },
        ..Settings::default()
    }
}

impl Fixture {
    /// None: there is no API server to be had here.
    pub(super) async fn new() -> Option<Self> {
        let config = config().await?;
        let admin = Client::try_from(config.clone()).unwrap();
        INSTALLED.get_or_init(|| install(&admin)).await;
        let name = format!("workloads-{:08x}", rand::random::<u32>());
        let namespace: Namespace = from(json!({ "metadata": { "name": name } }));
        Api::<Namespace>::all(admin.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let writes = Arc::new(AtomicUsize::new(0));
        let operator = operator(config, writes.clone());
        let (news, told) = mpsc::unbounded_channel::<ObjectId>();
        let (leads, leading) = watch::channel(true);
        let (settings, set) = watch::channel(Arc::new(settings()));
        let (ring, changed) = watch::channel(0);
        let index = Arc::new(Mutex::new(Index::new(sallyport_resolve::Settings::default())));
        let reports = Reports::new(move |_| ring.send_modify(|rings| *rings += 1));
        let shutdown = CancellationToken::new();
        let news_of_servers = futures::stream::unfold(told, |mut told| async {
            let id = told.recv().await?;
            Some((BTreeSet::from([id]), told))
        });
        let shop = Shop {
            client: operator,
            index: index.clone(),
            news: news_of_servers.boxed(),
            leads: leading,
            settings: set,
            reports: reports.clone(),
            metrics: WorkloadMetrics::register(&mut Registry::default()),
        };
        tokio::spawn(run(shop, shutdown.clone()));
        Some(Self {
            admin,
            namespace: name,
            writes,
            changed,
            reports,
            index,
            news,
            leads,
            settings,
            shutdown,
        })
    }

    pub(super) fn id(&self, name: &str) -> ObjectId {
        ObjectId::new(self.namespace.as_str(), name)
    }

    /// Creates a server, or changes it: as it is given, and as the API server completes it.
    pub(super) async fn server(&self, name: &str, spec: Value) -> MCPServer {
        let server = json!({
            "apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPServer", "metadata": { "name": name }, "spec": spec,
        });
        let parameters = PatchParams::apply("developer").force();
        let server = self.api::<MCPServer>().patch(name, &parameters, &Patch::Apply(&server)).await.unwrap();
        self.tell(server.clone());
        server
    }

    /// Annotates a server; an annotation of null goes.
    pub(super) async fn annotate(&self, name: &str, annotations: Value) {
        let patch = json!({ "metadata": { "annotations": annotations } });
        let server = self
            .api::<MCPServer>()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
        self.tell(server);
    }

    fn tell(&self, server: MCPServer) {
        let id = self.id(server.metadata.name.as_deref().unwrap());
        lock(&self.index).upsert(Object::Server(Box::new(server)), None);
        self.news.send(id).unwrap();
    }

    /// A server is gone. Nobody but us collects what it leaves here.
    pub(super) fn gone(&self, name: &str) {
        lock(&self.index).remove(&(Kind::Server, self.id(name)));
        self.news.send(self.id(name)).unwrap();
    }

    pub(super) fn lead(&self, leads: bool) {
        self.leads.send_replace(leads);
    }

    pub(super) fn set(&self, settings: Settings) {
        self.settings.send_replace(Arc::new(settings));
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    fn objects(&self, kind: ChildKind) -> Api<DynamicObject> {
        Api::namespaced_with(self.admin.clone(), &self.namespace, &kind.resource())
    }

    /// An object as it is.
    pub(super) async fn get(&self, kind: ChildKind, name: &str) -> Option<Value> {
        let found = self.objects(kind).get_opt(name).await.unwrap();
        found.map(|found| serde_json::to_value(found).unwrap())
    }

    pub(super) async fn patch(&self, kind: ChildKind, name: &str, patch: Value) {
        self.objects(kind).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(super) async fn delete(&self, kind: ChildKind, name: &str) {
        self.objects(kind).delete(name, &DeleteParams::background()).await.unwrap();
    }

    /// The names of all objects of a kind that are ours.
    pub(super) async fn names(&self, kind: ChildKind) -> BTreeSet<String> {
        let ours = kube::api::ListParams::default().labels("app.kubernetes.io/managed-by=sallyport");
        let list = self.objects(kind).list(&ours).await.unwrap();
        list.into_iter().filter_map(|object| object.metadata.name).collect()
    }

    /// Waits until an object is as it shall be.
    pub(super) async fn until(
        &self,
        kind: ChildKind,
        name: &str,
        is: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        let mut last = None;
        let looking = async {
            loop {
                last = self.get(kind, name).await;
                if is(last.as_ref()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, looking).await.is_ok();
        assert!(in_time, "{kind:?} {name}: {last:#?}\n{:#?}", self.report(name));
        last
    }

    pub(super) async fn until_there(&self, kind: ChildKind, name: &str) -> Value {
        self.until(kind, name, |found| found.is_some()).await.unwrap()
    }

    pub(super) async fn until_gone(&self, kind: ChildKind, name: &str) {
        self.until(kind, name, |found| found.is_none()).await;
    }

    /// Waits until a field of an object has a value.
    pub(super) async fn until_has(
        &self,
        kind: ChildKind,
        name: &str,
        pointer: &str,
        value: impl Into<Value>,
    ) -> Value {
        let value = value.into();
        let has = |found: Option<&Value>| found.and_then(|found| found.pointer(pointer)) == Some(&value);
        self.until(kind, name, has).await.unwrap()
    }

    pub(super) fn report(&self, name: &str) -> Option<Arc<Report>> {
        self.reports.of(&self.id(name))
    }

    /// Waits until a report is as it shall be.
    pub(super) async fn until_told(&self, name: &str, is: impl Fn(&Report) -> bool) -> Arc<Report> {
        let mut changed = self.changed.clone();
        let looking = async {
            loop {
                changed.borrow_and_update();
                if let Some(report) = self.report(name).filter(|report| is(report)) {
                    return report;
                }
                changed.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(PATIENCE, looking).await {
            Ok(report) => report,
            Err(_) => panic!("{name}: {:#?}", self.report(name)),
        }
    }

    /// Waits until another server was made from nothing: by then all that came before was done.
    pub(super) async fn settle(&self) -> usize {
        let name = format!("settled-{:08x}", rand::random::<u32>());
        self.server(&name, json!({ "image": "a:1" })).await;
        self.until_told(&name, |report| report.rollout.is_some() && report.workload.service == Some(true))
            .await;
        self.until_there(ChildKind::Ingress, &name).await;
        self.writes.load(Ordering::SeqCst)
    }
}

/// Writes that one server in direct mode needs.
pub(super) const WRITES_OF_A_SERVER: usize = 6;

/// The administrator's.
async fn config() -> Option<Config> {
    let server = SERVER.get_or_init(ApiServer::start).as_ref()?;
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig_path()).unwrap();
    Some(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap())
}

/// The operator's client: under its role, and counted.
fn operator(mut config: Config, writes: Arc<AtomicUsize>) -> Client {
    config.auth_info.impersonate = Some(OPERATOR.into());
    let count = MapRequestLayer::new(move |request: axum::http::Request<kube::client::Body>| {
        if request.method() != axum::http::Method::GET {
            writes.fetch_add(1, Ordering::SeqCst);
        }
        request
    });
    ClientBuilder::try_from(config).unwrap().with_layer(&count).build()
}

/// The definitions, and the operator's roles as they are installed.
async fn install(admin: &Client) {
    let parameters = PatchParams::apply("install").force();
    let definitions = Api::<CustomResourceDefinition>::all(admin.clone());
    for definition in crds() {
        let name = definition.metadata.name.clone().unwrap();
        definitions.patch(&name, &parameters, &Patch::Apply(&definition)).await.unwrap();
        let established = kube::runtime::wait::conditions::is_crd_established();
        let wait = kube::runtime::wait::await_condition(definitions.clone(), &name, established);
        tokio::time::timeout(PATIENCE, wait).await.expect("in time").unwrap();
    }
    let namespace: Namespace = from(json!({ "metadata": { "name": "sallyport-system" } }));
    // It may be there from before.
    let _ = Api::<Namespace>::all(admin.clone()).create(&PostParams::default(), &namespace).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/rbac/operator.yaml");
    let manifests = std::fs::read_to_string(folder).unwrap();
    for manifest in manifests.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(manifest).unwrap();
        apply(admin, &object).await;
    }
}

/// Applies an object of RBAC, or a ServiceAccount.
pub(super) async fn apply(admin: &Client, object: &Value) {
    let text =
        |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_string();
    let version = text("/apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &text("/kind")));
    let namespace = text("/metadata/namespace");
    let api: Api<DynamicObject> = match namespace.as_str() {
        "" => Api::all_with(admin.clone(), &resource),
        namespace => Api::namespaced_with(admin.clone(), namespace, &resource),
    };
    let parameters = PatchParams::apply("install").force();
    api.patch(&text("/metadata/name"), &parameters, &Patch::Apply(object)).await.unwrap();
}

pub(super) fn from<K: DeserializeOwned + Debug>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

/// The image that a Deployment's server runs.
pub(super) fn image(deployment: &Value) -> &str {
    deployment.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default()
}

/// Sets replicas as an autoscaler does.
pub(super) async fn scale(fixture: &Fixture, name: &str, replicas: i32) {
    let patch = json!({ "spec": { "replicas": replicas } });
    let parameters = PatchParams { field_manager: Some("autoscaler".into()), ..PatchParams::default() };
    fixture.api::<Deployment>().patch_scale(name, &parameters, &Patch::Merge(&patch)).await.unwrap();
}

//! An API server that all tests share, each in a namespace of its own that only its own webhook judges.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::http::Request;
use k8s_openapi::api::authentication::v1::UserInfo;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, Status};
use kube::{Client, Config};
use sallyport_api::Kind;
use sallyport_api::manifest::{load_json, parse_yaml};
use sallyport_operator::admission::{Answer, Ask, KubeAsk, Question, Webhook, serve};
use sallyport_operator::render::Settings;
use sallyport_operator_index::Index;
use sallyport_runtime::tls::{Authority, Served};
use sallyport_test_support::ApiServer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// As whom the webhook asks.
const OPERATOR: &str = "system:serviceaccount:sallyport-system:sallyport-operator";
const CONFIGURATION: &str = include_str!("../../../config/webhook/validating.yaml");

fn shared() -> Option<&'static ApiServer> {
    static SHARED: OnceLock<Option<ApiServer>> = OnceLock::new();
    SHARED
        .get_or_init(|| {
            let server = ApiServer::start()?;
            for name in ["mcpservers", "mcpaccessgrants", "mcpagentsessions"] {
                let file = format!("{}/../config/crd/mcpruntime.org_{name}.yaml", env!("CARGO_MANIFEST_DIR"));
                server.kubectl(&["apply", "--server-side", "-f", &file], "");
                server.kubectl(
                    &["wait", "--for=condition=Established", &format!("crd/{name}.mcpruntime.org")],
                    "",
                );
            }
            server.kubectl(&["create", "namespace", "sallyport-system"], "");
            let roles = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/rbac/operator.yaml");
            server.kubectl(&["apply", "--server-side", "-f", roles], "");
            Some(server)
        })
        .as_ref()
}

/// A namespace whose tenant may write our kinds, and no more, and which a webhook judges.
pub(crate) struct Tenancy {
    server: &'static ApiServer,
    pub(crate) namespace: String,
    index: Arc<Mutex<Index>>,
    pub(crate) admin: User,
    pub(crate) tenant: User,
    serving: tokio::task::JoinHandle<()>,
    end: CancellationToken,
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Tenancy {
    /// Starts one; none where there is no API server to be had.
    pub(crate) async fn start(namespace: &str) -> Option<Self> {
        Self::with(namespace, false).await
    }

    pub(crate) async fn with(namespace: &str, require_gateway: bool) -> Option<Self> {
        Some(Self::unjudged(namespace).await?.judged(require_gateway).await)
    }

    /// One without a webhook.
    pub(crate) async fn unjudged(namespace: &str) -> Option<Self> {
        let server = shared()?;
        let admin = User::new(server, None).await;
        let name = format!("tenant-of-{namespace}");
        let labels = json!({ "judged": namespace });
        admin
            .make("v1", "Namespace", "", json!({ "metadata": { "name": namespace, "labels": labels } }))
            .await
            .unwrap();
        let rules = json!([
            { "apiGroups": ["mcpruntime.org"], "resources": ["*"], "verbs": ["get", "list", "create", "update", "patch", "delete", "deletecollection"] },
            { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"] },
        ]);
        let tenancy = Self {
            index: Arc::default(),
            tenant: User::new(server, Some(&name)).await,
            serving: tokio::spawn(async {}),
            end: CancellationToken::new(),
            namespace: namespace.into(),
            admin,
            server,
        };
        tenancy.grant_role("tenant", rules).await;
        Some(tenancy)
    }

    async fn judged(mut self, require_gateway: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let now = std::time::SystemTime::now();
        let authority = Authority::make("test", now, Duration::from_secs(3600)).unwrap();
        let served = Arc::new(Served::default());
        let names = ["127.0.0.1".to_string()];
        served.replace(&authority.issue(&names, now, Duration::from_secs(3600)).unwrap()).unwrap();
        let config = served.config(&[]).unwrap();
        let ask = KubeAsk::new(User::new(self.server, Some(OPERATOR)).await.client);
        let settings = Settings { require_gateway, gateway_image: "gateway".into(), ..Settings::default() };
        let webhook = Webhook::new(self.index.clone(), Arc::new(ask), Arc::new(settings));
        let serving = serve(listener, config, webhook, self.end.clone().cancelled_owned());
        self.serving = tokio::spawn(async move { serving.await.unwrap() });
        self.configure(&format!("https://{address}"), &authority.certificate).await;
        self
    }

    /// Puts a webhook at `url` before the namespace, and waits until the API server asks it.
    async fn configure(&self, url: &str, authority: &str) {
        let mut configuration = parse_yaml(CONFIGURATION).unwrap();
        configuration["metadata"]["name"] = format!("sallyport-{}", self.namespace).into();
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap().to_string();
            webhook["clientConfig"] =
                json!({ "url": format!("{url}{path}"), "caBundle": encoded(authority) });
            webhook["namespaceSelector"] = json!({ "matchLabels": { "judged": self.namespace } });
        }
        let (version, kind) = ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration");
        self.admin.put(version, kind, "", configuration).await.unwrap();
        // Only the webhook asks for the right to name a Secret.
        let probe = json!({ "metadata": { "name": "probe" }, "spec": {
            "image": "registry.example.com/i", "gateway": { "enabled": true }, "secretEnvVars": [
                { "name": "A", "secretKeyRef": { "name": "probe", "key": "k" } }] } });
        let began = std::time::Instant::now();
        while self.tenant.try_make(&self.namespace, "MCPServer", probe.clone(), true).await.is_ok() {
            assert!(began.elapsed().as_secs() < 20, "the webhook is not asked");
            tokio::task::yield_now().await;
        }
    }

    /// The webhook is gone; its configuration stays.
    pub(crate) async fn take_down(&mut self) {
        self.end.cancel();
        (&mut self.serving).await.unwrap();
    }

    /// Gives the tenant a role of these rules.
    pub(crate) async fn grant_role(&self, name: &str, rules: Value) {
        let (api, ns) = ("rbac.authorization.k8s.io/v1", self.namespace.as_str());
        self.admin
            .make(api, "Role", ns, json!({ "metadata": { "name": name }, "rules": rules }))
            .await
            .unwrap();
        let binding = json!({
            "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": format!("tenant-of-{}", self.namespace) }],
        });
        self.admin.make(api, "RoleBinding", ns, binding).await.unwrap();
    }

    /// The administrator makes an object, which the webhook knows of from then on.
    pub(crate) async fn given(&self, kind: &str, name: &str, spec: Value) {
        let made = self.admin.create(&self.namespace, kind, name, spec).await.unwrap();
        self.learn(made);
    }

    pub(crate) fn learn(&self, made: Value) {
        self.index.lock().unwrap().upsert(load_json(made).unwrap(), None);
    }

    /// Runs kubectl as administrator: what it says beside its output.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.server.try_kubectl(arguments, "").unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kubectl {arguments:?}: {told}");
        told
    }

    pub(crate) async fn user(&self, name: &str) -> User {
        User::new(self.server, Some(name)).await
    }
}

struct Nobody;

#[async_trait::async_trait]
impl Ask for Nobody {
    async fn ask(&self, _: &UserInfo, _: &str, _: &Question) -> Answer {
        Answer::No
    }
}

/// A webhook whose requesters have no rights, and that knows of no objects.
pub(crate) fn lone_webhook() -> Webhook {
    Webhook::new(Arc::new(Mutex::new(Index::default())), Arc::new(Nobody), Arc::default())
}

fn encoded(text: &str) -> String {
    let data = k8s_openapi::ByteString(text.as_bytes().to_vec());
    serde_json::to_value(data).unwrap().as_str().unwrap().into()
}

/// Somebody who talks to the API server.
pub(crate) struct User {
    client: Client,
}

pub(crate) type Done = Result<Value, Box<Status>>;

impl User {
    async fn new(server: &ApiServer, name: Option<&str>) -> Self {
        let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        config.auth_info.impersonate = name.map(Into::into);
        Self { client: Client::try_from(config).unwrap() }
    }

    fn api(&self, version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
        let plural = match kind {
            "MCPServer" => "mcpservers".into(),
            "MCPAccessGrant" => "mcpaccessgrants".into(),
            "MCPAgentSession" => "mcpagentsessions".into(),
            kind => format!("{}s", kind.to_lowercase()),
        };
        let resource = ApiResource::from_gvk_with_plural(&gvk, &plural);
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    fn ours(&self, namespace: &str, kind: &str) -> Api<DynamicObject> {
        self.api("mcpruntime.org/v1alpha1", kind, namespace)
    }

    pub(crate) async fn make(&self, version: &str, kind: &str, namespace: &str, mut object: Value) -> Done {
        (object["apiVersion"], object["kind"]) = (version.into(), kind.into());
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        done(self.api(version, kind, namespace).create(&PostParams::default(), &object).await)
    }

    async fn put(&self, version: &str, kind: &str, namespace: &str, mut object: Value) -> Done {
        (object["apiVersion"], object["kind"]) = (version.into(), kind.into());
        let name = object["metadata"]["name"].as_str().unwrap().to_string();
        let patch = Patch::Apply(&object);
        done(
            self.api(version, kind, namespace)
                .patch(&name, &PatchParams::apply("test").force(), &patch)
                .await,
        )
    }

    pub(crate) async fn try_make(
        &self,
        namespace: &str,
        kind: &str,
        mut object: Value,
        dry_run: bool,
    ) -> Done {
        (object["apiVersion"], object["kind"]) = ("mcpruntime.org/v1alpha1".into(), kind.into());
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        done(
            self.ours(namespace, kind)
                .create(&PostParams { dry_run, ..PostParams::default() }, &object)
                .await,
        )
    }

    /// Puts another object in the place of one of ours, without keeping it.
    pub(crate) async fn replace(&self, namespace: &str, kind: &str, mut object: Value) -> Done {
        (object["apiVersion"], object["kind"]) = ("mcpruntime.org/v1alpha1".into(), kind.into());
        let name = object["metadata"]["name"].as_str().unwrap().to_string();
        let old = self.get(namespace, kind, &name).await.unwrap();
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let params = PostParams { dry_run: true, ..PostParams::default() };
        done(self.ours(namespace, kind).replace(&name, &params, &object).await)
    }

    /// Tries whether an object could be made. Of fields that it does not know the API server would tell in headers, one
    /// for each, which no client takes by the hundred; it is told not to.
    pub(crate) async fn probe(&self, namespace: &str, kind: Kind, object: &Value) -> Result<(), Box<Status>> {
        let (group, plural) = (sallyport_api::API_VERSION, kind.plural());
        let path = format!("/apis/{group}/namespaces/{namespace}/{plural}?dryRun=All&fieldValidation=Ignore");
        let request = Request::post(path).header("content-type", "application/json");
        match self.client.request::<Value>(request.body(serde_json::to_vec(object).unwrap()).unwrap()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(status),
            Err(error) => panic_at(&error),
        }
    }

    /// Makes an object of ours.
    pub(crate) async fn create(&self, namespace: &str, kind: &str, name: &str, spec: Value) -> Done {
        self.try_make(namespace, kind, json!({ "metadata": { "name": name }, "spec": spec }), false).await
    }

    /// Changes an object of ours.
    pub(crate) async fn patch(&self, namespace: &str, kind: &str, name: &str, patch: Value) -> Done {
        done(self.ours(namespace, kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    pub(crate) async fn delete(&self, namespace: &str, kind: &str, name: &str) -> Result<(), Box<Status>> {
        match self.ours(namespace, kind).delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => Err(status),
            Err(error) => panic_at(&error),
        }
    }

    pub(crate) async fn delete_any(&self, version: &str, kind: &str, namespace: &str, name: &str) {
        self.api(version, kind, namespace).delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn get(&self, namespace: &str, kind: &str, name: &str) -> Option<Value> {
        let found = self.ours(namespace, kind).get_opt(name).await.unwrap();
        found.map(|found| serde_json::to_value(found).unwrap())
    }
}

fn done(result: kube::Result<DynamicObject>) -> Done {
    match result {
        Ok(object) => Ok(serde_json::to_value(object).unwrap()),
        Err(kube::Error::Api(status)) => Err(status),
        Err(error) => panic_at(&error),
    }
}

#[expect(clippy::panic, reason = "a test cannot go on")]
fn panic_at(error: &kube::Error) -> ! {
    panic!("the API server does not answer: {error}")
}

/// A server's spec with more fields.
pub(crate) fn server(more: Value) -> Value {
    merged(json!({ "image": "registry.example.com/i", "gateway": { "enabled": true } }), more)
}

/// A grant's or session's spec with more fields.
pub(crate) fn access(more: Value) -> Value {
    merged(json!({ "serverRef": { "name": "payments" }, "subject": { "humanID": "user-123" } }), more)
}

fn merged(mut base: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}

/// The refusal's code, and the fields it is about.
pub(crate) fn fields(refused: Done) -> (u16, Vec<String>) {
    let status = refused.expect_err("refused");
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    (status.code, causes.into_iter().map(|cause| cause.field).collect())
}

impl User {
    /// Sets a server's replicas as an autoscaler does.
    pub(crate) async fn scale(&self, namespace: &str, name: &str, replicas: i32) {
        let patch = json!({ "spec": { "replicas": replicas } });
        let api = self.ours(namespace, "MCPServer");
        api.patch_scale(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

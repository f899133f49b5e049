//! Against a real API server, one for all of these.

use std::time::Duration;

use kube::api::DeleteParams;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use sallyport_test_support::ApiServer;
use serde_json::json;

use super::*;
use crate::tests::support::{ACCESS, SERVERS, World};

const ROLES: &str = include_str!("../../../config/rbac/audit.yaml");
const API_KEYS: &str = include_str!("../../../config/audit/api-keys.yaml");
const NAMESPACE: &str = include_str!("../../../config/base/namespace.yaml");
const PATIENCE: Duration = Duration::from_secs(20);

/// The API under the role that is installed, before an API server.
struct Cluster {
    server: ApiServer,
    world: World,
    client: kube::Client,
    _watching: tokio_util::sync::DropGuard,
}

async fn client(server: &ApiServer, user: Option<&str>) -> kube::Client {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = user.map(Into::into);
    config.default_namespace = "sallyport-system".into();
    kube::Client::try_from(config).unwrap()
}

impl Cluster {
    async fn start() -> Option<Self> {
        let server = ApiServer::start()?;
        for kind in sallyport_api::crds() {
            server.kubectl(&["apply", "-f", "-"], &serde_json::to_string(&kind).unwrap());
        }
        server.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"], "");
        for namespace in ["mcp-servers", "other"] {
            server.kubectl(&["create", "namespace", namespace], "");
        }
        for manifest in [NAMESPACE, ROLES, API_KEYS, SERVERS, ACCESS] {
            server.kubectl(&["apply", "-f", "-"], manifest);
        }
        let account = "system:serviceaccount:sallyport-system:sallyport-audit";
        let client = client(&server, Some(account)).await;
        let shutdown = CancellationToken::new();
        let resources = Kubernetes::start(client.clone(), &shutdown);
        let world = World::with_resources(Box::new(resources)).await;
        let cluster = Self { server, world, client, _watching: shutdown.drop_guard() };
        cluster.until(|cluster| async { cluster.world.get("/readyz").await.status == 200 }).await;
        Some(cluster)
    }

    async fn until<'c, F: Future<Output = bool>>(&'c self, condition: impl Fn(&'c Self) -> F) {
        let ask = async {
            while !condition(self).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ask).await.expect("did not come true");
    }

    /// What the API server has at `path` of an object.
    fn kept(&self, object: &str, path: &str) -> String {
        self.server.kubectl(&["-n", "mcp-servers", "get", object, "-o", &format!("jsonpath={path}")], "")
    }
}

fn session(name: &str, trust: &str) -> Value {
    json!({
        "name": name, "namespace": "mcp-servers", "serverRef": { "name": "payments" },
        "subject": { "humanID": "user-123", "agentID": "ops-agent" }, "consentedTrust": trust,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_is_read_and_written() {
    let Some(cluster) = Cluster::start().await else { return };
    objects_are_made_and_changed(&cluster).await;
    switches_are_thrown_and_stay(&cluster).await;
    what_the_server_refuses_is_told(&cluster).await;
    what_others_do_arrives(&cluster).await;
    a_key_is_made_once(&cluster).await;
}

async fn objects_are_made_and_changed(cluster: &Cluster) {
    let world = &cluster.world;
    let made = world.post("/api/v1/runtime/sessions", session("sess-new", "low")).await;
    assert_eq!((made.status.as_u16(), made.at("/change")), (201, &json!("created")), "{}", made.body);
    assert_eq!(made.at("/session/origin"), "mcpagentsessions/mcp-servers/sess-new");
    assert!(made.at("/session/creationTimestamp").is_string(), "{}", made.body);
    // It is in the very next answer, whatever the watch has told by then.
    let read = world.get("/api/v1/runtime/sessions/mcp-servers/sess-new").await;
    assert_eq!(read.at("/session/consentedTrust"), "low");
    let again = world.post("/api/v1/runtime/sessions", session("sess-new", "low")).await;
    assert_eq!((again.status.as_u16(), again.at("/change")), (200, &json!("unchanged")), "{}", again.body);
    let changed = world.post("/api/v1/runtime/sessions", session("sess-new", "high")).await;
    assert_eq!(changed.at("/change"), "updated", "{}", changed.body);
    assert_eq!(cluster.kept("mcpagentsession/sess-new", "{.spec.consentedTrust}"), "high");
    let asked = world.operator.asked.lock().unwrap().last().cloned().unwrap();
    assert_eq!(
        (asked.0.as_str(), &asked.1),
        ("sessions/mcp-servers/sess-new", &changed.at("/session/version").as_str().unwrap().to_string())
    );
    let policy = world.get("/api/v1/runtime/policy?namespace=mcp-servers&server=payments").await;
    assert_eq!(policy.at("/source"), "kubernetes", "{}", policy.body);
}

async fn switches_are_thrown_and_stay(cluster: &Cluster) {
    let world = &cluster.world;
    let at = "/api/v1/runtime/sessions/mcp-servers/sess-1";
    let revoked = world.call("POST", &format!("{at}/revoke"), None).await;
    assert_eq!(
        (revoked.status.as_u16(), revoked.at("/session/revoked")),
        (200, &json!(true)),
        "{}",
        revoked.body
    );
    assert_eq!(cluster.kept("mcpagentsession/sess-1", "{.spec.revoked}"), "true");
    cluster
        .until(|c| async {
            c.world.call("POST", &format!("{at}/revoke"), None).await.at("/change") == "unchanged"
        })
        .await;
    // A spec that does not name the switch leaves it as it is.
    let mut same = session("sess-1", "medium");
    same["expiresAt"] = "2099-12-31T23:59:00Z".into();
    let applied = world.post("/api/v1/runtime/sessions", same).await;
    assert_eq!((applied.at("/change"), applied.at("/session/revoked")), (&json!("unchanged"), &json!(true)));
    let raised = world.post("/api/v1/runtime/sessions", session("sess-1", "high")).await;
    let why = raised.error(400, "invalid_request_body").to_string();
    assert!(why.contains("a revoked session stays as it is"), "the rule of the API server is told: {why}");
    let lifted = world.call("POST", &format!("{at}/unrevoke"), None).await;
    assert_eq!(lifted.at("/session/revoked"), &json!(false), "{}", lifted.body);
    let disabled = world
        .call("PATCH", "/api/v1/runtime/grants/mcp-servers/ops", Some(json!({ "disabled": true })))
        .await;
    assert_eq!(disabled.at("/grant/disabled"), &json!(true), "{}", disabled.body);
    world
        .call("POST", "/api/v1/runtime/sessions/mcp-servers/nobody/revoke", None)
        .await
        .error(404, "not_found");
}

async fn what_the_server_refuses_is_told(cluster: &Cluster) {
    // What only the API server knows: a namespace that is not there.
    let mut homeless = session("sess-2", "low");
    homeless["namespace"] = "nowhere".into();
    homeless["serverRef"]["namespace"] = "mcp-servers".into();
    let server = r#"{"spec": {"acceptedNamespaces": ["nowhere", "other"]}}"#;
    cluster
        .server
        .kubectl(&["-n", "mcp-servers", "patch", "mcpserver", "payments", "--type=merge", "-p", server], "");
    cluster
        .until(|c| async {
            let refused = c.world.post("/api/v1/runtime/sessions", homeless.clone()).await;
            refused.at("/message").as_str().is_some_and(|message| message.contains("no such namespace"))
        })
        .await;
    let api = Api::<DynamicObject>::namespaced_with(
        cluster.client.clone(),
        "mcp-servers",
        &resource(Kind::Session),
    );
    let mut stale = api.get("sess-1").await.unwrap();
    stale.metadata.resource_version = Some("1".into());
    let error = api.replace("sess-1", &PostParams::default(), &stale).await.unwrap_err();
    let key = (Kind::Session, ObjectId::new("mcp-servers", "sess-1"));
    assert!(matches!(refused(error, &key), ResourceError::Conflict(m) if m.contains("try again")));
    // The role holds: the control API deletes nothing.
    let error = api.delete("sess-1", &DeleteParams::default()).await.unwrap_err();
    assert!(matches!(refused(error, &key), ResourceError::Forbidden(m) if m.contains("sallyport doctor")));
}

async fn what_others_do_arrives(cluster: &Cluster) {
    let patch = r#"{"spec": {"consentedTrust": "low"}}"#;
    cluster.server.kubectl(
        &["-n", "mcp-servers", "patch", "mcpagentsession", "sess-1", "--type=merge", "-p", patch],
        "",
    );
    cluster.server.kubectl(&["-n", "mcp-servers", "delete", "mcpagentsession", "sess-new"], "");
    cluster
        .until(|c| async {
            let changed = c.world.get("/api/v1/runtime/sessions/mcp-servers/sess-1").await;
            let gone = c.world.get("/api/v1/runtime/sessions/mcp-servers/sess-new").await;
            changed.at("/session/consentedTrust") == "low" && gone.status == 404
        })
        .await;
}

async fn a_key_is_made_once(cluster: &Cluster) {
    let first = api_keys(cluster.client.clone(), "sallyport-api-keys").await.unwrap();
    assert!(first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(api_keys(cluster.client.clone(), "sallyport-api-keys").await.unwrap(), first);
    // Applying the manifests again leaves it alone.
    cluster.server.kubectl(&["apply", "-f", "-"], API_KEYS);
    assert_eq!(api_keys(cluster.client.clone(), "sallyport-api-keys").await.unwrap(), first);
    let other = api_keys(cluster.client.clone(), "somebody-elses").await.unwrap_err();
    assert!(format!("{other:#}").contains("cannot read the API keys"), "{other:#}");
}

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use prost::Message;
use sallyport_audit_proto::v1::AuditEvent;
use sallyport_event_store::{ChainName, Embedded, EventSink, Limits, StoredEvent};
use sallyport_resolve::Settings;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::app::{App, Parts, router};
use crate::auth::{Keys, read_keys};
use crate::directory::Directory;
use crate::enforcement::Peer;
use crate::live::{Live, Patience};
use crate::metrics::Metrics;
use crate::resources::Resources;

pub(crate) const KEY: &str = "the-key";

pub(crate) const SERVERS: &str = "apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: payments, namespace: mcp-servers}
spec:
  image: registry.example.com/payments-mcp
  gateway: {enabled: true}
  session: {required: true}
  policy: {policyVersion: v1}
  envVars: [{name: TOKEN, value: hush}]
  tools:
    - {name: list_invoices, requiredTrust: low, sideEffect: read}
    - {name: refund_invoice, requiredTrust: high, sideEffect: destructive}
    - {name: mystery}
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPServer
metadata: {name: open, namespace: other}
spec: {image: x, gateway: {enabled: false}}
";

pub(crate) const ACCESS: &str = "apiVersion: mcpruntime.org/v1alpha1
kind: MCPAccessGrant
metadata: {name: ops, namespace: mcp-servers}
spec:
  serverRef: {name: payments}
  subject: {humanID: user-123, agentID: ops-agent}
  maxTrust: high
  allowedSideEffects: [read, destructive]
---
# The user's gate.
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: sess-1, namespace: mcp-servers}
spec:
  serverRef: {name: payments}
  subject: {humanID: user-123, agentID: ops-agent}
  consentedTrust: medium
  expiresAt: \"2099-12-31T23:59:00Z\"
---
apiVersion: mcpruntime.org/v1alpha1
kind: MCPAgentSession
metadata: {name: dangling, namespace: mcp-servers}
spec:
  serverRef: {name: gone}
  subject: {humanID: user-123}
";

/// What the control plane of a test was asked, and how it answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeOperator {
    pub(crate) asked: Arc<Mutex<Vec<(String, String, u64)>>>,
    pub(crate) answer: Arc<Mutex<Value>>,
}

impl FakeOperator {
    pub(crate) fn answers(&self, complete: bool, enforced: u64, of: u64) {
        let pending = if enforced < of { json!(["standalone/2"]) } else { json!([]) };
        *self.answer.lock().unwrap() = json!({ "complete": complete, "enforced": enforced, "of": of, "pending": pending, "millis": 1.0 });
    }

    async fn serve(&self) -> String {
        async fn enforcement(
            State(operator): State<FakeOperator>,
            UrlPath(path): UrlPath<String>,
            Query(query): Query<std::collections::BTreeMap<String, String>>,
        ) -> Json<Value> {
            let timeout = query["timeout_ms"].parse().unwrap();
            operator.asked.lock().unwrap().push((path, query["version"].clone(), timeout));
            Json(operator.answer.lock().unwrap().clone())
        }
        let router = Router::new()
            .route("/readyz", get(|| async { "ready" }))
            .route("/v1/proxies", get(|| async { Json(json!({ "proxies": [{ "proxy": "standalone" }] })) }))
            .route("/v1/problems", get(|| async { Json(json!({ "files": [], "objects": [] })) }))
            .route("/v1/enforcement/{*path}", get(enforcement))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }
}

/// An API with everything it needs.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) operator: FakeOperator,
    pub(crate) app: App,
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.body.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// Checks that it is this error, in the one form that errors have; answers with the message.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, error: &str) -> &str {
        assert_eq!((self.status.as_u16(), self.at("/error")), (status, &json!(error)), "{}", self.body);
        assert_eq!(self.body.as_object().map(serde_json::Map::len), Some(2), "{}", self.body);
        self.at("/message").as_str().unwrap()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let operator = FakeOperator::default();
        operator.answers(true, 3, 3);
        let url = operator.serve().await;
        Self::build(operator, &url, Metrics::register(&mut Registry::default()))
    }

    pub(crate) async fn with_metrics(metrics: Metrics) -> Self {
        let operator = FakeOperator::default();
        let url = operator.serve().await;
        Self::build(operator, &url, metrics)
    }

    /// One whose control plane does not answer.
    pub(crate) fn without_operator() -> Self {
        // Nobody listens on the port of discard.
        Self::build(
            FakeOperator::default(),
            "http://127.0.0.1:9",
            Metrics::register(&mut Registry::default()),
        )
    }

    /// One with resources that are kept elsewhere.
    pub(crate) async fn with_resources(resources: Box<dyn Resources>) -> Self {
        let operator = FakeOperator::default();
        operator.answers(true, 3, 3);
        let url = operator.serve().await;
        let folder = tempfile::tempdir().unwrap();
        Self::assemble(folder, operator, &url, Metrics::register(&mut Registry::default()), resources)
    }

    fn build(operator: FakeOperator, url: &str, metrics: Metrics) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        std::fs::create_dir(&config).unwrap();
        std::fs::write(config.join("servers.yaml"), SERVERS).unwrap();
        std::fs::write(config.join("access.yaml"), ACCESS).unwrap();
        let resources = Box::new(Directory::new(&config));
        Self::assemble(folder, operator, url, metrics, resources)
    }

    fn assemble(
        folder: tempfile::TempDir,
        operator: FakeOperator,
        url: &str,
        metrics: Metrics,
        resources: Box<dyn Resources>,
    ) -> Self {
        let app = App::new(Parts {
            resources,
            events: Box::new(Embedded::reader(&folder.path().join("events.db"))),
            live: Live::new(
                Patience { heartbeat: Duration::from_millis(100), slow: Duration::from_millis(100) },
                CancellationToken::new(),
            ),
            operator: Peer::new(url).unwrap(),
            ingest: Peer::new("http://127.0.0.1:9").unwrap(),
            keys: Keys::new(read_keys(None, Some(std::ffi::OsStr::new(KEY)), None).unwrap()),
            metrics,
            settings: Settings { cluster: "local".into() },
            permits: Semaphore::new(2),
        });
        Self { folder, operator, app }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    pub(crate) fn text(&self, file: impl AsRef<Path>) -> String {
        std::fs::read_to_string(self.config().join(file)).unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = router(self.app.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("x-api-key", KEY);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    /// Fills the event store.
    pub(crate) async fn record(&self, events: &[AuditEvent]) {
        self.record_from(1, events).await;
    }

    /// Goes on with sequence `first`.
    pub(crate) async fn record_from(&self, first: u64, events: &[AuditEvent]) {
        let limits = Limits { max_bytes: 1 << 30, max_age: Duration::from_secs(1 << 30) };
        let store = Embedded::open(&self.folder.path().join("events.db"), limits).unwrap();
        let stored = events.iter().enumerate().map(|(index, event)| {
            let mut event = event.clone();
            event.seq = index as u64 + first;
            if event.time_unix_nanos == 0 {
                event.time_unix_nanos = 1_900_000_000_000_000_000 + event.seq;
            }
            let chain = ChainName { proxy: "standalone".into(), worker: 0, epoch: 1 };
            StoredEvent::read(chain, event.encode_to_vec(), [0; 32]).unwrap()
        });
        store.append(stored.collect(), Vec::new()).await.unwrap();
    }
}

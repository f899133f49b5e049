//! Status over HTTP: who is connected, what is enforced where, what is wrong with which object.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use sallyport_api::Kind;
use sallyport_api::manifest::ManifestProblem;
use sallyport_operator_index::Key;
use sallyport_operator_xds::Instance;
use sallyport_policy::ObjectId;
use sallyport_resolve::{Problem, Severity};
use sallyport_runtime::admin::Readiness;
use sallyport_runtime::telemetry::continue_trace;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::enforcement::{Answered, Asked, Enforced, Enforcement, pending};
use crate::lock::lock;

/// Longest wait for acknowledgements.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Problems of files, shared.
pub(crate) type FileProblems = Arc<Mutex<Vec<ManifestProblem>>>;

/// What the status is read from.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) enforcement: Enforcement,
    pub(crate) problems: FileProblems,
}

/// Serves until `shutdown`; also `more`.
pub(crate) async fn serve(
    address: SocketAddr,
    shared: Shared,
    registry: Registry,
    readiness: Readiness,
    more: Option<Router>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/v1/proxies", get(proxies))
        .route("/v1/enforcement/{kind}/{namespace}/{name}", get(enforcement))
        .route("/v1/enforcement/batch", post(batch))
        .route("/v1/objects", get(objects))
        .route("/v1/problems", get(problems))
        .with_state(shared)
        .merge(more.unwrap_or_default());
    sallyport_runtime::admin::serve(address, registry, readiness, router, shutdown).await
}

#[derive(Debug, Deserialize)]
struct OfServer {
    /// The server whose proxies are meant, as `namespace/name`; none: all.
    server: Option<String>,
}

async fn proxies(State(shared): State<Shared>, Query(of): Query<OfServer>) -> Json<Value> {
    let mut list: Vec<Value> = Vec::new();
    for (server, tracked) in shared.enforcement.targets.all() {
        let server = server.map(|server| server.to_string());
        if of.server.is_some() && of.server != server {
            continue;
        }
        let change = tracked.target.world.read(|world| world.seq()).await;
        let all = tracked.target.proxies.all().into_values();
        list.extend(all.map(|instance| proxy_json(&instance, server.as_deref(), change)));
    }
    Json(json!({ "proxies": list }))
}

fn proxy_json(i: &Instance, server: Option<&str>, change: u64) -> Value {
    let connected = i.connected_at.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let refused: Vec<Value> = i
        .refused
        .iter()
        .map(|((kind, name), reason)| json!({ "type": kind, "name": name, "reason": reason }))
        .collect();
    json!({
        "proxy": i.proxy, "node": i.node, "kind": if i.is_filter { "filter" } else { "envoy" }, "server": server,
        "wireVersion": i.is_filter.then_some(i.wire_version),
        "connected": i.is_connected, "connectedAt": connected, "change": change,
        "acknowledgedGrants": i.grants, "acknowledgedSessions": i.sessions,
        "acknowledgedConfiguration": i.configuration,
        "sent": i.sent, "acknowledgements": i.acknowledgements, "refusals": i.refusals, "refused": refused,
    })
}

#[derive(Debug, Deserialize)]
struct Wait {
    /// The version to wait for; empty: that it is not there; none: the one there is.
    version: Option<String>,
    timeout_ms: Option<u64>,
}

async fn enforcement(
    State(shared): State<Shared>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
    Query(wait): Query<Wait>,
    headers: HeaderMap,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let span = tracing::debug_span!("operator.enforcement", kind, namespace, name, otel.kind = "server");
    continue_trace(&span, &headers);
    let kind = match kind.as_str() {
        "grants" => Kind::Grant,
        "sessions" => Kind::Session,
        other => {
            let message = format!("nothing is known of `{other}`; ask for grants or sessions");
            return Err((StatusCode::NOT_FOUND, Json(json!({ "error": "not_found", "message": message }))));
        }
    };
    let key = (kind, ObjectId::new(namespace, name));
    let timeout = Duration::from_millis(wait.timeout_ms.unwrap_or(0)).min(LONGEST_WAIT);
    let began = Instant::now();
    let asked = shared.enforcement.wait(&key, wait.version.as_deref(), timeout);
    let enforced = asked.instrument(span).await;
    let pending = pending(&enforced);
    let Enforced { version, is_complete, progress, .. } = enforced;
    Ok(Json(json!({
        "version": version, "present": version.is_some(), "complete": is_complete,
        "enforced": progress.enforced, "of": progress.of, "pending": pending,
        "millis": began.elapsed().as_secs_f64() * 1e3,
    })))
}

/// For other replicas: what the streams are that this one serves.
async fn batch(State(shared): State<Shared>, Json(asked): Json<Asked>) -> Json<Answered> {
    Json(shared.enforcement.answer(&asked).await)
}

async fn objects(State(shared): State<Shared>) -> Json<Value> {
    let index = lock(&shared.enforcement.index);
    let object = |key: Key| {
        let problems: Vec<Value> =
            index.problems().get(&key).into_iter().flatten().map(problem_json).collect();
        let has_effect = !problems.iter().any(|problem| problem["severity"] == "error");
        let (kind, id) = key;
        json!({
            "kind": kind.as_str(), "namespace": id.namespace, "name": id.name, "accepted": has_effect,
            "problems": problems,
        })
    };
    Json(json!({ "objects": index.keys().map(object).collect::<Vec<_>>() }))
}

fn problem_json(problem: &Problem) -> Value {
    let severity = match problem.severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    json!({ "severity": severity, "path": problem.path, "reason": problem.reason, "message": problem.message })
}

async fn problems(State(shared): State<Shared>) -> Json<Value> {
    let files: Vec<Value> = lock(&shared.problems)
        .iter()
        .map(|p| {
            json!({ "file": p.file, "line": p.line, "object": p.object, "path": p.path, "reason": p.reason, "message": p.message })
        })
        .collect();
    let objects: Vec<Value> = lock(&shared.enforcement.index)
        .problems()
        .iter()
        .flat_map(|(key, problems)| problems.iter().map(move |problem| (key, problem)))
        .map(|((kind, id), problem)| {
            let mut value = problem_json(problem);
            value["kind"] = kind.as_str().into();
            value["namespace"] = id.namespace.as_str().into();
            value["name"] = id.name.as_str().into();
            value
        })
        .collect();
    Json(json!({ "files": files, "objects": objects }))
}

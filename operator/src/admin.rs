//! Status over HTTP: who is connected, what is enforced where, what is wrong with which object.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use sallyport_operator_index::{Index, Key};
use sallyport_operator_xds::{Proxies, SharedWorld, World, types};
use sallyport_resolve::{Problem, Severity};
use sallyport_runtime::admin::Readiness;
use sallyport_runtime::telemetry::continue_trace;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::control::{FileProblems, lock};

/// Longest wait for acknowledgements.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What the status is read from.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) world: SharedWorld,
    pub(crate) proxies: Proxies,
    pub(crate) index: Arc<Mutex<Index>>,
    pub(crate) problems: FileProblems,
}

/// Serves until `shutdown`.
pub(crate) async fn serve(
    address: SocketAddr,
    shared: Shared,
    registry: Registry,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/v1/proxies", get(proxies))
        .route("/v1/enforcement/{kind}/{namespace}/{name}", get(enforcement))
        .route("/v1/objects", get(objects))
        .route("/v1/problems", get(problems))
        .with_state(shared);
    sallyport_runtime::admin::serve(address, registry, readiness, router, shutdown).await
}

async fn proxies(State(shared): State<Shared>) -> Json<Value> {
    let current = shared.world.read(|world| world.seq()).await;
    let list: Vec<Value> = shared
        .proxies
        .all()
        .into_values()
        .map(|i| {
            let connected = i.connected_at.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let refused: Vec<Value> = i
                .refused
                .iter()
                .map(|((kind, name), reason)| json!({ "type": kind, "name": name, "reason": reason }))
                .collect();
            json!({
                "proxy": i.proxy, "node": i.node, "kind": if i.is_filter { "filter" } else { "envoy" },
                "connected": i.is_connected, "connectedAt": connected,
                "acknowledgedGrants": i.grants, "acknowledgedSessions": i.sessions,
                "sent": i.sent, "acknowledgements": i.acknowledgements, "refusals": i.refusals, "refused": refused,
            })
        })
        .collect();
    Json(json!({ "change": current, "proxies": list }))
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
    enforced(&shared, &kind, format!("{namespace}/{name}"), &wait).instrument(span).await
}

async fn enforced(
    shared: &Shared,
    kind: &str,
    name: String,
    wait: &Wait,
) -> Result<Json<Value>, (StatusCode, Json<Value>)> {
    let type_url = match kind {
        "grants" => types::GRANT,
        "sessions" => types::SESSION,
        _ => {
            let message = format!("nothing is known of `{kind}`; ask for grants or sessions");
            return Err((StatusCode::NOT_FOUND, Json(json!({ "error": "not_found", "message": message }))));
        }
    };
    let began = Instant::now();
    let timeout = Duration::from_millis(wait.timeout_ms.unwrap_or(0)).min(LONGEST_WAIT);
    let (mut changes, mut answers) = (shared.world.bell(), shared.proxies.bell());
    loop {
        changes.mark_unchanged();
        answers.mark_unchanged();
        let look = |world: &World| {
            let version = world.find(type_url, &name).map(|stored| stored.version.clone());
            (world.last_change(type_url, &name), version)
        };
        let (seq, version) = shared.world.read(look).await;
        let present = version.as_deref().unwrap_or_default();
        let is_wanted = wait.version.as_deref().is_none_or(|wanted| wanted == present);
        // What never was there, nobody has to give up.
        let seq = seq.or_else(|| wait.version.as_deref().filter(|wanted| wanted.is_empty()).map(|_| 0));
        let progress = match seq.filter(|_| is_wanted) {
            Some(seq) => shared.proxies.progress(type_url, &name, seq),
            // Nobody can enforce what has not come here yet.
            None => shared.proxies.progress(type_url, &name, u64::MAX),
        };
        // Where no filter is connected, nobody knows what is enforced.
        let complete = is_wanted && seq.is_some() && progress.of > 0 && progress.enforced == progress.of;
        let left = timeout.saturating_sub(began.elapsed());
        if complete || left.is_zero() {
            return Ok(Json(json!({
                "version": version, "present": version.is_some(), "complete": complete,
                "enforced": progress.enforced, "of": progress.of, "pending": progress.pending,
                "millis": began.elapsed().as_secs_f64() * 1e3,
            })));
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = answers.changed() => {}
            () = tokio::time::sleep(left) => {}
        }
    }
}

async fn objects(State(shared): State<Shared>) -> Json<Value> {
    let index = lock(&shared.index);
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
    let objects: Vec<Value> = lock(&shared.index)
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

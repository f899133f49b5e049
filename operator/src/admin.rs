//! Status over HTTP: who is connected, what is enforced where, what is wrong with which object.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use sallyport_operator_index::Index;
use sallyport_operator_xds::{Progress, Proxies, SharedWorld, types};
use sallyport_resolve::Severity;
use sallyport_runtime::admin::Readiness;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::control::{FileProblems, lock};
use crate::metrics::Metrics;

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
    metrics: Metrics,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let counted = shared.proxies.clone();
    let mut bell = counted.bell();
    tokio::spawn(async move {
        while bell.changed().await.is_ok() {
            let all = counted.all();
            metrics.connected.set(i64::try_from(all.len()).unwrap_or(i64::MAX));
            metrics.refusals.set(all.values().map(|i| i64::try_from(i.refusals).unwrap_or(i64::MAX)).sum());
        }
    });
    let router = Router::new()
        .route("/v1/proxies", get(proxies))
        .route("/v1/enforcement/{kind}/{namespace}/{name}", get(enforcement))
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
            json!({
                "proxy": i.proxy, "node": i.node, "kind": if i.is_filter { "filter" } else { "envoy" },
                "connectedAt": connected, "acknowledgedGrants": i.grants, "acknowledgedSessions": i.sessions,
                "refusals": i.refusals, "lastRefusal": i.last_refusal,
            })
        })
        .collect();
    Json(json!({ "change": current, "proxies": list }))
}

#[derive(Debug, Deserialize)]
struct Wait {
    /// The version to wait for; none: the one there is.
    version: Option<String>,
    timeout_ms: Option<u64>,
}

async fn enforcement(
    State(shared): State<Shared>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
    Query(wait): Query<Wait>,
) -> Json<Value> {
    let type_url = if kind == "grants" { types::GRANT } else { types::SESSION };
    let name = format!("{namespace}/{name}");
    let began = Instant::now();
    let timeout = Duration::from_millis(wait.timeout_ms.unwrap_or(0)).min(LONGEST_WAIT);
    let (mut changes, mut answers) = (shared.world.bell(), shared.proxies.bell());
    loop {
        changes.mark_unchanged();
        answers.mark_unchanged();
        let (seq, version) = shared
            .world
            .read(|world| {
                let version = world.find(type_url, &name).map(|stored| stored.version.clone());
                (world.last_change(type_url, &name), version)
            })
            .await;
        let as_wanted = wait.version.is_none() || wait.version == version;
        let progress = seq.filter(|_| as_wanted).map_or_else(
            || Progress { of: shared.proxies.progress(type_url, 0).of, ..Progress::default() },
            |seq| shared.proxies.progress(type_url, seq),
        );
        let complete = as_wanted && seq.is_some() && progress.enforced == progress.of;
        let left = timeout.saturating_sub(began.elapsed());
        if complete || left.is_zero() {
            return Json(json!({
                "version": version, "present": version.is_some(), "complete": complete,
                "enforced": progress.enforced, "of": progress.of, "pending": progress.pending,
                "millis": began.elapsed().as_secs_f64() * 1e3,
            }));
        }
        tokio::select! {
            _ = changes.changed() => {}
            _ = answers.changed() => {}
            () = tokio::time::sleep(left) => {}
        }
    }
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
        .map(|((kind, id), p)| {
            let severity = match p.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            json!({
                "kind": kind.as_str(), "namespace": id.namespace, "name": id.name, "severity": severity,
                "path": p.path, "reason": p.reason, "message": p.message,
            })
        })
        .collect();
    Json(json!({ "files": files, "objects": objects }))
}

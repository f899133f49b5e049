//! The webhook over HTTP.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use sallyport_api::Kind;
use sallyport_resolve::Problem;
use sallyport_runtime::tls::TlsListener;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;

use crate::kubernetes::Hub;
use crate::render::{GatewayFiles, Settings};

use super::ask::{Ask, KubeAsk, gather};
use super::findings::Findings;
use super::metrics::AdmissionMetrics;
use super::request::{Request, Unreadable};
use super::review::{Denial, Rules, Verdict, World, decide, examine};

/// Less than the `timeoutSeconds` of the webhook, so that the answer says what the matter is.
const DEADLINE: Duration = Duration::from_secs(4);
/// Reviews under way at once; more wait for their turn.
const AT_ONCE: usize = 32;
/// An object and its predecessor, of which etcd takes 1.5 MB each, and what JSON adds.
const LARGEST: usize = 8 << 20;
/// The API server cuts off longer ones.
const LONGEST_WARNING: usize = 256;
/// And what is more than 4 KB in all.
const MOST_WARNINGS: usize = 12;

/// The webhook.
#[derive(Clone)]
pub struct Webhook {
    world: Arc<dyn World>,
    ask: Arc<dyn Ask>,
    settings: Arc<Settings>,
    turns: Arc<Semaphore>,
    deadline: Duration,
    metrics: AdmissionMetrics,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Webhook {
    /// A webhook that knows `world`, asks `ask`, and takes what can be rendered with `settings`.
    pub fn new(world: Arc<dyn World>, ask: Arc<dyn Ask>, settings: Arc<Settings>) -> Self {
        Self {
            world,
            ask,
            settings,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            deadline: DEADLINE,
            metrics: AdmissionMetrics::default(),
        }
    }

    /// Its requests are counted there.
    #[must_use]
    pub fn counted_by(self, metrics: AdmissionMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// The verdict on a request.
    pub async fn review(&self, request: &Request) -> Verdict {
        let reviewing = async {
            // Closed never: a review that gets no turn runs into the deadline.
            let _turn = self.turns.acquire().await;
            let rules = Rules { settings: &self.settings, now: Timestamp::now() };
            let findings = examine(request, &rules, self.world.as_ref());
            if findings.errors.is_empty() {
                let answers =
                    gather(self.ask.as_ref(), &request.user, &request.id.namespace, &findings.needs).await;
                return decide(findings, &answers);
            }
            // It is refused whatever else it would take.
            decide(Findings { needs: Vec::new(), ..findings }, &Default::default())
        };
        timeout(self.deadline, reviewing).await.unwrap_or_else(|_| {
            let problem = Problem::error("", "Timeout", "could not be judged in time");
            Verdict { denial: Some(Denial::Unavailable(vec![problem])), warnings: Vec::new() }
        })
    }
}

/// `POST /admission/v1/{servers,grants,sessions}`.
pub fn router(webhook: Webhook) -> Router {
    let route = |kind: Kind| {
        post(
            move |State(webhook): State<Webhook>, body: Bytes| async move { answer(&webhook, kind, &body).await },
        )
    };
    Router::new()
        .route("/admission/v1/servers", route(Kind::Server))
        .route("/admission/v1/grants", route(Kind::Grant))
        .route("/admission/v1/sessions", route(Kind::Session))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(webhook)
}

/// Judges what the API server asks, from when every object is known until the operator ends.
pub(crate) async fn run(hub: Hub, metrics: AdmissionMetrics) -> anyhow::Result<()> {
    // What gateways start from is not judged here.
    let settings = hub.args.render.settings(GatewayFiles::default());
    let webhook =
        Webhook::new(hub.index.clone(), Arc::new(KubeAsk::new(hub.client.clone())), Arc::new(settings))
            .counted_by(metrics);
    let config = hub.certificate.config(&["h2", "http/1.1"])?;
    hub.complete.clone().wait_for(|complete| *complete).await?;
    let on = || format!("webhook on {}", hub.args.webhook);
    let listener = TcpListener::bind(hub.args.webhook).await.with_context(on)?;
    serve(listener, config, webhook, hub.shutdown.clone().cancelled_owned()).await.with_context(on)
}

/// Serves the webhook until `shutdown`.
///
/// # Errors
/// The address of `listener` cannot be told.
pub async fn serve(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    webhook: Webhook,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(TlsListener::new(listener, config)?, router(webhook)).with_graceful_shutdown(shutdown).await
}

async fn answer(webhook: &Webhook, kind: Kind, body: &[u8]) -> (StatusCode, Json<Value>) {
    let began = Instant::now();
    let judged = |verdict: Option<&Verdict>| webhook.metrics.judged(kind, verdict, began.elapsed());
    let request = match Request::read(kind, body) {
        Ok(request) => request,
        // The schema lets it pass, and nobody could read it.
        Err(Unreadable::Object { uid, cause }) => {
            let message = format!("cannot be read: {cause}");
            let denial = Some(Denial::Refused(vec![Problem::error("spec", "Unreadable", message)]));
            judged(None);
            return (StatusCode::OK, Json(response(&uid, &Verdict { denial, warnings: Vec::new() })));
        }
        Err(error) => {
            tracing::warn!(%error, kind = kind.as_str(), "admission review cannot be read");
            judged(None);
            return (StatusCode::BAD_REQUEST, Json(json!({ "message": error.to_string() })));
        }
    };
    let verdict = webhook.review(&request).await;
    judged(Some(&verdict));
    if let Some(denial) = &verdict.denial {
        let (Denial::Refused(problems) | Denial::Unavailable(problems)) = denial;
        let reason = problems.first().map_or("", |problem| problem.reason);
        tracing::info!(
            object = %format_args!("{} {}", kind.as_str(), request.id), operation = ?request.operation, reason,
            "refused by admission"
        );
    }
    (StatusCode::OK, Json(response(&request.uid, &verdict)))
}

fn response(uid: &str, verdict: &Verdict) -> Value {
    let mut warnings: Vec<String> =
        verdict.warnings.iter().take(MOST_WARNINGS).map(|problem| shorten(&told(problem))).collect();
    if let Some(more) = verdict.warnings.len().checked_sub(MOST_WARNINGS).filter(|more| *more > 0) {
        warnings.push(format!("and {more} warnings more; `kubectl describe` shows them all"));
    }
    let mut response = json!({ "uid": uid, "allowed": verdict.denial.is_none(), "warnings": warnings });
    if let Some(denial) = &verdict.denial {
        response["status"] = status(denial);
    }
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
}

/// The API server answers its client with this.
fn status(denial: &Denial) -> Value {
    let is_right =
        |problem: &Problem| problem.reason.ends_with("NotAllowed") || problem.reason == "RevokedSessionKept";
    let (problems, code, reason, word) = match denial {
        Denial::Refused(problems) if problems.iter().any(is_right) => {
            (problems, 403, "Forbidden", "FieldValueForbidden")
        }
        Denial::Refused(problems) => (problems, 422, "Invalid", "FieldValueInvalid"),
        Denial::Unavailable(problems) => (problems, 503, "ServiceUnavailable", "FieldValueForbidden"),
    };
    let causes: Vec<Value> = problems
        .iter()
        .map(|problem| json!({ "reason": word, "field": problem.path, "message": problem.message }))
        .collect();
    let told: Vec<String> = problems.iter().map(told).collect();
    let told = told.join("; ");
    let message = match denial {
        Denial::Refused(_) => told,
        Denial::Unavailable(_) => {
            format!("the API server could not say whether this is allowed, try again: {told}")
        }
    };
    let mut details = json!({ "causes": causes });
    if code == 503 {
        details["retryAfterSeconds"] = 1.into();
    }
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": message, "details": details,
    })
}

fn told(problem: &Problem) -> String {
    let Problem { path, reason, message, .. } = problem;
    if path.is_empty() { format!("{message} ({reason})") } else { format!("{path} {message} ({reason})") }
}

fn shorten(text: &str) -> String {
    if text.len() <= LONGEST_WARNING {
        return text.into();
    }
    let end =
        (0..=LONGEST_WARNING - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

//! The control plane as a client: what is enforced where, who is connected, what is wrong.

use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use sallyport_api::Kind;
use sallyport_policy::ObjectId;
use sallyport_runtime::telemetry::pass_trace_on;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Time for an answer beyond what it is asked to wait.
const GRACE: Duration = Duration::from_secs(2);
/// Time to connect; all of this is on one machine or in one cluster.
const CONNECT: Duration = Duration::from_secs(1);

/// What is said where no proxy is connected.
const NOBODY: &str = "no proxy is connected, so none has confirmed it; one that lost its connection decides by what it last knew";
/// What is said where the control plane is away.
const AWAY: &str =
    "the change is written, and the control plane cannot be asked whether it is enforced; check that it runs";

/// How far a change has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Enforcement {
    /// Version that is asked for; none: the object has no effect, and proxies must not have it.
    pub(crate) version: Option<String>,
    /// Every connected filter instance has acknowledged it, and there is one at least.
    pub(crate) complete: bool,
    /// Filter instances that acknowledged it.
    pub(crate) enforced: u64,
    /// Filter instances there are.
    pub(crate) of: u64,
    /// The others.
    pub(crate) pending: Vec<String>,
    /// Time from the request until this was known, in milliseconds.
    pub(crate) millis: f64,
    /// Why it is not complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    complete: bool,
    enforced: u64,
    of: u64,
    pending: Vec<String>,
}

/// A change whose enforcement is asked for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// Grant or session.
    pub(crate) kind: Kind,
    /// Which.
    pub(crate) id: &'a ObjectId,
    /// Its version after the change.
    pub(crate) version: Option<String>,
    /// How long to wait for it; zero: do not ask.
    pub(crate) wait: Duration,
    /// When the change was asked for.
    pub(crate) began: Instant,
}

/// Another process of ours, over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    base: String,
    http: reqwest::Client,
}

impl Peer {
    /// The process at `base`, as `http://127.0.0.1:18002`.
    ///
    /// # Errors
    /// No client can be made.
    pub(crate) fn new(base: &str) -> reqwest::Result<Self> {
        // A proxy of the environment is not meant for what runs beside us.
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).build()?;
        Ok(Self { base: base.trim_end_matches('/').to_string(), http })
    }

    /// Whether it says that it is ready.
    pub(crate) async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.base)).timeout(GRACE).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// What it says at `path`.
    pub(crate) async fn get(&self, path: &str, wait: Duration) -> reqwest::Result<Value> {
        let url = format!("{}{path}", self.base);
        let mut headers = HeaderMap::new();
        pass_trace_on(&mut headers);
        let request = self.http.get(url).headers(headers).timeout(wait.saturating_add(GRACE));
        request.send().await?.error_for_status()?.json().await
    }

    /// Waits until every connected filter instance has acknowledged what is wanted, or its time is over.
    pub(crate) async fn enforcement(&self, wanted: Wanted<'_>) -> Enforcement {
        let mut told = Enforcement { version: wanted.version.clone(), ..Enforcement::default() };
        let message = if wanted.wait.is_zero() {
            Some("not waited for, as asked")
        } else {
            match self.ask(&wanted).await {
                Ok(answer) => {
                    told.complete = answer.complete && answer.of > 0;
                    told.enforced = answer.enforced;
                    told.of = answer.of;
                    told.pending = answer.pending;
                    match (told.complete, answer.of) {
                        (true, _) => None,
                        (false, 0) => Some(NOBODY),
                        (false, _) => {
                            Some("not every connected proxy has confirmed it in time; it is on its way")
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the control plane does not tell what is enforced");
                    Some(AWAY)
                }
            }
        };
        told.message = message.map(ToString::to_string);
        told.millis = (wanted.began.elapsed().as_secs_f64() * 1e5).round() / 100.0;
        told
    }

    async fn ask(&self, wanted: &Wanted<'_>) -> Result<Answer, PeerError> {
        // An empty version asks that the object is nowhere.
        let version = wanted.version.as_deref().unwrap_or_default();
        let kind = match wanted.kind {
            Kind::Grant => "grants",
            Kind::Session => "sessions",
            Kind::Server => "servers",
        };
        let path = format!(
            "/v1/enforcement/{kind}/{}?version={version}&timeout_ms={}",
            wanted.id,
            wanted.wait.as_millis()
        );
        Ok(serde_json::from_value(self.get(&path, wanted.wait).await?)?)
    }
}

/// Why another process could not be understood.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("unexpected answer: {0}")]
    Answer(#[from] serde_json::Error),
}

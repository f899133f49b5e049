//! What every handler works with, and the router around them.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use sallyport_event_store::EventStore;
use sallyport_resolve::Settings;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::auth::{Keys, require_key};
use crate::enforcement::Peer;
use crate::error::{ApiError, Code};
use crate::input::{LONGEST_WAIT, MAX_BODY};
use crate::live::Live;
use crate::metrics::{Metrics, observe};
use crate::openapi;
use crate::resources::Resources;
use crate::v1::ROUTES;

/// Requests at work at once; more are turned away.
pub(crate) const MAX_REQUESTS: usize = 256;
/// Longest time for a request: the longest wait, and some.
const TIMEOUT: Duration = LONGEST_WAIT.saturating_add(Duration::from_secs(15));

/// The parts a process is made of.
pub(crate) struct Parts {
    pub(crate) resources: Box<dyn Resources>,
    pub(crate) events: Box<dyn EventStore>,
    pub(crate) live: Live,
    pub(crate) operator: Peer,
    pub(crate) ingest: Peer,
    pub(crate) keys: Keys,
    pub(crate) metrics: Metrics,
    pub(crate) settings: Settings,
    /// Room for requests.
    pub(crate) permits: Semaphore,
}

/// The parts, shared.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    parts: Parts,
    /// Paths that need no key.
    open: Vec<String>,
    /// The OpenAPI document.
    pub(crate) openapi: Value,
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        let open = ROUTES.iter().filter(|route| route.is_open).flat_map(|route| route.paths()).collect();
        Self(Arc::new(Shared { parts, open, openapi: openapi::document() }))
    }

    /// Paths that need no key.
    pub(crate) fn open_paths(&self) -> impl Iterator<Item = &str> {
        self.0.open.iter().map(String::as_str)
    }
}

/// All routes, with everything around them.
pub(crate) fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        for path in route.paths() {
            router = router.route(&path, (route.handler)());
        }
    }
    router
        .fallback(|| async {
            ApiError::new(
                Code::NotFound,
                "there is nothing at this path; /api/openapi.json lists what there is",
            )
        })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                Code::MethodNotAllowed,
                "this path takes other methods; the header `allow` lists them",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        // A request without a key is refused before it can take room from others, or is read.
        .layer(from_fn_with_state(app.clone(), limit))
        .layer(from_fn_with_state(app.clone(), require_key))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app)
}

/// Turns requests away when there are too many, and ends those that take too long.
async fn limit(State(app): State<App>, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.permits.try_acquire() else {
        return ApiError::new(Code::Unavailable, "too many requests at once; try again in a moment")
            .into_response();
    };
    match tokio::time::timeout(TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            ApiError::new(Code::Unavailable, "the request took too long; whether it took effect is not known")
                .into_response()
        }
    }
}

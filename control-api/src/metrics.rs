//! Each request: counted, timed, traced.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use sallyport_runtime::files::random_hex;
use sallyport_runtime::telemetry::continue_trace;
use tracing::{Instrument, field};

use crate::app::App;

/// Header with the id of a request; a client's own is kept.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id of a client's own.
const MAX_REQUEST_ID: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    /// The template, never the path itself.
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

/// What is counted.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    seconds: Family<RouteLabel, Histogram, fn() -> Histogram>,
    /// Who follows events.
    pub(crate) subscribers: Gauge,
    /// Who did, and was too slow.
    pub(crate) subscribers_cut: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 16));
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(buckets),
            subscribers: Gauge::default(),
            subscribers_cut: Counter::default(),
        };
        registry.register(
            "sallyport_api_event_streams",
            "Clients that follow events now",
            metrics.subscribers.clone(),
        );
        registry.register(
            "sallyport_api_event_streams_cut",
            "Clients that followed events and were cut, because they took nothing for too long",
            metrics.subscribers_cut.clone(),
        );
        registry.register(
            "sallyport_api_requests",
            "Requests by method, route and status",
            metrics.requests.clone(),
        );
        registry.register(
            "sallyport_api_request_seconds",
            "Time to answer by route",
            metrics.seconds.clone(),
        );
        metrics
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID);
    let is_fit = |id: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    let made = || HeaderValue::from_str(&random_hex::<8>()).unwrap_or(HeaderValue::from_static("none"));
    given.filter(is_fit).cloned().unwrap_or_else(made)
}

/// Counts, times and traces a request, and gives it an id. Neither key nor body is looked at.
pub(crate) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(&request);
    let route =
        request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_string();
    let method = method_label(request.method());
    let span = tracing::info_span!(
        "api.request",
        id = id.to_str().unwrap_or_default(),
        method,
        route,
        status = field::Empty,
        otel.kind = "server"
    );
    continue_trace(&span, request.headers());
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let elapsed = began.elapsed();
    span.record("status", status);
    app.metrics.requests.get_or_create(&Labels { method, route: route.clone(), status }).inc();
    app.metrics.seconds.get_or_create(&RouteLabel { route }).observe(elapsed.as_secs_f64());
    span.in_scope(|| tracing::debug!(status, millis = elapsed.as_secs_f64() * 1e3, "answered"));
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

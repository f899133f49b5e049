//! All routes, in one table that the OpenAPI document is made from as well.

use axum::extract::DefaultBodyLimit;
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, patch, post};
use axum::{Json, Router, middleware};
use serde_json::{Map, Value, json};

use crate::auth;
use crate::error::ApiError;
use crate::state::AppState;
use crate::v1::{access, events, explain, servers, toggle};

/// Largest request body, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Path below `/api` and `/api/v1`, its methods with what they do, its handlers.
type Row = (&'static str, &'static [(&'static str, &'static str)], MethodRouter<AppState>);

fn table() -> Vec<Row> {
    vec![
        ("/runtime/servers", &[("get", "List MCPServers")], get(servers::list)),
        ("/runtime/servers/{namespace}/{name}", &[("get", "One MCPServer")], get(servers::get)),
        (
            "/runtime/grants",
            &[("get", "List MCPAccessGrants"), ("post", "Create or update an MCPAccessGrant")],
            get(access::list_grants).post(access::post_grant),
        ),
        (
            "/runtime/grants/{namespace}/{name}",
            &[("get", "One MCPAccessGrant"), ("patch", "Set `disabled`")],
            get(access::get_grant).merge(patch(toggle::patch_grant)),
        ),
        (
            "/runtime/grants/{namespace}/{name}/disable",
            &[("post", "Switch a grant off")],
            post(toggle::disable),
        ),
        ("/runtime/grants/{namespace}/{name}/enable", &[("post", "Switch a grant on")], post(toggle::enable)),
        (
            "/runtime/sessions",
            &[("get", "List MCPAgentSessions"), ("post", "Create or update an MCPAgentSession")],
            get(access::list_sessions).post(access::post_session),
        ),
        (
            "/runtime/sessions/{namespace}/{name}",
            &[("get", "One MCPAgentSession"), ("patch", "Set `revoked`")],
            get(access::get_session).merge(patch(toggle::patch_session)),
        ),
        (
            "/runtime/sessions/{namespace}/{name}/revoke",
            &[("post", "Withdraw a session")],
            post(toggle::revoke),
        ),
        (
            "/runtime/sessions/{namespace}/{name}/unrevoke",
            &[("post", "Lift the withdrawal")],
            post(toggle::unrevoke),
        ),
        ("/runtime/policy", &[("get", "The policy of a server as proxies get it")], get(servers::policy)),
        (
            "/runtime/policy/explain",
            &[("post", "The verdict on a request, step by step")],
            post(explain::explain),
        ),
        (
            "/runtime/components",
            &[("get", "Whether the parts answer, who is connected")],
            get(servers::components),
        ),
        ("/events", &[("get", "Newest audit events")], get(events::list)),
        ("/events/filter", &[("get", "Audit events that match")], get(events::filter)),
        ("/stats", &[("get", "Totals of audit events")], get(events::stats)),
        ("/sources", &[("get", "Sources of audit events")], get(events::sources)),
        ("/event-types", &[("get", "Types of audit events")], get(events::types)),
        ("/dashboard/summary", &[("get", "Overview")], get(events::summary)),
    ]
}

/// The whole API.
pub(crate) fn router(state: AppState) -> Router {
    let mut api = Router::new();
    for (path, _, handlers) in table() {
        let handlers = handlers.fallback(|| async { ApiError::method_not_allowed() });
        api = api.route(&format!("/api/v1{path}"), handlers.clone()).route(&format!("/api{path}"), handlers);
    }
    api.route_layer(middleware::from_fn_with_state(state.clone(), auth::check))
        .route("/healthz", get(|| async { "ok" }))
        .route("/api/openapi.json", get(|| async { Json(openapi()).into_response() }))
        .fallback(|| async { ApiError::not_found("no such path; see /api/openapi.json") })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(state)
}

/// The OpenAPI document of the table.
fn openapi() -> Value {
    let error = json!({ "description": "What went wrong", "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } } });
    let mut paths = Map::new();
    for (path, methods, _) in table() {
        let parameters: Vec<Value> = path
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        let operations: Map<String, Value> = methods
            .iter()
            .map(|(method, summary)| {
                let answers = json!({ "200": { "description": "Done" }, "400": error, "401": error, "404": error, "503": error });
                ((*method).to_string(), json!({ "summary": summary, "parameters": parameters, "responses": answers }))
            })
            .collect();
        paths.insert(format!("/api/v1{path}"), Value::Object(operations));
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Sallyport control API", "version": env!("CARGO_PKG_VERSION") },
        "security": [{ "apiKey": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "apiKey": { "type": "apiKey", "in": "header", "name": "x-api-key" } },
            "schemas": { "Error": { "type": "object", "required": ["error", "message"],
                "properties": { "error": { "type": "string" }, "message": { "type": "string" } } } },
        },
    })
}

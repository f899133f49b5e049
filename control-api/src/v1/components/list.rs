//! How the parts are, who is connected, and what is wrong with which object.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::input::Params;
use crate::v1::{Route, Verb};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Get,
    path: "/runtime/components",
    tag: "components",
    summary: "How the parts are, which proxies are connected, and what is wrong with which object.",
    query: &[],
    body: None,
    answers: &[(200, "Components")],
    errors: &[Code::InvalidQuery],
    is_open: false,
    handler: || get(list),
};

async fn list(State(app): State<App>, params: Params) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let (view, stats, operator, ingest, proxies, problems) = tokio::join!(
        app.resources.view(),
        app.events.stats(),
        app.operator.is_ready(),
        app.ingest.is_ready(),
        app.operator.get("/v1/proxies", Duration::ZERO),
        app.operator.get("/v1/problems", Duration::ZERO),
    );
    let manifests = match &view {
        Err(error) => component("manifests", false, &error.to_string()),
        Ok(_) if let Some(trouble) = app.resources.trouble() => component("manifests", false, &trouble),
        Ok(view) if view.problems.is_empty() => component("manifests", true, "every document loads"),
        Ok(view) => {
            let count = view.problems.len();
            component(
                "manifests",
                true,
                &format!("{count} problems; `problems` and the control plane's log tell them"),
            )
        }
    };
    let parts = [
        component("control-api", true, "answers"),
        component("operator", operator, if operator { "ready" } else { "does not answer, or is not ready" }),
        component("ingest", ingest, if ingest { "ready" } else { "does not answer, or is not ready" }),
        component("event-store", stats.is_ok(), if stats.is_ok() { "can be read" } else { "cannot be read" }),
        manifests,
    ];
    // As the control plane tells them; null: it does not.
    Ok(Json(json!({ "components": parts, "proxies": proxies.ok(), "problems": problems.ok() })))
}

fn component(name: &str, ready: bool, message: &str) -> Value {
    json!({ "name": name, "ready": ready, "status": if ready { "healthy" } else { "unhealthy" }, "message": message })
}

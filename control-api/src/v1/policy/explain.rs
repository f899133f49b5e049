//! What the policy says of a request, and why.

use axum::Json;
use axum::extract::State;
use axum::routing::post;
use jiff::Timestamp;
use serde_json::Value;

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::explain::{Question, explain};
use crate::input::{JsonObject, Params};
use crate::v1::{Route, Verb};

pub(crate) const ROUTE: Route = Route {
    verb: Verb::Post,
    path: "/runtime/policy/explain",
    tag: "policy",
    summary: "The verdict on a request with every step to it, from the code that the proxy runs. Changes nothing.",
    query: &[],
    body: Some("ExplainRequest"),
    answers: &[(200, "Explanation")],
    errors: &[Code::InvalidBody, Code::InvalidQuery, Code::NotFound, Code::TooLarge, Code::MediaType],
    is_open: false,
    handler: || post(handle),
};

async fn handle(
    State(app): State<App>,
    params: Params,
    JsonObject(body): JsonObject,
) -> Result<Json<Value>, ApiError> {
    params.only(&[])?;
    let question: Question = serde_json::from_value(Value::Object(body)).map_err(|error| {
        ApiError::new(Code::InvalidBody, format!("the question cannot be understood: {error}"))
    })?;
    let view = app.resources.view().await?;
    explain(&view, &app.settings, &question, Timestamp::now()).map(Json)
}

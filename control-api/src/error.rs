//! Errors as clients see them: `{error, message}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sallyport_event_store::StoreError;
use serde_json::json;

/// An answer that says what went wrong. Internal detail goes to the log only.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "invalid_request_body", message: message.into() }
    }

    pub(crate) fn query(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: "invalid_query_param", message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: "not_found", message: message.into() }
    }

    pub(crate) fn unauthorized() -> Self {
        let message = "send a valid API key in x-api-key".into();
        Self { status: StatusCode::UNAUTHORIZED, code: "unauthorized", message }
    }

    pub(crate) fn method_not_allowed() -> Self {
        let message = "this path does not take this method; see /api/openapi.json".into();
        Self { status: StatusCode::METHOD_NOT_ALLOWED, code: "method_not_allowed", message }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "service_unavailable", message: message.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.code, "message": self.message }))).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cursor => Self::query(error.to_string()),
            error @ (StoreError::Database(_) | StoreError::Schema { .. } | StoreError::Stopped) => {
                tracing::warn!(%error, "event store does not answer");
                Self::unavailable("the event store does not answer")
            }
        }
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        tracing::error!(%error, "directory cannot be used");
        Self::unavailable("the directory of manifests cannot be read or written")
    }
}

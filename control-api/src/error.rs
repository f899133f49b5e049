//! What a client is told when something is wrong: `{error, message}`, always.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sallyport_api::schema::SchemaProblem;
use sallyport_event_store::StoreError;
use serde_json::json;

use crate::resources::ResourceError;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $status:ident;)+) => {
        /// What kind of error; the names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// The stable name.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// HTTP status.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }
        }
    };
}

codes! {
    /// The body cannot be understood, or says what cannot be.
    InvalidBody = "invalid_request_body", BAD_REQUEST;
    /// A query parameter is unknown, repeated or cannot be understood.
    InvalidQuery = "invalid_query_param", BAD_REQUEST;
    /// A part of the path cannot be a name.
    InvalidPath = "invalid_path_param", BAD_REQUEST;
    /// The server that is named does not exist, or does not take the object.
    UnknownServer = "unknown_server_ref", BAD_REQUEST;
    /// No key, or an unknown one.
    Unauthorized = "unauthorized", UNAUTHORIZED;
    /// Neither route nor object.
    NotFound = "not_found", NOT_FOUND;
    /// The path takes other methods.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED;
    /// An admission rule or a role does not allow it.
    Forbidden = "forbidden", FORBIDDEN;
    /// The state of what is kept does not allow it.
    Conflict = "conflict", CONFLICT;
    /// The body is too large.
    TooLarge = "request_too_large", PAYLOAD_TOO_LARGE;
    /// The body is not JSON.
    MediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE;
    /// Something that is needed is away, or there are too many requests at once.
    Unavailable = "service_unavailable", SERVICE_UNAVAILABLE;
    /// A defect.
    Internal = "internal_error", INTERNAL_SERVER_ERROR;
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Problems of a body's fields. Paths are told as the client wrote them: flat, without `spec.` and `metadata.`.
    pub(crate) fn fields(problems: &[SchemaProblem]) -> Self {
        let tell = |problem: &SchemaProblem| {
            let path = flat_path(&problem.path);
            if path.is_empty() { problem.message.clone() } else { format!("`{path}` {}", problem.message) }
        };
        Self::new(Code::InvalidBody, problems.iter().map(tell).collect::<Vec<_>>().join("; "))
    }
}

/// A field's path as a flat body has it.
pub(crate) fn flat_path(path: &str) -> &str {
    path.strip_prefix("spec.").or_else(|| path.strip_prefix("metadata.")).unwrap_or(path)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": self.code.as_str(), "message": self.message });
        let mut response = (self.code.status(), Json(body)).into_response();
        let more = match self.code {
            Code::Unauthorized => Some((header::WWW_AUTHENTICATE, "ApiKey realm=\"sallyport\"")),
            Code::Unavailable => Some((header::RETRY_AFTER, "1")),
            Code::InvalidBody
            | Code::InvalidQuery
            | Code::InvalidPath
            | Code::UnknownServer
            | Code::NotFound
            | Code::MethodNotAllowed
            | Code::Forbidden
            | Code::Conflict
            | Code::TooLarge
            | Code::MediaType
            | Code::Internal => None,
        };
        if let Some((name, value)) = more {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cursor => Self::new(Code::InvalidQuery, format!("`cursor`: {error}")),
            StoreError::Database(_)
            | StoreError::ClickHouse(_)
            | StoreError::Schema { .. }
            | StoreError::Stopped => {
                tracing::warn!(%error, "events cannot be read");
                let message = "the event store cannot be read; check that the audit ingest runs, and ClickHouse if events \
                               are kept there, then try again";
                Self::new(Code::Unavailable, message)
            }
        }
    }
}

impl From<ResourceError> for ApiError {
    fn from(error: ResourceError) -> Self {
        match error {
            ResourceError::NotFound { .. } => Self::new(Code::NotFound, error.to_string()),
            ResourceError::Invalid(problems) => Self::fields(&problems),
            ResourceError::Conflict(message) => Self::new(Code::Conflict, message),
            ResourceError::Forbidden(message) => Self::new(Code::Forbidden, message),
            ResourceError::Unavailable(message) => {
                tracing::warn!(message, "resources cannot be reached");
                Self::new(Code::Unavailable, message)
            }
            ResourceError::Files { .. } | ResourceError::Stopped => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, "resources cannot be reached");
                let message = "the directory of manifests cannot be read or written; check that it is there, and who may write it";
                Self::new(Code::Unavailable, message)
            }
            ResourceError::Unrepresentable(_) => {
                tracing::error!(%error, "a resource cannot be written");
                Self::new(Code::Internal, "the object cannot be written as a manifest; nothing was changed")
            }
        }
    }
}

//! What requests carry: JSON bodies, query parameters, names in paths.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use sallyport_api::manifest::is_dns_name;
use sallyport_policy::ObjectId;
use serde_json::{Map, Value};

use crate::app::App;
use crate::error::{ApiError, Code};

/// Largest body, in bytes.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// Longest wait for enforcement, and the one without `wait`.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);
const DEFAULT_WAIT: Duration = Duration::from_secs(5);

/// A body that is a JSON object.
#[derive(Debug)]
pub(crate) struct JsonObject(pub(crate) Map<String, Value>);

impl FromRequest<App> for JsonObject {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &App) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(Code::MediaType, "send the body as content-type: application/json"));
        }
        let body =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    ApiError::new(Code::TooLarge, format!("the body is larger than {MAX_BODY} bytes"))
                }
                _ => ApiError::new(Code::InvalidBody, "the body ended before it was whole"),
            })?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(object)) => Ok(Self(object)),
            Ok(_) => Err(ApiError::new(Code::InvalidBody, "the body must be a JSON object")),
            // The error names line and column.
            Err(error) => Err(ApiError::new(Code::InvalidBody, format!("the body is not JSON: {error}"))),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = value.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/json")
}

/// Query parameters, each known and given once.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl FromRequestParts<App> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &App) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        query
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| ApiError::new(Code::InvalidQuery, error.body_text()))
    }
}

impl Params {
    /// Refuses parameters that are not `known`: one misspelt must not silently widen an answer.
    pub(crate) fn only(self, known: &[&str]) -> Result<Self, ApiError> {
        let refuse = |message| Err(ApiError::new(Code::InvalidQuery, message));
        for (index, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                return refuse(format!("`{name}` is not a parameter here; there are: {known}"));
            }
            if self.0.iter().take(index).any(|(other, _)| other == name) {
                return refuse(format!("`{name}` is given twice"));
            }
        }
        Ok(self)
    }

    /// Refuses parameters that a route does not describe: `known` are names, each with its meaning.
    pub(crate) fn described(self, known: &[(&str, &str)]) -> Result<Self, ApiError> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        self.only(&names)
    }

    /// A parameter that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// A parameter that must be there.
    pub(crate) fn require(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| ApiError::new(Code::InvalidQuery, format!("`{name}` is missing")))
    }

    /// `limit`: 1 to 1000, by default 100.
    pub(crate) fn limit(&self) -> Result<u32, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(100) };
        let wrong =
            || ApiError::new(Code::InvalidQuery, format!("`limit` is `{text}`; must be from 1 to 1000"));
        text.parse().ok().filter(|limit| (1..=1000).contains(limit)).ok_or_else(wrong)
    }

    /// `wait`: like `5s`, `250ms` or a number of seconds, at most a minute.
    pub(crate) fn wait(&self) -> Result<Duration, ApiError> {
        let Some(text) = self.get("wait") else { return Ok(DEFAULT_WAIT) };
        let parsed = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(number), _) => number.parse().ok().map(Duration::from_millis),
            (None, Some(number)) => number.parse().ok().map(Duration::from_secs),
            (None, None) => text.parse().ok().map(Duration::from_secs),
        };
        let wrong = || {
            ApiError::new(
                Code::InvalidQuery,
                format!("`wait` is `{text}`; must be like 5s, 250ms or 0, at most 60s"),
            )
        };
        parsed.filter(|wait| *wait <= LONGEST_WAIT).ok_or_else(wrong)
    }
}

/// `{namespace}/{name}` of a path.
#[derive(Debug)]
pub(crate) struct Named(pub(crate) ObjectId);

impl FromRequestParts<App> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &App) -> Result<Self, ApiError> {
        let wrong = |message: String| ApiError::new(Code::InvalidPath, message);
        let Path((namespace, name)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|error| wrong(error.body_text()))?;
        for (field, value) in [("namespace", &namespace), ("name", &name)] {
            if !is_dns_name(value) {
                return Err(wrong(format!(
                    "{field} `{value}` must be lower-case letters, digits, `-` and `.`"
                )));
            }
        }
        Ok(Self(ObjectId::new(namespace, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        Params(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn waits_are_read() {
        let wait = |text| params(&[("wait", text)]).wait().ok();
        assert_eq!(params(&[]).wait(), Ok(Duration::from_secs(5)));
        assert_eq!(wait("0"), Some(Duration::ZERO));
        assert_eq!(wait("0s"), Some(Duration::ZERO));
        assert_eq!(wait("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(wait("60s"), Some(Duration::from_secs(60)));
        assert_eq!(wait("5"), Some(Duration::from_secs(5)));
        for wrong in ["61s", "61", "-1s", "s", "1h", "ms", "+ 1"] {
            assert_eq!(wait(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn unknown_and_repeated_parameters_are_refused() {
        assert!(params(&[("a", "1")]).only(&["a"]).is_ok());
        assert!(params(&[("b", "1")]).only(&["a"]).unwrap_err().message.contains("`b`"));
        assert!(params(&[("a", "1"), ("a", "2")]).only(&["a"]).unwrap_err().message.contains("twice"));
    }
}

//! API keys.

use std::path::Path;

use anyhow::Context;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use sallyport_runtime::tokens;

use crate::error::ApiError;
use crate::state::AppState;

/// Digests of the keys that are valid; the keys themselves are not kept.
#[derive(Clone)]
pub(crate) struct ApiKeys(Vec<String>);

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl ApiKeys {
    /// The keys of a file, and of `listed`, separated by commas.
    pub(crate) fn load(file: Option<&Path>, listed: Option<&str>) -> anyhow::Result<Self> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("cannot read API keys in {}", path.display()))?,
            None => String::new(),
        };
        let from_file = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let keys = from_file
            .chain(listed.unwrap_or_default().split(',').map(str::trim))
            .filter(|key| !key.is_empty());
        let digests: Vec<String> = keys.map(tokens::digest).collect();
        anyhow::ensure!(!digests.is_empty(), "no API keys: give --api-keys-file or SALLYPORT_API_KEYS");
        Ok(Self(digests))
    }

    /// Every key is compared, so that the time tells nothing.
    fn know(&self, presented: &str) -> bool {
        self.0.iter().fold(false, |known, digest| known | tokens::matches(presented, digest))
    }
}

/// Lets pass who presents a key.
pub(crate) async fn check(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let presented =
        request.headers().get("x-api-key").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if state.keys.know(presented) { Ok(next.run(request).await) } else { Err(ApiError::unauthorized()) }
}

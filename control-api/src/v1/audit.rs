//! The record's proof: chains, checkpoints, and how far they are.

pub(super) mod chains;
pub(super) mod checkpoints;
pub(super) mod integrity;
pub(super) mod spans;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sallyport_event_store::ChainName;
use serde_json::{Map, Value};

use crate::error::{ApiError, Code};
use crate::input::Params;

/// A number that is given; none: it is not.
fn number<T: std::str::FromStr>(params: &Params, name: &str) -> Result<Option<T>, ApiError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let wrong = || ApiError::new(Code::InvalidQuery, format!("`{name}` is `{text}`; must be a number"));
    text.parse().map(Some).map_err(|_| wrong())
}

fn base64(bytes: &[u8]) -> Value {
    STANDARD.encode(bytes).into()
}

/// Fields of a chain; its epoch is text, as it is beyond what JSON's readers hold exactly.
fn chain(name: &ChainName) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("proxy".into(), name.proxy.as_str().into());
    fields.insert("worker".into(), name.worker.into());
    fields.insert("epoch".into(), name.epoch.to_string().into());
    fields
}

//! What handlers share.

use std::sync::Arc;

use sallyport_event_store::EventStore;

use crate::auth::ApiKeys;
use crate::directory::Directory;
use crate::enforcement::Operator;

/// Shared by all handlers.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) keys: ApiKeys,
    pub(crate) directory: Arc<Directory>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) operator: Operator,
}

//! Traces of changes: from the change to the last filter's answer, and each push on the way.
//!
//! ```text
//!   operator.change ─▶ operator.propagate (until every filter has answered)
//!                         └─▶ operator.push (one stream: from sending to its answer)
//! ```
//!
//! No span is kept where nothing is traced.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::Span;
use tracing::field::Empty;

/// Changes on their way; beyond it the oldest are not traced to their end.
const OUTSTANDING: usize = 4096;

/// A span for each change that not every filter has answered, by its number.
#[derive(Clone, Debug, Default)]
pub struct Underway(Arc<Mutex<BTreeMap<u64, Span>>>);

impl Underway {
    /// A change begins its way to the filters, as part of the current span.
    pub(crate) fn begin(&self, change: u64) {
        let span = tracing::debug_span!("operator.propagate", change);
        if span.is_disabled() {
            return;
        }
        let mut underway = self.lock();
        underway.insert(change, span);
        if underway.len() > OUTSTANDING {
            underway.pop_first();
        }
    }

    /// Every filter has answered the changes up to this one.
    pub fn end(&self, change: u64) {
        self.lock().retain(|underway, _| *underway > change);
    }

    /// A response to `node` that brings changes after `sent`: part of the newest of them, after the others.
    pub(crate) fn push(&self, sent: u64, node: &str, type_url: &str) -> Span {
        let underway = self.lock();
        let mut changes = underway.range(sent.saturating_add(1)..).rev().map(|(_, span)| span);
        let Some(newest) = changes.next() else {
            return Span::none();
        };
        let kind = type_url.rsplit(['.', '/']).next().unwrap_or(type_url);
        let span =
            tracing::debug_span!(parent: newest, "operator.push", node, r#type = kind, outcome = Empty);
        for earlier in changes {
            span.follows_from(earlier);
        }
        span
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Span>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The validating webhook: what the schema cannot see, because it takes other objects or the requester's rights.
//!
//! ```text
//!   AdmissionReview ─▶ Request ─▶ examine ─▶ Findings ─▶ ask the API server ─▶ decide ─▶ AdmissionReview
//!                                   pure       needs        (SubjectAccessReview)  pure
//! ```
//!
//! What does not take effect but does no harm is a warning, and status says it as well; what would harm others, or what the
//! requester may not do, is refused. When a right cannot be asked for, the request is refused and may be repeated. Switching
//! something off never comes here: the webhook's `matchConditions` let it pass, so that it works while the operator is down.

mod access;
mod ask;
mod findings;
mod metrics;
mod request;
mod review;
mod server;
mod webhook;
mod world;

pub use ask::{Ask, KubeAsk};
pub use findings::{Answer, Findings, Need, Question, Right};
pub use metrics::AdmissionMetrics;
pub use request::{Operation, Request, Unreadable};
pub use review::{Denial, Rules, Verdict, World, decide, examine};
pub(crate) use webhook::run;
pub use webhook::{Webhook, router, serve};

#[cfg(test)]
mod tests;

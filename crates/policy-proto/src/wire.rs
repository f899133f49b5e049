//! Versions of what control plane and filters tell each other.
//!
//! Within a version fields are only added, and what is absent means what it meant before. A field that an older filter must
//! not overlook makes a new version; a configuration says which one it needs ([`v1::FilterConfig::needs`]).
//!
//! | Version | Adds |
//! |---|---|
//! | 1 | everything before |
//! | 2 | `FilterConfig.needs`; `FilterConfig.proxy` may be empty: the proxy is called what Envoy is called (`node.id`) |
//! | 3 | `Server.audit_arguments` other than a digest, with `audit_redact` and `audit_max_argument_bytes` |
//!
//! A filter tells its version when it subscribes (`node.user_agent_version`; one that does not is of version 1). A control
//! plane ends the stream of a filter that is too old, which so never has a complete state and denies; a filter refuses a
//! configuration that needs more than it knows, and keeps the one before. Neither allows anything.

use alloc::string::ToString;

use crate::discovery::Node;
use crate::v1;

/// The version of this code.
pub const VERSION: u32 = 3;
/// What a filter calls itself in `node.user_agent_name`.
pub const FILTER: &str = "sallyport-filter";

/// How a filter that is called `id` introduces itself.
pub fn introduction(id: &str) -> Node {
    Node {
        id: id.to_string(),
        user_agent_name: FILTER.to_string(),
        user_agent_version: VERSION.to_string(),
        ..Node::default()
    }
}

/// The version of a filter that introduces itself as `name` and `version`. What cannot be read is the oldest.
pub fn of_filter(name: &str, version: &str) -> u32 {
    if name == FILTER { version.parse().unwrap_or(1) } else { 1 }
}

/// The oldest version that does what `config` says.
pub fn needed(config: &v1::FilterConfig) -> u32 {
    let digest = [v1::AuditArguments::Unspecified, v1::AuditArguments::Digest].map(i32::from);
    if config.servers.iter().any(|server| !digest.contains(&server.audit_arguments)) {
        3
    } else if config.proxy.is_empty() {
        2
    } else {
        1
    }
}

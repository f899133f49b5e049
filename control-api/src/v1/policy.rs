//! Policy: as proxies get it, and what it says of a request.

pub(super) mod explain;
pub(super) mod get;

use sallyport_policy::{EnforceOn, Mode, ServerPolicy};
use serde_json::{Value, json};

/// How calls to a server are decided.
pub(super) fn rules(policy: &ServerPolicy) -> Value {
    let mode = match policy.mode {
        Mode::AllowList => "allow-list",
        Mode::Observe => "observe",
    };
    let enforce_on = match policy.enforce_on {
        EnforceOn::CallTool => "call_tool",
        EnforceOn::All => "all",
    };
    let default = if policy.default_allow { "allow" } else { "deny" };
    json!({
        "mode": mode, "defaultDecision": default, "enforceOn": enforce_on, "policyVersion": policy.policy_version,
    })
}

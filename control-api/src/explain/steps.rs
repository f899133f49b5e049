//! The steps of an evaluation, for people and programs.

use sallyport_filter_core::judge::{Judgement, Ruling};
use sallyport_mcp_wire::Fault;
use sallyport_policy::{Outcome, Reason, SideEffect, Step};
use serde_json::{Value, json};

/// The steps of the verdict; where there is none, why the request could not be read. `unjudged_idle`: the seconds of
/// the server's idle timeout, where nothing is known of the session's last use.
pub(super) fn tell(judgement: &Judgement<'_>, steps: &[Step], unjudged_idle: Option<u64>) -> Value {
    match &judgement.ruling {
        Ruling::Verdict(_) => steps.iter().map(|told| step(told, unjudged_idle)).collect(),
        Ruling::Fault(fault) => {
            let (reason, detail) = (fault.as_str(), Fault::message(*fault));
            json!([{ "step": "read", "outcome": "fail", "reason": reason, "detail": detail }])
        }
    }
}

fn step(step: &Step, unjudged_idle: Option<u64>) -> Value {
    match step {
        Step::Governed(true) => passed("governed", "the method needs a grant"),
        Step::Governed(false) => passed("governed", "the method needs no grant"),
        Step::Identity(outcome) => judged("identity", *outcome, "the caller is named", "nobody is named"),
        Step::Session { id: None, outcome } => {
            judged("session", *outcome, "none was presented, and none is needed", "none was presented")
        }
        Step::Session { id: Some(id), outcome } => {
            let idle = unjudged_idle.map_or_else(String::new, |seconds| {
                format!(
                    "; each proxy judges by what it saw whether it was idle for {seconds} s (see `last_used`)"
                )
            });
            let good = format!("`{id}` is live and the caller's{idle}");
            let bad = format!("`{id}` does not count");
            judged("session", *outcome, &good, &bad)
        }
        Step::Inventory { required_trust, side_effect, outcome } => {
            let effect = side_effect.map_or("unknown", SideEffect::as_str);
            let detail = format!("required trust {}, side effect {effect}", required_trust.as_str());
            judged("inventory", *outcome, &detail, &detail)
        }
        Step::Grant { id, required_trust, effective_trust, outcome } => {
            let (required, effective) = (required_trust.as_str(), effective_trust.as_str());
            let detail = format!("`{id}`: required trust {required}, effective trust {effective}");
            let mut told = judged("grant", *outcome, &detail, &detail);
            if let Some(fields) = told.as_object_mut() {
                fields.insert("grant".into(), id.as_str().into());
            }
            told
        }
        Step::Default { allow: true } => passed("default", "no grant decides, and defaultDecision is allow"),
        Step::Default { allow: false } => {
            json!({ "step": "default", "outcome": "fail", "detail": "no grant decides, and defaultDecision is deny" })
        }
        Step::Observed(reason) => {
            let detail = format!("mode observe lets pass what would be denied: {}", reason.as_str());
            json!({ "step": "observe", "outcome": "pass", "reason": reason.as_str(), "detail": detail })
        }
    }
}

fn passed(name: &str, detail: &str) -> Value {
    json!({ "step": name, "outcome": "pass", "detail": detail })
}

fn judged(name: &str, outcome: Outcome, good: &str, bad: &str) -> Value {
    match outcome {
        Outcome::Pass => passed(name, good),
        Outcome::Fail(reason) => failed(name, reason, bad),
    }
}

fn failed(name: &str, reason: Reason, detail: &str) -> Value {
    let detail = format!("{detail}; {}", reason.remedy());
    json!({ "step": name, "outcome": "fail", "reason": reason.as_str(), "detail": detail })
}

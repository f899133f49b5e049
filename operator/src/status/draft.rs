//! Conditions as they are decided, before they have a time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::remembered::Remembered;

/// Longest message, in characters: the API's bound is 32,768, and nobody reads as much.
const LONGEST_MESSAGE: usize = 1024;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verity {
    True,
    False,
    Unknown,
}

impl Verity {
    /// As the API has it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    /// From the API; what it does not know is unknown.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) kind: &'static str,
    pub(crate) status: Verity,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Draft {
    pub(crate) fn yes(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: Verity::True, reason, message: message.into() }
    }

    pub(crate) fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: Verity::False, reason, message: message.into() }
    }

    pub(crate) fn unknown(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: Verity::Unknown, reason, message: message.into() }
    }

    pub(crate) fn is_true(&self) -> bool {
        self.status == Verity::True
    }
}

/// The conditions with their times: one whose status did not change keeps its own.
pub(crate) fn conditions(
    drafts: Vec<Draft>,
    generation: Option<i64>,
    before: Option<&Remembered>,
    now: Timestamp,
) -> Vec<Condition> {
    let finish = |draft: Draft| {
        let held = before.and_then(|before| before.condition(draft.kind));
        let since =
            held.filter(|held| held.status == draft.status).map_or(now.as_second(), |held| held.since);
        Condition {
            last_transition_time: Time(Timestamp::from_second(since).unwrap_or(now)),
            message: draft.message.chars().take(LONGEST_MESSAGE).collect(),
            observed_generation: generation,
            reason: draft.reason.into(),
            status: draft.status.as_str().into(),
            type_: draft.kind.into(),
        }
    };
    drafts.into_iter().map(finish).collect()
}

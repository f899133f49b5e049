//! The path of a verdict, step by step, for whoever asks why. The hot path passes `()`, which costs nothing.

use alloc::string::String;
use alloc::vec::Vec;

use crate::{Reason, SideEffect, Trust};

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It speaks for the call.
    Pass,
    /// It decides against the call, or does not carry it, for this reason.
    Fail(Reason),
}

/// One step of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Whether the method needs a grant at all.
    Governed(bool),
    /// Whether the caller is known.
    Identity(Outcome),
    /// The presented session, or that there is none.
    Session {
        /// Its id as presented; none: none.
        id: Option<String>,
        /// Whether it is live and the caller's.
        outcome: Outcome,
    },
    /// Whether the server declares what is called.
    Inventory {
        /// Trust the item requires.
        required_trust: Trust,
        /// What it does; none: not declared.
        side_effect: Option<SideEffect>,
        /// Whether it may be called at all.
        outcome: Outcome,
    },
    /// One grant whose subject matches.
    Grant {
        /// `namespace/name`.
        id: String,
        /// Trust the tool and the grant's rule require together.
        required_trust: Trust,
        /// The smaller of granted and consented trust.
        effective_trust: Trust,
        /// Whether this grant alone would allow.
        outcome: Outcome,
    },
    /// No grant decided; the server's `defaultDecision` does.
    Default {
        /// It allows.
        allow: bool,
    },
    /// `mode: observe` let the call pass although it would be denied.
    Observed(Reason),
}

/// Takes the steps of an evaluation.
pub trait Trace {
    /// One step; built only if wanted.
    fn step(&mut self, step: impl FnOnce() -> Step);
}

impl Trace for () {
    fn step(&mut self, _: impl FnOnce() -> Step) {}
}

impl Trace for Vec<Step> {
    fn step(&mut self, step: impl FnOnce() -> Step) {
        self.push(step());
    }
}

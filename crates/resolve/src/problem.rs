//! What is wrong with a resource beyond its schema.

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, and probably not as meant.
    Warning,
    /// It has no effect.
    Error,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Field, as `spec.tools[2].sideEffect`.
    pub path: String,
    /// A stable word in the form of condition reasons.
    pub reason: &'static str,
    /// What, and how to mend it.
    pub message: String,
}

impl Problem {
    /// It works, and probably not as meant.
    pub fn warning(path: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, path: path.into(), reason, message: message.into() }
    }

    /// It has no effect.
    pub fn error(path: impl Into<String>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, path: path.into(), reason, message: message.into() }
    }
}

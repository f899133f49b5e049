//! What a request calls for before it can be allowed.

use std::fmt;

use sallyport_resolve::Problem;

/// Something that the requester may be allowed to do in the request's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// Verb, ours or Kubernetes'.
    pub verb: &'static str,
    /// API group; empty: the core's.
    pub group: &'static str,
    /// Resource, in the plural.
    pub resource: &'static str,
    /// Name; empty: every object.
    pub name: String,
}

impl Right {
    /// To read every Secret, or the one of this name.
    pub fn to_read_secret(name: &str) -> Self {
        Self { verb: "get", group: "", resource: "secrets", name: name.into() }
    }

    /// To use a privileged field of a server.
    pub fn on_server(verb: &'static str, name: &str) -> Self {
        Self { verb, group: sallyport_api::GROUP, resource: "mcpservers", name: name.into() }
    }

    /// To undo a revocation.
    pub fn to_unrevoke(name: &str) -> Self {
        let resource = "mcpagentsessions";
        Self { verb: "unrevoke", group: sallyport_api::GROUP, resource, name: name.into() }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource, name } = self;
        write!(f, "`{verb}` on {resource}")?;
        if !group.is_empty() {
            write!(f, ".{group}")?;
        }
        if name.is_empty() { Ok(()) } else { write!(f, " `{name}`") }
    }
}

/// A question to the API server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// Whether the requester may do this.
    May(Right),
    /// Whether the request's namespace is being deleted.
    NamespaceIsGoing,
}

/// What the API server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// It could not be asked, or did not answer in time.
    Unknown,
}

/// One of the questions must be answered with yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The questions, the likeliest first.
    pub any_of: Vec<Question>,
    /// What is wrong if none is.
    pub otherwise: Problem,
}

/// What was found in a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Why it is refused.
    pub errors: Vec<Problem>,
    /// What its sender should know.
    pub warnings: Vec<Problem>,
    /// What it takes beside.
    pub needs: Vec<Need>,
}

impl Findings {
    /// It takes this right.
    pub(super) fn need(&mut self, right: Right, path: &str, reason: &'static str, why: &str) {
        let otherwise = Problem::error(path, reason, format!("{why} takes {right}, which you do not have"));
        self.needs.push(Need { any_of: vec![Question::May(right)], otherwise });
    }
}

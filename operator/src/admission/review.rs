//! The verdict on a request.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use sallyport_api::Object;
use sallyport_api::v1alpha1::MCPServer;
use sallyport_policy::ObjectId;
use sallyport_resolve::Problem;

use crate::render::Settings;

use super::access;
use super::findings::{Answer, Findings, Need, Question};
use super::request::{Operation, Request};
use super::server;

/// The other objects.
pub trait World: Send + Sync {
    /// A server.
    fn server(&self, id: &ObjectId) -> Option<Arc<MCPServer>>;
    /// Another server whose place excludes that of this one.
    fn in_the_way(&self, server: &MCPServer) -> Option<ObjectId>;
}

/// What the platform demands.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// How servers are rendered.
    pub settings: &'a Settings,
    /// When the request came.
    pub now: Timestamp,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It is wrong, or not allowed.
    Refused(Vec<Problem>),
    /// Whether it is allowed could not be asked; it may be repeated.
    Unavailable(Vec<Problem>),
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// None: it is allowed.
    pub denial: Option<Denial>,
    /// What its sender should know.
    pub warnings: Vec<Problem>,
}

/// What is to be said of a request, and what must be asked before it can be allowed.
pub fn examine(request: &Request, rules: &Rules<'_>, world: &dyn World) -> Findings {
    let mut findings = Findings::default();
    match (request.operation, &request.object, &request.old) {
        (Operation::Delete, _, Some(Object::Session(session))) => {
            access::examine_deletion(request, session, rules, &mut findings);
        }
        (Operation::Create | Operation::Update, Some(Object::Server(new)), old) => {
            let old = match old {
                Some(Object::Server(old)) => Some(old.as_ref()),
                Some(Object::Grant(_) | Object::Session(_)) | None => None,
            };
            server::examine(request, new, old, rules, world, &mut findings);
        }
        (Operation::Create | Operation::Update, Some(Object::Grant(new)), _) => {
            access::examine_grant(new, world, &mut findings);
        }
        (Operation::Create | Operation::Update, Some(Object::Session(new)), old) => {
            let old = match old {
                Some(Object::Session(old)) => Some(old.as_ref()),
                Some(Object::Server(_) | Object::Grant(_)) | None => None,
            };
            access::examine_session(request, new, old, rules, world, &mut findings);
        }
        (Operation::Delete, _, None) => {
            // INVARIANT (fail closed): what cannot be read may be a session that is revoked.
            access::examine_unreadable_deletion(request, &mut findings);
        }
        // Nothing stands in the way of deleting servers and grants.
        (Operation::Delete, _, Some(Object::Server(_) | Object::Grant(_))) => {}
        (Operation::Connect, _, _) | (Operation::Create | Operation::Update, None, _) => {
            let message = "has no object to judge";
            findings.errors.push(Problem::error("", "Unreadable", message));
        }
    }
    findings
}

/// The verdict, with the answers to all questions of the findings' needs.
pub fn decide(findings: Findings, answers: &BTreeMap<Question, Answer>) -> Verdict {
    let Findings { errors, warnings, needs } = findings;
    let answer = |question: &Question| answers.get(question).copied().unwrap_or(Answer::Unknown);
    let is_met = |need: &Need| need.any_of.iter().any(|question| answer(question) == Answer::Yes);
    let is_open = |need: &Need| need.any_of.iter().any(|question| answer(question) == Answer::Unknown);
    let unmet: Vec<Need> = needs.into_iter().filter(|need| !is_met(need)).collect();
    let (open, missing): (Vec<Need>, Vec<Need>) = unmet.into_iter().partition(is_open);
    let problems = |needs: Vec<Need>| needs.into_iter().map(|need| need.otherwise);
    let refused: Vec<Problem> = errors.into_iter().chain(problems(missing)).collect();
    let denial = match (refused.is_empty(), open.is_empty()) {
        (false, _) => Some(Denial::Refused(refused)),
        (true, false) => Some(Denial::Unavailable(problems(open).collect())),
        (true, true) => None,
    };
    Verdict { denial, warnings }
}

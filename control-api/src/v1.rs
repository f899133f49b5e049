//! Version 1: one table of routes, from which the router and the OpenAPI document are made.

mod access;
mod audit;
mod components;
mod dashboard;
mod events;
mod grants;
mod health;
mod policy;
mod servers;
mod sessions;

pub(crate) use access::problem;

use axum::routing::MethodRouter;

use crate::app::App;
use crate::error::Code;

/// Method of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Reads.
    Get,
    /// Makes, changes or asks with a body.
    Post,
    /// Changes some fields.
    Patch,
}

impl Verb {
    /// As OpenAPI has it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
            Self::Patch => "patch",
        }
    }
}

/// One route.
#[derive(Debug)]
pub(crate) struct Route {
    /// Its method.
    pub(crate) verb: Verb,
    /// Its path below `/api` and `/api/v1`, or below `/` if it begins with `//`.
    pub(crate) path: &'static str,
    /// Group in the document.
    pub(crate) tag: &'static str,
    /// What it does.
    pub(crate) summary: &'static str,
    /// Query parameters with what they mean.
    pub(crate) query: &'static [(&'static str, &'static str)],
    /// Schema of the body.
    pub(crate) body: Option<&'static str>,
    /// Statuses of success with the schema of each.
    pub(crate) answers: &'static [(u16, &'static str)],
    /// Errors of its own, beside a missing key and an overloaded process.
    pub(crate) errors: &'static [Code],
    /// Needs no key.
    pub(crate) is_open: bool,
    /// What it runs.
    pub(crate) handler: fn() -> MethodRouter<App>,
}

impl Route {
    /// The path below `/`, if it is not one of the API's.
    pub(crate) fn root_path(&self) -> Option<&'static str> {
        self.path.strip_prefix('/').filter(|rest| rest.starts_with('/'))
    }

    /// Every path it is served at.
    pub(crate) fn paths(&self) -> Vec<String> {
        match self.root_path() {
            Some(path) => vec![path.to_string()],
            None => ["/api", "/api/v1"].map(|base| format!("{base}{}", self.path)).to_vec(),
        }
    }
}

/// Every route.
pub(crate) const ROUTES: &[Route] = &[
    servers::list::ROUTE,
    servers::get::ROUTE,
    grants::list::ROUTE,
    grants::get::ROUTE,
    grants::apply::ROUTE,
    grants::patch::ROUTE,
    grants::enable::ROUTE,
    grants::disable::ROUTE,
    sessions::list::ROUTE,
    sessions::get::ROUTE,
    sessions::apply::ROUTE,
    sessions::patch::ROUTE,
    sessions::revoke::ROUTE,
    sessions::unrevoke::ROUTE,
    policy::get::ROUTE,
    policy::explain::ROUTE,
    components::list::ROUTE,
    events::list::ROUTE,
    events::filter::ROUTE,
    events::stream::ROUTE,
    events::stats::ROUTE,
    events::sources::ROUTE,
    events::types::ROUTE,
    events::usage::ROUTE,
    audit::integrity::ROUTE,
    audit::checkpoints::ROUTE,
    audit::spans::ROUTE,
    audit::chains::ROUTE,
    dashboard::summary::ROUTE,
    health::LIVE,
    health::READY,
    health::DOCUMENT,
    health::DOCUMENT_YAML,
];

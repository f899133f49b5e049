//! From what is seen of an object to what is to be written of it.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use kube::core::ObjectMeta;
use sallyport_api::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};
use sallyport_policy::ObjectId;
use sallyport_resolve::Problem;
use serde_json::Value;

use super::access::{AccessFacts, Standing, access_status};
use super::queue::Lane;
use super::reach::Reach;
use super::remembered::Remembered;
use super::server::{ServerFacts, server_status};
use super::transition::{self, Transition};
use super::workload::{IngressReadiness, Revisions, Workload};

/// A server as it was last seen.
#[derive(Clone, Debug)]
pub(crate) struct SeenServer {
    pub(crate) server: Arc<MCPServer>,
    pub(crate) workload: Workload,
    pub(crate) rollout: Revisions,
    /// Revision of its policy.
    pub(crate) revision: String,
}

/// An object as it was last seen.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Server(Box<SeenServer>),
    Grant(Arc<MCPAccessGrant>),
    Session(Arc<MCPAgentSession>),
}

/// An object with what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) subject: Subject,
    pub(crate) problems: Vec<Problem>,
    /// The server that it is, or names.
    pub(crate) server: ObjectId,
    /// That server has a gateway.
    pub(crate) is_governed: bool,
    /// Pods of that server that take calls, as the cluster says.
    pub(crate) available: usize,
}

impl Seen {
    pub(crate) fn metadata(&self) -> &ObjectMeta {
        match &self.subject {
            Subject::Server(seen) => &seen.server.metadata,
            Subject::Grant(grant) => &grant.metadata,
            Subject::Session(session) => &session.metadata,
        }
    }

    /// The status that it has.
    pub(crate) fn written(&self) -> Option<Remembered> {
        match &self.subject {
            Subject::Server(seen) => Remembered::of_server(seen.server.status.as_ref()?),
            Subject::Grant(grant) => Remembered::of_access(grant.status.as_ref()?),
            Subject::Session(session) => Remembered::of_access(session.status.as_ref()?),
        }
    }
}

/// What is to be told of an object.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    /// The status, as JSON.
    pub(crate) status: Value,
    /// The same, as it will be remembered.
    pub(crate) next: Remembered,
    /// It differs from what is written.
    pub(crate) is_news: bool,
    /// No acknowledgement that is missing can change it.
    pub(crate) is_settled: bool,
    /// It tells of fewer proxies than the one before.
    pub(crate) loses_proxies: bool,
    /// How soon it must be written.
    pub(crate) lane: Lane,
    /// Events to tell with it.
    pub(crate) told: Vec<Transition>,
    /// The status that it follows.
    pub(crate) episode: u64,
}

/// Decides at `now`, with what was written `before`. `is_backlog`: nothing happened to the object, it merely has not been
/// looked at before. None: the status cannot be put as JSON, which none of ours can be.
pub(crate) fn decide(
    seen: &Seen,
    reach: Reach,
    before: Option<&Remembered>,
    is_backlog: bool,
    ingress_readiness: IngressReadiness,
    now: Timestamp,
) -> Option<Decision> {
    let episode = before.map_or(0, Remembered::episode);
    let generation = seen.metadata().generation;
    let standing = match &seen.subject {
        Subject::Server(of) => {
            let SeenServer { server, workload, rollout, revision } = &**of;
            let is_settled = !seen.is_governed || reach.of == 0 || reach.is_complete();
            let told = before.and_then(|before| before.enforced);
            let loses_proxies = told.is_some_and(|(enforced, _)| enforced > reach.enforced);
            let (problems, reach) = (&seen.problems, &reach);
            let facts = ServerFacts {
                server,
                problems,
                workload,
                ingress_readiness,
                reach,
                revision,
                rollout: *rollout,
            };
            let status = server_status(&facts, before, now);
            let next = Remembered::of_server(&status)?;
            return Some(Decision {
                is_news: !before.is_some_and(|before| before.tells_the_same_as(&next)),
                is_settled,
                loses_proxies,
                lane: Lane::Urgent,
                told: transition::of_server(before, &status),
                status: serde_json::to_value(&status).ok()?,
                next,
                episode,
            });
        }
        Subject::Grant(grant) => Standing::of_grant(grant),
        Subject::Session(session) => Standing::of_session(session, now),
    };
    let facts =
        AccessFacts { generation, standing, problems: &seen.problems, is_governed: seen.is_governed, reach };
    let (status, is_settled) = access_status(&facts, before, now);
    let next = Remembered::of_access(&status)?;
    let is_first_generation = generation.is_none_or(|generation| generation <= 1);
    let must_be_seen = standing.is_withdrawn() && !is_backlog;
    Some(Decision {
        is_news: !before.is_some_and(|before| before.tells_the_same_as(&next)),
        is_settled,
        // A server's tells who is there, a grant's or session's who took it in.
        loses_proxies: false,
        lane: if must_be_seen { Lane::Urgent } else { Lane::Patient },
        told: transition::of_access(before, &status, is_first_generation),
        status: serde_json::to_value(&status).ok()?,
        next,
        episode,
    })
}

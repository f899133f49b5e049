//! The cluster, as statuses are decided from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use sallyport_api::Kind;
use sallyport_api::v1alpha1::{MCPAgentSession, MCPServer};
use sallyport_api::words::access_phase;
use sallyport_operator_index::{Index, Key};
use sallyport_operator_xds::{self as xds, Obstacle, Progress};
use sallyport_policy::ObjectId;
use sallyport_resolve::{Problem, object_id};

use super::decide::{Seen, SeenServer, Subject};
use super::reach::{Laggard, Reach};
use super::workload::{Revisions, Workload};
use super::writer::View;
use crate::collect::{self, Sessions};
use crate::kubernetes::Hub;
use crate::lock::lock;

/// What became of a server's objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Made {
    pub(crate) workload: Workload,
    pub(crate) rollout: Revisions,
    /// What is wrong beside what resolving finds.
    pub(crate) problems: Vec<Problem>,
}

/// Tells what became of a server's objects; none: nobody has looked yet.
pub(crate) type Workshop = Arc<dyn Fn(&ObjectId) -> Option<Made> + Send + Sync>;

/// The cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) hub: Hub,
    pub(crate) workshop: Workshop,
}

impl Cluster {
    fn server(&self, index: &Index, id: &ObjectId) -> Option<Seen> {
        let server = index.server(id)?.clone();
        let Made { workload, rollout, problems } = (self.workshop)(id)?;
        let mut all = index.problems().get(&(Kind::Server, id.clone())).cloned().unwrap_or_default();
        all.extend(problems);
        let available = workload.available();
        let revision = index.policy_revision(id).unwrap_or_default().to_string();
        let of = SeenServer { revision, server, workload, rollout };
        Some(Seen {
            is_governed: is_governed(&of.server),
            subject: Subject::Server(Box::new(of)),
            problems: all,
            server: id.clone(),
            available,
        })
    }

    fn access(&self, index: &Index, key: &Key) -> Option<Seen> {
        let subject = match key.0 {
            Kind::Grant => Subject::Grant(index.grant(&key.1)?.clone()),
            Kind::Session => Subject::Session(index.session(&key.1)?.clone()),
            Kind::Server => return None,
        };
        let server = index.named_by(key)?.clone();
        let problems = index.problems().get(key).cloned().unwrap_or_default();
        Some(Seen {
            subject,
            problems,
            is_governed: index.server(&server).is_none_or(|server| is_governed(server)),
            available: (self.workshop)(&server).map_or(0, |made| made.workload.available()),
            server,
        })
    }
}

fn is_governed(server: &MCPServer) -> bool {
    server.spec.gateway.as_ref().is_some_and(|gateway| gateway.enabled)
}

/// Proxies that refused have a reason to tell; of the others it is known only that they lag.
fn reach(progress: Progress) -> Reach {
    let laggard = |laggard: xds::Laggard| {
        let refused = match laggard.obstacle {
            Obstacle::Refused(reason) => Some(reason),
            Obstacle::Silent | Obstacle::Ended | Obstacle::Filterless | Obstacle::Partial { .. } => None,
        };
        Laggard { proxy: laggard.name, refused }
    };
    let pending = progress.pending.into_iter().map(laggard).collect();
    Reach { enforced: progress.enforced, of: progress.of, pending, unconnected: 0 }
}

#[async_trait]
impl View for Cluster {
    fn keys(&self) -> Vec<Key> {
        lock(&self.hub.index).keys().collect()
    }

    fn servers(&self) -> Vec<ObjectId> {
        lock(&self.hub.index).servers().map(|(id, _)| id.clone()).collect()
    }

    fn seen(&self, key: &Key) -> Option<Seen> {
        let index = lock(&self.hub.index);
        match key.0 {
            Kind::Server => self.server(&index, &key.1),
            Kind::Grant | Kind::Session => self.access(&index, key),
        }
    }

    async fn reach(&self, keys: &[Key]) -> Vec<Reach> {
        self.hub.enforcement.reach(keys).await.into_iter().map(reach).collect()
    }

    fn dependents(&self, server: &ObjectId) -> Vec<Key> {
        lock(&self.hub.index).dependents(server).cloned().collect()
    }

    fn ended(&self, now: Timestamp) -> Vec<Key> {
        let told = BTreeSet::from([access_phase::EXPIRED, access_phase::REVOKED, access_phase::REJECTED]);
        let index = lock(&self.hub.index);
        let is_news = |session: &MCPAgentSession| {
            let is_over = session.spec.expires_at.as_ref().is_some_and(|end| end.0 <= now);
            is_over && !session.status.as_ref().is_some_and(|status| told.contains(status.phase.as_str()))
        };
        let ended = index.sessions().filter(|(_, session)| is_news(session));
        ended.map(|(id, _)| (Kind::Session, id.clone())).collect()
    }
}

#[async_trait]
impl Sessions for Cluster {
    fn find(&self, fits: &(dyn Fn(&MCPAgentSession) -> bool + Sync)) -> Vec<Arc<MCPAgentSession>> {
        let index = lock(&self.hub.index);
        index.sessions().filter(|(_, session)| fits(session)).map(|(_, session)| session.clone()).collect()
    }

    fn now(&self, of: &MCPAgentSession) -> Option<Arc<MCPAgentSession>> {
        lock(&self.hub.index).session(&object_id(&of.metadata)).cloned()
    }

    async fn delete(&self, session: &MCPAgentSession) -> Result<bool, String> {
        collect::delete(&self.hub.client, session).await
    }
}

//! What is told of a server's objects to those who write its status.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use sallyport_policy::ObjectId;
use sallyport_resolve::Problem;

use super::observed::{Children, State};
use crate::lock::lock;
use crate::render::{ChildKind, names, names::Track};
use crate::status::workload::{Revisions, Workload};

/// What is told of a server's objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// How they are, and why they cannot be applied.
    pub(crate) workload: Workload,
    /// What is wrong with the server, beside what resolving finds.
    pub(crate) problems: Vec<Problem>,
    /// Which revisions run; none: that was not decided yet.
    pub(crate) rollout: Option<Revisions>,
}

/// How a server's objects are.
pub(super) fn workload(server: &str, children: &Children, failure: Option<String>) -> Workload {
    let state = |kind: ChildKind, name: String| {
        let seen = children.get(&(kind, name)).filter(|seen| seen.owner.as_deref() == Some(server));
        seen.filter(|seen| !seen.is_going).map(|seen| &seen.state)
    };
    let deployment = |track| match state(ChildKind::Deployment, names::deployment(server, track)) {
        Some(State::Deployment { state, .. }) => Some(state.clone()),
        _ => None,
    };
    let service = match state(ChildKind::Service, server.into()) {
        Some(State::Service(has_address)) => Some(*has_address),
        _ => None,
    };
    let ingress = match state(ChildKind::Ingress, server.into()) {
        Some(State::Ingress(ingress)) => Some(*ingress),
        _ => None,
    };
    Workload {
        deployment: deployment(Track::Stable),
        canary: deployment(Track::Canary),
        service,
        ingress,
        failure,
    }
}

type Tell = dyn Fn(&ObjectId) + Send + Sync;

/// The newest report of each server.
#[derive(Clone)]
pub(crate) struct Reports {
    reports: Arc<Mutex<BTreeMap<ObjectId, Arc<Report>>>>,
    tell: Arc<Tell>,
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reports").finish_non_exhaustive()
    }
}

impl Reports {
    /// None yet. `tell` is called with each server whose report changes.
    pub(crate) fn new(tell: impl Fn(&ObjectId) + Send + Sync + 'static) -> Self {
        Self { reports: Arc::default(), tell: Arc::new(tell) }
    }

    /// The newest report of a server; none: nothing of it was looked at yet, or this replica does not lead.
    pub(crate) fn of(&self, server: &ObjectId) -> Option<Arc<Report>> {
        lock(&self.reports).get(server).cloned()
    }

    /// The report of a server is this now; none: it is gone.
    pub(super) fn set(&self, server: &ObjectId, report: Option<Report>) {
        let is_new = {
            let mut reports = lock(&self.reports);
            match report {
                Some(report) if reports.get(server).is_some_and(|known| **known == report) => false,
                Some(report) => {
                    reports.insert(server.clone(), Arc::new(report));
                    true
                }
                None => reports.remove(server).is_some(),
            }
        };
        if is_new {
            (self.tell)(server);
        }
    }

    /// This replica does not lead any more: what it knows ages.
    pub(super) fn clear(&self) {
        lock(&self.reports).clear();
    }
}

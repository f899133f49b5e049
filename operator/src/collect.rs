//! Deletes sessions that ended long ago.
//!
//! Flow: every minute, while this replica holds the lease, sessions whose `expiresAt` plus the retention has passed are
//! deleted, slowly. Guarantees: a session is deleted only as it was seen (uid and resource version are preconditions), so
//! one that was renewed in between, or made anew under its name, stays. One that never ends is never deleted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use kube::{Api, Client};
use sallyport_api::v1alpha1::MCPAgentSession;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::status::StatusMetrics;

/// How often the ended are looked for.
const ROUND: Duration = Duration::from_secs(60);
/// Time between two deletions.
const PACE: Duration = Duration::from_millis(50);

/// Whether a session is over by `retention` at `now`.
fn is_over(session: &MCPAgentSession, retention: Duration, now: Timestamp) -> bool {
    let retention = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
    let end = session.spec.expires_at.as_ref().map(|end| end.0.as_second());
    end.is_some_and(|end| end.saturating_add(retention) <= now.as_second())
}

/// Sessions, and how to delete them.
#[async_trait]
pub(crate) trait Sessions: Send + Sync {
    /// Those that fit.
    fn find(&self, fits: &(dyn Fn(&MCPAgentSession) -> bool + Sync)) -> Vec<Arc<MCPAgentSession>>;

    /// A session as it is now.
    fn now(&self, of: &MCPAgentSession) -> Option<Arc<MCPAgentSession>>;

    /// Deletes one as it was seen; false: it is another one by now.
    async fn delete(&self, session: &MCPAgentSession) -> Result<bool, String>;
}

/// Deletes a session through the API server.
pub(crate) async fn delete(client: &Client, session: &MCPAgentSession) -> Result<bool, String> {
    let metadata = &session.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let seen =
        Preconditions { resource_version: metadata.resource_version.clone(), uid: metadata.uid.clone() };
    let params = DeleteParams {
        preconditions: Some(seen),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    let sessions: Api<MCPAgentSession> = Api::namespaced(client.clone(), namespace);
    match sessions.delete(metadata.name.as_deref().unwrap_or_default(), &params).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// Collects while `leads` says so, until `shutdown`.
pub(crate) async fn run(
    sessions: impl Sessions,
    retention: Duration,
    clock: impl Fn() -> Timestamp + Send + Sync,
    metrics: StatusMetrics,
    leads: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let mut round = tokio::time::interval(ROUND);
    round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let collecting = async {
        loop {
            round.tick().await;
            if *leads.borrow() {
                collect(&sessions, retention, &clock, &metrics, &leads).await;
            }
        }
    };
    tokio::select! {
        () = collecting => {}
        () = shutdown.cancelled() => {}
    }
}

async fn collect(
    sessions: &impl Sessions,
    retention: Duration,
    clock: &(impl Fn() -> Timestamp + Send + Sync),
    metrics: &StatusMetrics,
    leads: &watch::Receiver<bool>,
) {
    let now = clock();
    for seen in sessions.find(&|session| is_over(session, retention, now)) {
        tokio::time::sleep(PACE).await;
        if !*leads.borrow() {
            return;
        }
        // It may have been renewed since the round began.
        let Some(session) = sessions.now(&seen).filter(|session| is_over(session, retention, clock())) else {
            continue;
        };
        let name = || session.metadata.name.clone().unwrap_or_default();
        match sessions.delete(&session).await {
            Ok(true) => metrics.collected(),
            Ok(false) => tracing::debug!(session = name(), "ended session changed; it is left"),
            Err(error) => {
                tracing::warn!(session = name(), error, "ended session was not deleted; trying again later");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    /// A moment in 2030.
    const BEGIN: i64 = 1_900_000_000;

    fn session(name: &str, version: u32, end: Option<i64>) -> Arc<MCPAgentSession> {
        let end = end.map(|end| Timestamp::from_second(end).unwrap().to_string());
        let metadata =
            json!({"name": name, "namespace": "ns", "uid": name, "resourceVersion": version.to_string()});
        let mut spec = json!({"serverRef": {"name": "pay"}, "subject": {"humanID": "h"}});
        if let Some(end) = end {
            spec["expiresAt"] = end.into();
        }
        let object = json!({"apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPAgentSession", "metadata": metadata, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    /// Sessions as the API server has them, and as they were seen.
    #[derive(Clone, Default)]
    struct Shelf {
        there: Arc<Mutex<BTreeMap<String, Arc<MCPAgentSession>>>>,
        seen: Arc<Mutex<BTreeMap<String, Arc<MCPAgentSession>>>>,
    }

    impl Shelf {
        fn put(&self, session: &Arc<MCPAgentSession>, is_seen: bool) {
            let name = session.metadata.name.clone().unwrap();
            self.there.lock().unwrap().insert(name.clone(), session.clone());
            if is_seen {
                self.seen.lock().unwrap().insert(name, session.clone());
            }
        }

        fn left(&self) -> Vec<String> {
            self.there.lock().unwrap().keys().cloned().collect()
        }
    }

    #[async_trait]
    impl Sessions for Shelf {
        fn find(&self, fits: &(dyn Fn(&MCPAgentSession) -> bool + Sync)) -> Vec<Arc<MCPAgentSession>> {
            self.seen.lock().unwrap().values().filter(|session| fits(session)).cloned().collect()
        }

        fn now(&self, of: &MCPAgentSession) -> Option<Arc<MCPAgentSession>> {
            self.seen.lock().unwrap().get(of.metadata.name.as_ref()?).cloned()
        }

        async fn delete(&self, session: &MCPAgentSession) -> Result<bool, String> {
            let name = session.metadata.name.clone().unwrap();
            let mut there = self.there.lock().unwrap();
            let is_same = there.get(&name).is_some_and(|there| there.metadata == session.metadata);
            if is_same {
                there.remove(&name);
                self.seen.lock().unwrap().remove(&name);
            }
            Ok(is_same)
        }
    }

    struct Running {
        shelf: Shelf,
        leads: watch::Sender<bool>,
        _shutdown: tokio_util::sync::DropGuard,
    }

    fn start(leads: bool) -> Running {
        let shelf = Shelf::default();
        let (leads, leading) = watch::channel(leads);
        let shutdown = CancellationToken::new();
        let begun = tokio::time::Instant::now();
        let clock = move || {
            let passed = i64::try_from(begun.elapsed().as_secs()).unwrap();
            Timestamp::from_second(BEGIN + passed).unwrap()
        };
        let metrics = StatusMetrics::default();
        tokio::spawn(run(shelf.clone(), WEEK, clock, metrics, leading, shutdown.clone()));
        Running { shelf, leads, _shutdown: shutdown.drop_guard() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_goes_when_its_retention_is_over() {
        let Running { shelf, leads: _leads, _shutdown } = start(true);
        shelf.put(&session("ended", 1, Some(BEGIN)), true);
        shelf.put(&session("later", 1, Some(BEGIN + 86_400)), true);
        shelf.put(&session("never", 1, None), true);
        tokio::time::sleep(WEEK - ROUND).await;
        assert_eq!(shelf.left(), ["ended", "later", "never"]);
        tokio::time::sleep(ROUND * 3).await;
        assert_eq!(shelf.left(), ["later", "never"]);
        tokio::time::sleep(WEEK).await;
        assert_eq!(shelf.left(), ["never"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_was_renewed_unseen_stays() {
        let Running { shelf, leads: _leads, _shutdown } = start(true);
        shelf.put(&session("s", 1, Some(BEGIN)), true);
        shelf.put(&session("s", 2, Some(BEGIN + 86_400 * 30)), false);
        tokio::time::sleep(WEEK * 2).await;
        assert_eq!(shelf.left(), ["s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_leads_deletes() {
        let Running { shelf, leads, _shutdown } = start(false);
        shelf.put(&session("s", 1, Some(BEGIN)), true);
        tokio::time::sleep(WEEK * 2).await;
        assert_eq!(shelf.left(), ["s"]);
        leads.send(true).unwrap();
        tokio::time::sleep(ROUND * 2).await;
        assert_eq!(shelf.left(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn many_go_slowly() {
        let Running { shelf, leads: _leads, _shutdown } = start(true);
        for number in 0..100 {
            shelf.put(&session(&number.to_string(), 1, Some(0)), true);
        }
        tokio::time::sleep(PACE * 50).await;
        let left = shelf.left().len();
        assert!((45..=55).contains(&left), "{left} left");
    }
}

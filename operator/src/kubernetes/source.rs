//! Watches the three kinds.
//!
//! Guarantees: what is told is what the API server held, in its order for each kind; after a gap (a watch that was too far
//! behind, an API server that restarted) everything is listed anew, and what is not in the list is told as gone. Meanwhile
//! the last state stays. One object that cannot be understood is told as such, and stops nothing.
//! Memory: one page of a list and one queue of events at most, beside what is told.

use std::collections::BTreeSet;
use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use sallyport_api::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};
use sallyport_api::{Kind, Unfit, load_stored};
use sallyport_policy::ObjectId;
use sallyport_resolve::{Problem, Severity, object_id};
use tokio::sync::mpsc;

use super::backoff::Patience;
use super::metrics::WatchMetrics;
use crate::control::Delta;

/// Objects of a page of a list.
const PAGE: u32 = 500;
/// A watch is opened anew this often, in seconds. A connection that died silently is found five seconds later.
const WATCH_SECONDS: u32 = 60;
/// What `kubectl apply` keeps for itself: a second copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What a watch tells.
#[derive(Debug)]
pub(crate) enum Note {
    /// An object, and when it came.
    Delta(Delta, Instant),
    /// All objects of a kind have been told; these are all there are.
    Listed(Kind, BTreeSet<ObjectId>),
}

/// Follows one kind until nobody listens.
pub(crate) async fn follow(client: Client, kind: Kind, notes: mpsc::Sender<Note>, metrics: WatchMetrics) {
    let api: Api<DynamicObject> = Api::all_with(client, &resource(kind));
    // Lists are those of etcd. A streamed list (`streaming_lists`) begins at any version that the API server has cached, so one
    // that is behind would take back for a moment what was told already, a revocation for example.
    let config = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    let mut events = watcher(api, config).backoff(Patience::default()).boxed();
    let mut listed = BTreeSet::new();
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                metrics.lost(kind);
                tracing::warn!(kind = kind.as_str(), %error, "watch lost; the last state stays");
                continue;
            }
        };
        let arrived = Instant::now();
        let note = match event {
            Event::Init => {
                listed.clear();
                continue;
            }
            Event::InitApply(object) => {
                listed.insert(object_id(&object.metadata));
                Note::Delta(read(kind, object), arrived)
            }
            Event::InitDone => Note::Listed(kind, std::mem::take(&mut listed)),
            Event::Apply(object) => Note::Delta(read(kind, object), arrived),
            Event::Delete(object) => Note::Delta(Delta::Remove((kind, object_id(&object.metadata))), arrived),
        };
        if notes.send(note).await.is_err() {
            return;
        }
    }
}

fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::Server => ApiResource::erase::<MCPServer>(&()),
        Kind::Grant => ApiResource::erase::<MCPAccessGrant>(&()),
        Kind::Session => ApiResource::erase::<MCPAgentSession>(&()),
    }
}

/// An object as it came, without what nobody here needs.
fn read(kind: Kind, object: DynamicObject) -> Delta {
    let DynamicObject { mut metadata, data, .. } = object;
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    let key = (kind, object_id(&metadata));
    match load_stored(kind, metadata, data) {
        Ok(object) => Delta::Upsert(object, None),
        Err(unfit) => {
            let Unfit { left, problems } = *unfit;
            // A server goes on as it is.
            let severity = match (&left, kind) {
                (Some(_), Kind::Server) => Severity::Warning,
                (_, _) => Severity::Error,
            };
            let told = problems.into_iter().map(|problem| Problem {
                severity,
                path: problem.path,
                reason: problem.reason,
                message: problem.message,
            });
            Delta::Reject(key, left, told.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: serde_json::Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_nobody_needs_is_not_kept() {
        let delta = read(
            Kind::Server,
            object(json!({
                "apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPServer", "spec": { "image": "i" },
                "metadata": {
                    "name": "s", "namespace": "ns", "managedFields": [{ "manager": "kubectl" }],
                    "annotations": { LAST_APPLIED: "{}", "kept": "yes" },
                },
            })),
        );
        let Delta::Upsert(object, None) = delta else { panic!("{delta:?}") };
        let metadata = object.metadata();
        assert_eq!(metadata.managed_fields, None);
        let annotations: Vec<&str> =
            metadata.annotations.iter().flatten().map(|(name, _)| name.as_str()).collect();
        assert_eq!(annotations, ["kept"]);
    }

    #[test]
    fn an_object_that_breaks_the_rules_is_told_with_its_problems() {
        let broken = |kind: Kind, spec: serde_json::Value| {
            let metadata = json!({ "name": "n", "namespace": "ns" });
            let value = json!({ "apiVersion": "mcpruntime.org/v1alpha1", "kind": kind.as_str(), "metadata": metadata, "spec": spec });
            match read(kind, object(value)) {
                Delta::Reject(key, left, problems) => {
                    (key.1.to_string(), left.is_some(), problems[0].severity)
                }
                other => panic!("{other:?}"),
            }
        };
        let session = broken(Kind::Session, json!({ "serverRef": { "name": "s" }, "subject": {} }));
        assert_eq!(session, ("ns/n".into(), false, Severity::Error));
        let twice = json!([{ "name": "t" }, { "name": "t" }]);
        let server = broken(Kind::Server, json!({ "image": "i", "tools": twice }));
        assert_eq!(server, ("ns/n".into(), true, Severity::Warning));
        assert_eq!(broken(Kind::Grant, json!("nothing")), ("ns/n".into(), false, Severity::Error));
    }
}

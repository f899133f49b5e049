//! One watch per kind, for as long as the process runs.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::StreamExt;
use kube::api::Api;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use sallyport_api::Kind;
use tokio_util::sync::CancellationToken;

use super::lock;
use super::mirror::Mirror;

/// Keeps `mirror` in step with the objects of a kind until `shutdown`. A broken watch is begun anew, ever more slowly.
pub(super) async fn follow(
    kind: Kind,
    api: Api<DynamicObject>,
    mirror: Arc<Mutex<Mirror>>,
    shutdown: CancellationToken,
) {
    let mut events = std::pin::pin!(watcher(api, Config::default()).default_backoff());
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = shutdown.cancelled() => return,
        };
        let mut mirror = lock(&mirror);
        match event {
            None => return,
            Some(Ok(Event::Init)) => mirror.begin(kind),
            Some(Ok(Event::InitApply(object) | Event::Apply(object))) => mirror.tell(kind, object),
            Some(Ok(Event::InitDone)) => mirror.finish(kind),
            Some(Ok(Event::Delete(object))) => mirror.remove(kind, &object),
            Some(Err(error)) => {
                tracing::warn!(kind = kind.as_str(), %error, "watch is interrupted");
                let why = format!("{error}; check the API server, and the role of the control API");
                mirror.fail(kind, why, Instant::now());
            }
        }
    }
}

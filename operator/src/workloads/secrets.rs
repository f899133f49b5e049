//! What the Secrets of environments hold, as a digest: another content restarts pods.
//!
//! The operator may not read Secrets in the whole cluster. Where a namespace binds it the ClusterRole `sallyport-secrets`, it
//! reads those that servers refer to, keeps a digest, and watches the namespace's Secrets by their metadata for changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use sallyport_api::v1alpha1::MCPServerSpec;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::watches::patient;
use crate::lock::lock;
use crate::render::secret_references;

/// What is known of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// Digests of its values, by key.
    Content(BTreeMap<String, [u8; 32]>),
    /// There is none.
    Missing,
}

/// A Secret by namespace and name.
type Name = (String, String);

#[derive(Debug, Default)]
struct Cache {
    known: BTreeMap<Name, (String, Known)>,
    /// Newest resource version that was heard of; empty: it was deleted.
    heard: BTreeMap<Name, String>,
}

/// Digests of Secrets.
#[derive(Clone, Debug, Default)]
pub(super) struct Digests(Arc<Mutex<Cache>>);

/// What is known of all that an environment refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// It refers to no Secret.
    None,
    /// A digest of all of it.
    Digest(String),
    /// The operator may not read it.
    Unreadable,
}

impl Digests {
    /// Digest of what an environment in `namespace` refers to.
    ///
    /// # Errors
    /// The API server cannot be asked.
    pub(super) async fn of(
        &self,
        client: &Client,
        namespace: &str,
        spec: &MCPServerSpec,
    ) -> kube::Result<Content> {
        let references: BTreeSet<(&str, &str)> = secret_references(spec)
            .map(|reference| (reference.name.as_str(), reference.key.as_str()))
            .collect();
        if references.is_empty() {
            return Ok(Content::None);
        }
        let mut all = Sha256::new();
        for (name, key) in references {
            let Some(known) = self.look(client, namespace, name).await? else {
                return Ok(Content::Unreadable);
            };
            let value = match &known {
                Known::Content(values) => values.get(key).copied(),
                Known::Missing => None,
            };
            all.update(format!("{name}\n{key}\n"));
            all.update(value.unwrap_or_default());
        }
        let digest = all.finalize();
        Ok(Content::Digest(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()))
    }

    /// None: it may not be read.
    async fn look(&self, client: &Client, namespace: &str, name: &str) -> kube::Result<Option<Known>> {
        let id = (namespace.to_string(), name.to_string());
        if let Some((_, known)) = lock(&self.0).known.get(&id) {
            return Ok(Some(known.clone()));
        }
        let found = match Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name).await {
            Ok(found) => found,
            Err(kube::Error::Api(status)) if status.code == 403 => return Ok(None),
            Err(error) => return Err(error),
        };
        let version =
            found.as_ref().and_then(|secret| secret.metadata.resource_version.clone()).unwrap_or_default();
        let known = found.map_or(Known::Missing, |secret| Known::Content(digests(&secret)));
        let mut cache = lock(&self.0);
        // What was heard of meanwhile may be newer than what was read.
        if cache.heard.get(&id).is_none_or(|heard| *heard == version) {
            cache.known.insert(id, (version, known.clone()));
        }
        Ok(Some(known))
    }

    /// A watch tells of a Secret. Answers whether that is news to somebody who read it, or looked for it.
    pub(super) fn hear(&self, namespace: &str, name: &str, version: &str) -> bool {
        let mut cache = lock(&self.0);
        let id = (namespace.to_string(), name.to_string());
        let is_known = cache.known.get(&id).is_some_and(|(known, _)| known == version);
        cache.heard.insert(id.clone(), version.into());
        if !is_known {
            cache.known.remove(&id);
        }
        !is_known
    }

    /// Nobody watches a namespace any more, so nothing that is known of it can be trusted.
    pub(super) fn forget(&self, namespace: &str) {
        let mut cache = lock(&self.0);
        cache.known.retain(|(of, _), _| of != namespace);
        cache.heard.retain(|(of, _), _| of != namespace);
    }
}

/// Values are digested together with the Secret's UID, which is as random as it is unknown to those who may not read Secrets:
/// nobody finds out a short value from its digest.
fn digests(secret: &Secret) -> BTreeMap<String, [u8; 32]> {
    let uid = secret.metadata.uid.as_deref().unwrap_or_default();
    let digest = |value: &[u8]| {
        Sha256::new().chain_update(uid).chain_update("\n").chain_update(value).finalize().into()
    };
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), digest(&value.0))).collect()
}

/// Something happened to a Secret, or (no name) to any of a namespace.
pub(super) type Rumour = (String, Option<(String, String)>);

/// Watches of namespaces whose servers refer to Secrets.
#[derive(Default)]
pub(super) struct SecretWatches {
    streams: SelectAll<BoxStream<'static, Rumour>>,
    ends: BTreeMap<String, CancellationToken>,
}

impl SecretWatches {
    /// Watches these namespaces and no others. Answers with those that are not watched any more.
    pub(super) fn watch(&mut self, client: &Client, namespaces: &BTreeSet<String>) -> Vec<String> {
        for namespace in namespaces {
            if !self.ends.contains_key(namespace) {
                let end = CancellationToken::new();
                self.streams.push(rumours(client, namespace, end.clone()));
                self.ends.insert(namespace.clone(), end);
            }
        }
        let over: Vec<String> =
            self.ends.keys().filter(|namespace| !namespaces.contains(*namespace)).cloned().collect();
        for namespace in &over {
            if let Some(end) = self.ends.remove(namespace) {
                end.cancel();
            }
        }
        over
    }

    /// The next of them; waits for ever where nothing is watched.
    pub(super) async fn next(&mut self) -> Rumour {
        loop {
            match self.streams.next().await {
                Some(rumour) => return rumour,
                None => std::future::pending::<()>().await,
            }
        }
    }
}

/// Pause after a refusal, until it is tried again whether the namespace lets the operator read: from the first to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

fn rumours(client: &Client, namespace: &str, end: CancellationToken) -> BoxStream<'static, Rumour> {
    let api = Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), namespace);
    let namespace = namespace.to_string();
    let events = watcher(api, watcher::Config::default()).backoff(patient(PAUSES));
    let rumour = move |event: watcher::Result<watcher::Event<_>>| {
        let (secret, is_gone): (PartialObjectMeta<Secret>, bool) = match event {
            Ok(watcher::Event::Apply(secret) | watcher::Event::InitApply(secret)) => (secret, false),
            Ok(watcher::Event::Delete(secret)) => (secret, true),
            Ok(watcher::Event::Init) => return None,
            // What was deleted while nobody watched is not told of one by one.
            Ok(watcher::Event::InitDone) => return Some((namespace.clone(), None)),
            Err(error) => {
                tracing::debug!(%error, namespace, "secrets cannot be watched");
                return None;
            }
        };
        let version = secret.metadata.resource_version.filter(|_| !is_gone).unwrap_or_default();
        Some((namespace.clone(), Some((secret.metadata.name?, version))))
    };
    events
        .filter_map(move |event| std::future::ready(rumour(event)))
        .take_until(end.cancelled_owned())
        .boxed()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn secret(uid: &str, value: &str) -> Secret {
        let metadata = ObjectMeta { uid: Some(uid.into()), ..ObjectMeta::default() };
        let data = Some(BTreeMap::from([("key".to_string(), ByteString(value.into()))]));
        Secret { metadata, data, ..Secret::default() }
    }

    #[test]
    fn digests_depend_on_the_value_and_tell_nothing_to_who_does_not_know_the_uid() {
        assert_eq!(digests(&secret("1", "x")), digests(&secret("1", "x")));
        assert_ne!(digests(&secret("1", "x")), digests(&secret("1", "y")));
        assert_ne!(digests(&secret("1", "x")), digests(&secret("2", "x")));
    }

    #[test]
    fn a_rumour_is_news_unless_it_is_of_what_was_read() {
        let digests = Digests::default();
        let id = ("n".to_string(), "a".to_string());
        lock(&digests.0).known.insert(id.clone(), ("5".into(), Known::Missing));
        assert!(!digests.hear("n", "a", "5"));
        assert!(digests.hear("n", "a", "6"));
        assert!(!lock(&digests.0).known.contains_key(&id), "it is read anew");
        digests.forget("n");
        assert!(lock(&digests.0).heard.is_empty());
    }
}

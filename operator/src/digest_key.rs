//! The key of argument digests: a file's, or that of a Secret which the replica that leads makes where there is none.
//!
//! Guarantees: a key that is there is used as it is, by every replica the same, so that equal arguments have equal digests
//! wherever they are called. Another key is given to all gateways without a restart; digests of before can no more be compared
//! with those of after. Failure: while the API server is away the key that was read last counts on.

use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use sallyport_runtime::files::random_hex;
use serde_json::json;
use tokio::sync::watch;

use crate::certificates::MANAGED_BY;
use crate::upkeep::look_after;

/// The Secret, and its entry.
const SECRET: &str = "sallyport-digest-key";
const ENTRY: &str = "key";

/// A key of argument digests.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct DigestKey {
    /// The key; empty: none.
    pub(crate) bytes: Arc<[u8]>,
    /// Which one it is of those that were in its Secret: one that is past never comes back.
    pub(crate) version: String,
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DigestKey(redacted, {})", self.version)
    }
}

impl DigestKey {
    /// One that never changes.
    pub(crate) fn fixed(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), version: String::new() }
    }
}

/// Why there is no key, or not the one there should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the API server refused or did not answer")]
    Api(#[from] kube::Error),
    #[error("Secret {SECRET} is not there yet; the replica that leads makes it")]
    Missing,
    #[error(
        "Secret {SECRET} has no entry `{ENTRY}`; put a random key there, or delete the Secret and have one made"
    )]
    Empty,
}

/// Keeps the key of the Secret.
#[derive(Debug)]
pub(crate) struct KeyKeeper {
    secrets: Api<Secret>,
    known: watch::Sender<Option<DigestKey>>,
    /// A field manager of this process alone: what another one made conflicts with it instead of being overwritten.
    manager: String,
}

impl KeyKeeper {
    /// Keeps that of `namespace`. Answers also with the key; none until it is known.
    pub(crate) fn new(client: Client, namespace: &str) -> (Self, watch::Receiver<Option<DigestKey>>) {
        let (known, key) = watch::channel(None);
        let manager = format!("sallyport-digest-key-{}", random_hex::<4>());
        (Self { secrets: Api::namespaced(client, namespace), known, manager }, key)
    }

    /// Follows the Secret for ever; makes it while `leader` says so.
    pub(crate) async fn run(self, leader: watch::Receiver<bool>) {
        let fault = "the key of argument digests is not as it should be";
        look_after(fault, leader, |leads| self.look(leads)).await;
    }

    async fn look(&self, leads: bool) -> Result<(), Fault> {
        let secret = match self.secrets.get_opt(SECRET).await? {
            Some(secret) => secret,
            None if leads => self.make().await?,
            None => return Err(Fault::Missing),
        };
        let version = secret.resource_version().unwrap_or_default();
        let entry = secret.data.and_then(|mut data| data.remove(ENTRY)).map(|ByteString(bytes)| bytes);
        let bytes = entry.filter(|bytes| !bytes.trim_ascii().is_empty()).ok_or(Fault::Empty)?;
        self.known.send_if_modified(|known| {
            let is_same = known.as_ref().is_some_and(|known| *known.bytes == *bytes);
            if !is_same {
                *known = Some(DigestKey { bytes: bytes.into(), version });
            }
            !is_same
        });
        Ok(())
    }

    /// Without force: one that somebody else made in between conflicts, and is read with the next look.
    async fn make(&self) -> Result<Secret, Fault> {
        let key = ByteString(random_hex::<32>().into_bytes());
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": { ENTRY: key },
            "metadata": { "name": SECRET, "labels": { MANAGED_BY.0: MANAGED_BY.1 } },
        });
        let params = PatchParams::apply(&self.manager);
        let made = self.secrets.patch(SECRET, &params, &Patch::Apply(secret)).await?;
        tracing::info!(secret = SECRET, "made a key of argument digests");
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::fake_api::Fake;

    const PATH: &str = "/api/v1/namespaces/system/secrets/sallyport-digest-key";

    fn text(key: &watch::Receiver<Option<DigestKey>>) -> String {
        let key = key.borrow();
        String::from_utf8(key.as_ref().map(|key| key.bytes.to_vec()).unwrap_or_default()).unwrap()
    }

    fn secret(key: &str) -> Value {
        json!({ "metadata": { "name": SECRET }, "data": { ENTRY: ByteString(key.as_bytes().to_vec()) } })
    }

    #[tokio::test]
    async fn the_leader_makes_a_key_where_there_is_none_and_every_replica_has_it() {
        let fake = Arc::new(Fake::default());
        let (leader, key) = KeyKeeper::new(fake.client(), "system");
        let (other, also) = KeyKeeper::new(fake.client(), "system");
        assert!(matches!(other.look(false).await, Err(Fault::Missing)));
        assert_eq!(fake.writes(), 0);
        leader.look(true).await.unwrap();
        other.look(false).await.unwrap();
        assert_eq!((text(&key).len(), *key.borrow() == *also.borrow()), (64, true));
        leader.look(true).await.unwrap();
        other.look(true).await.unwrap();
        assert_eq!(fake.writes(), 1, "one that is there is left alone");
    }

    #[tokio::test]
    async fn a_key_that_somebody_gave_counts_and_an_empty_one_does_not() {
        let fake = Arc::new(Fake::default());
        fake.put(PATH, secret("theirs"));
        let (keeper, mut key) = KeyKeeper::new(fake.client(), "system");
        keeper.look(true).await.unwrap();
        assert_eq!((text(&key).as_str(), fake.writes()), ("theirs", 0));
        key.mark_unchanged();
        keeper.look(true).await.unwrap();
        assert!(!key.has_changed().unwrap(), "nothing is told that is known");
        fake.put(PATH, secret(" \n"));
        assert!(matches!(keeper.look(true).await, Err(Fault::Empty)));
        assert_eq!(text(&key), "theirs", "the last one counts on");
    }

    #[test]
    fn a_key_is_not_told() {
        let key = DigestKey::fixed(b"very-secret".to_vec());
        assert!(!format!("{key:?}").contains("secret-"), "{key:?}");
        assert!(!format!("{key:?}").contains("very"), "{key:?}");
    }
}

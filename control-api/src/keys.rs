//! Keeps API keys as their file and Secret have them.
//!
//! Guarantees: a key that is taken out counts no more after [`LOOK`], and one that is put in counts by then; no restart is
//! needed. Failure: what cannot be read, or holds what cannot be a key, changes nothing; where no key is left, nobody gets in.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::{Digests, Keys, KeysError, read_keys};
use crate::kubernetes::api_keys;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// Where keys are.
pub(crate) struct Origins {
    pub(crate) file: Option<PathBuf>,
    pub(crate) variable: Option<OsString>,
    /// The name of a Secret, and who reads it.
    pub(crate) secret: Option<(kube::Client, String)>,
}

impl Origins {
    /// All keys there are.
    ///
    /// # Errors
    /// There are none, or they cannot be read.
    pub(crate) async fn read(&self) -> anyhow::Result<Digests> {
        let secret = match &self.secret {
            Some((client, name)) => Some(api_keys(client.clone(), name).await?),
            None => None,
        };
        Ok(read_keys(self.file.as_deref(), self.variable.as_deref(), secret.as_deref())?)
    }

    /// Follows them for ever.
    pub(crate) async fn follow(self, keys: Keys) {
        let mut told = String::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let error = match self.read().await {
                Ok(now) => {
                    told.clear();
                    if keys.replace(now) {
                        tracing::info!(?keys, "API keys changed");
                    }
                    continue;
                }
                Err(error) => error,
            };
            if matches!(error.downcast_ref(), Some(KeysError::None)) {
                keys.replace(Digests::new());
            }
            let text = format!("{error:#}");
            if text != told {
                tracing::warn!(error = text, ?keys, "API keys are not as they should be");
                told = text;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::auth::HEADER;

    #[tokio::test(start_paused = true)]
    async fn a_key_counts_while_the_file_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "one\n").unwrap();
        let origins = Origins { file: Some(path.clone()), variable: None, secret: None };
        let keys = Keys::new(origins.read().await.unwrap());
        tokio::spawn(origins.follow(keys.clone()));
        let admitted = async || {
            tokio::time::sleep(LOOK * 2).await;
            let admits = |key: &&str| {
                keys.admit(&HeaderMap::from_iter([(
                    HEADER.parse().unwrap(),
                    HeaderValue::from_str(key).unwrap(),
                )]))
            };
            ["one", "two"].into_iter().filter(admits).collect::<Vec<_>>()
        };
        assert_eq!(admitted().await, ["one"]);
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(admitted().await, ["one", "two"]);
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(admitted().await, ["two"]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(admitted().await, ["two"], "a file that is away says nothing");
        std::fs::write(&path, "no key\n").unwrap();
        assert_eq!(admitted().await, ["two"]);
        std::fs::write(&path, "# none\n").unwrap();
        assert_eq!(admitted().await, [""; 0], "the last one was taken out");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(admitted().await, ["one"]);
    }
}

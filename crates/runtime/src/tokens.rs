//! Bearer tokens of proxies: a file of their digests, one check for every service that proxies talk to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// SHA-256 of a secret, in hexadecimal.
pub fn digest(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a secret is the one with this digest; takes as long for a near miss as for a far one.
pub fn matches(secret: &str, known: &str) -> bool {
    digest(secret).as_bytes().ct_eq(known.as_bytes()).into()
}

/// Why tokens cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no JSON object of names by digest.
    #[error("{path} is not an object of proxy names by token digest")]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// Proxies by the digest of their token. The file is read at each check, so that a new token counts at once.
#[derive(Clone, Debug)]
pub struct Tokens {
    path: PathBuf,
}

impl Tokens {
    /// The tokens in `path`.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn open(path: &Path) -> Result<Self, TokensError> {
        let tokens = Self { path: path.to_path_buf() };
        tokens.read().map(|_| tokens)
    }

    fn read(&self) -> Result<BTreeMap<String, String>, TokensError> {
        let path = || self.path.clone();
        let text = std::fs::read(&self.path).map_err(|source| TokensError::Read { path: path(), source })?;
        serde_json::from_slice(&text).map_err(|source| TokensError::Form { path: path(), source })
    }

    /// The proxy that a token belongs to.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn find(&self, token: &str) -> Result<Option<String>, TokensError> {
        let presented = digest(token);
        let mut known = self.read()?.into_iter();
        let found = known.find(|(digest, _)| digest.as_bytes().ct_eq(presented.as_bytes()).into());
        Ok(found.map(|(_, name)| name))
    }

    /// The same, where a file that cannot be read knows nobody.
    pub fn proxy(&self, token: &str) -> Option<String> {
        self.find(token).inspect_err(|error| tracing::error!(%error, "tokens cannot be read")).ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_digest_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        std::fs::write(&path, format!("{{\"{}\":\"edge\"}}", digest("secret"))).unwrap();
        let tokens = Tokens::open(&path).unwrap();
        assert_eq!(tokens.proxy("secret").as_deref(), Some("edge"));
        assert_eq!(tokens.proxy("Secret"), None);
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(tokens.proxy("secret"), None, "a withdrawn token counts no more");
    }
}

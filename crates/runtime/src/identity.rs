//! Who a proxy is: its bearer token, checked. The xDS server and the audit ingest ask the same way.
//!
//! A proxy is who its credential says, whatever it calls itself (`node.id` is never asked). Standalone, tokens lie in a
//! file ([`crate::tokens::Tokens`]) and speak for every server; in Kubernetes they are tokens of service accounts,
//! bound to a pod, and speak for the one server that the account belongs to ([`TokenReviews`]).

mod cache;
mod claims;
mod review;

use async_trait::async_trait;

pub use review::{AUDIENCE, TokenReviews, WORKLOAD_PREFIX};

use crate::tokens::Tokens;

/// A proxy, as its credential says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name: what a token file says, or `namespace/pod`.
    pub proxy: String,
    /// The one server that it may serve and speak for, as `namespace/name`; none: all of them.
    pub server: Option<String>,
}

impl Identity {
    /// Whether it may serve, and speak for, this server.
    pub fn covers(&self, namespace: &str, name: &str) -> bool {
        self.server.as_deref().is_none_or(|server| server.split_once('/') == Some((namespace, name)))
    }
}

/// Why a token opens nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It is nobody's, or not one of a proxy.
    #[error("the token belongs to no proxy")]
    Unknown,
    /// Whose it is cannot be told now; asking again later may tell.
    #[error("the token cannot be checked now: {0}")]
    Unavailable(String),
}

/// Tells whose a bearer token is.
#[async_trait]
pub trait Authenticate: std::fmt::Debug + Send + Sync + 'static {
    /// Checks `token`, which comes without the word `Bearer`.
    ///
    /// # Errors
    /// It is no proxy's, or cannot be checked now.
    async fn authenticate(&self, token: &str) -> Result<Identity, AuthError>;
}

#[async_trait]
impl Authenticate for Tokens {
    async fn authenticate(&self, token: &str) -> Result<Identity, AuthError> {
        match self.find(token) {
            Ok(Some(proxy)) => Ok(Identity { proxy, server: None }),
            Ok(None) => Err(AuthError::Unknown),
            Err(error) => {
                tracing::error!(%error, "tokens cannot be read");
                Err(AuthError::Unavailable(error.to_string()))
            }
        }
    }
}

#[async_trait]
impl<A: Authenticate + ?Sized> Authenticate for std::sync::Arc<A> {
    async fn authenticate(&self, token: &str) -> Result<Identity, AuthError> {
        (**self).authenticate(token).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::digest;

    #[tokio::test]
    async fn a_token_in_the_file_speaks_for_every_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        std::fs::write(&path, format!("{{\"{}\":\"edge\"}}", digest("secret"))).unwrap();
        let tokens = Tokens::open(&path).unwrap();
        let known = tokens.authenticate("secret").await.unwrap();
        assert_eq!(known, Identity { proxy: "edge".into(), server: None });
        assert!(known.covers("any", "server"));
        assert_eq!(tokens.authenticate("other").await, Err(AuthError::Unknown));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(tokens.authenticate("secret").await, Err(AuthError::Unavailable(_))));
    }

    #[test]
    fn an_identity_covers_its_own_server_alone() {
        let identity = Identity { proxy: "ns/pod".into(), server: Some("ns/one".into()) };
        assert!(identity.covers("ns", "one"));
        assert!(!identity.covers("ns", "two") && !identity.covers("other", "one"));
        assert!(!identity.covers("ns/one", "") && !identity.covers("", "ns/one"));
    }
}

//! Tokens of service accounts, checked by the cluster's API server (TokenReview).
//!
//! Guarantees: a token is accepted only if the API server says that it is authentic, meant for us, bound to a pod that
//! still is, and one of a server's own service account. One question per token at a time; a good answer counts for 60 s,
//! and while the API server does not answer until the token's own end.
//! Assumptions: whoever may create pods or tokens of an account in a namespace may speak for that namespace's servers;
//! the namespace is the border between tenants.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::cache::{Cache, Key};
use super::claims::Claims;
use super::{AuthError, Authenticate, Identity};

/// Audience of the tokens that proxies present.
pub const AUDIENCE: &str = "sallyport";
/// The service account of the server `x` is `mcp-workload-x`.
pub const WORKLOAD_PREFIX: &str = "mcp-workload-";

/// What the API server tells of the pod that a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// A question that has no answer by then has none. The time until it is asked is no silence of the API server: when all
/// proxies come back at once, some wait for seconds.
const DEADLINE: Duration = Duration::from_secs(3);
/// Questions at once.
const CONCURRENT: usize = 64;

/// Asks the API server, and remembers.
pub struct TokenReviews {
    api: Api<TokenReview>,
    cache: Mutex<Cache>,
    /// A token is asked about under the lock of its digest, so once at a time.
    turns: Vec<tokio::sync::Mutex<()>>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    deadline: Duration,
}

impl std::fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReviews").finish_non_exhaustive()
    }
}

impl TokenReviews {
    /// Asks through `client`, which needs the verb `create` on `tokenreviews.authentication.k8s.io`.
    pub fn new(client: kube::Client) -> Self {
        Self {
            api: Api::all(client),
            cache: Mutex::default(),
            turns: (0..CONCURRENT).map(|_| tokio::sync::Mutex::default()).collect(),
            clock: Box::new(Instant::now),
            deadline: DEADLINE,
        }
    }

    /// Asks the API server of the cluster that this process is in, or that `KUBECONFIG` names.
    ///
    /// # Errors
    /// There is neither.
    pub async fn of_this_cluster() -> Result<Self, kube::Error> {
        Ok(Self::new(kube::Client::try_default().await?))
    }

    fn cache<T>(&self, use_it: impl FnOnce(&mut Cache) -> T) -> T {
        use_it(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn ask(&self, token: &str, claims: Claims, key: Key) -> Result<Identity, AuthError> {
        let _turn = match self.turns.get(usize::from(key[0]) % CONCURRENT) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        // Somebody else may have asked meanwhile.
        if let Some(answer) = self.cache(|cache| cache.answer(&key, (self.clock)())) {
            return answer;
        }
        let spec =
            TokenReviewSpec { token: Some(token.to_string()), audiences: Some(vec![AUDIENCE.to_string()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let params = PostParams::default();
        let Ok(answer) = timeout(self.deadline, self.api.create(&params, &review)).await else {
            return self.unanswered(key, "no answer from the API server in time".into());
        };
        let now = (self.clock)();
        match answer.map(|review| identity(&review.status.unwrap_or_default())) {
            Ok(Ok(identity)) => {
                let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let life = claims.life(since_1970);
                self.cache(|cache| cache.accepted(key, identity.clone(), life, now));
                Ok(identity)
            }
            Ok(Err(reason)) => {
                tracing::warn!(%reason, "token refused");
                self.cache(|cache| cache.refused(key, now));
                Err(AuthError::Unknown)
            }
            Err(error) => self.unanswered(key, error.to_string()),
        }
    }

    fn unanswered(&self, key: Key, why: String) -> Result<Identity, AuthError> {
        let result = self.cache(|cache| cache.unanswered(&key, why.clone(), (self.clock)()));
        let is_known = result.is_ok();
        tracing::warn!(error = why, is_known, "token cannot be reviewed");
        result
    }
}

#[async_trait]
impl Authenticate for TokenReviews {
    async fn authenticate(&self, token: &str) -> Result<Identity, AuthError> {
        // Also keeps tokens that are meant for others from being handed on.
        let Some(claims) = Claims::read(token, AUDIENCE) else {
            return Err(AuthError::Unknown);
        };
        let key = Sha256::digest(token.as_bytes()).into();
        if let Some(answer) = self.cache(|cache| cache.answer(&key, (self.clock)())) {
            return answer;
        }
        self.ask(token, claims, key).await
    }
}

/// Why an authentic answer makes nobody a proxy.
#[derive(Debug, thiserror::Error)]
enum NoProxy {
    #[error("the API server does not know it: {0}")]
    Unauthenticated(String),
    #[error("it is not meant for the audience `{AUDIENCE}`")]
    Audience,
    #[error("`{0}` is not a server's service account `{WORKLOAD_PREFIX}<server>`")]
    Account(String),
    #[error("it is not bound to a pod")]
    Unbound,
}

/// Whom a review names.
fn identity(status: &TokenReviewStatus) -> Result<Identity, NoProxy> {
    if status.authenticated != Some(true) {
        return Err(NoProxy::Unauthenticated(status.error.clone().unwrap_or_default()));
    }
    // A server that knows nothing of audiences leaves them out, and has not checked them.
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(NoProxy::Audience);
    }
    let user = status.user.clone().unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let (namespace, server) = workload(&username).ok_or_else(|| NoProxy::Account(username.clone()))?;
    let extra = |name: &str| {
        let values = user.extra.as_ref()?.get(name)?;
        values.first().filter(|value| !value.is_empty()).cloned()
    };
    let (Some(pod), Some(_)) = (extra(POD_NAME), extra(POD_UID)) else {
        return Err(NoProxy::Unbound);
    };
    Ok(Identity { proxy: format!("{namespace}/{pod}"), server: Some(format!("{namespace}/{server}")) })
}

/// Namespace and server of `system:serviceaccount:NAMESPACE:mcp-workload-SERVER`.
fn workload(username: &str) -> Option<(&str, &str)> {
    let (namespace, account) = username.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let server = account.strip_prefix(WORKLOAD_PREFIX)?;
    let is_name = |name: &str| !name.is_empty() && !name.contains(['/', ':']);
    (is_name(namespace) && is_name(server)).then_some((namespace, server))
}

#[cfg(test)]
mod tests;

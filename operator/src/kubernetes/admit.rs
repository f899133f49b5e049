//! Which proxy may have what.

use std::sync::Arc;

use sallyport_operator_xds::{Admission, Admit};
use sallyport_policy::ObjectId;
use sallyport_runtime::identity::{AuthError, Authenticate, Identity};

use crate::targets::Targets;

/// Lets a pod have what is for its own server, and nothing else.
#[derive(Debug)]
pub(crate) struct PodsOnly {
    pub(crate) authenticate: Arc<dyn Authenticate>,
    pub(crate) targets: Targets,
}

impl Admit for PodsOnly {
    async fn admit(&self, token: &str) -> Admission {
        let Identity { proxy, server } = match self.authenticate.authenticate(token).await {
            Ok(identity) => identity,
            Err(AuthError::Unknown) => return Admission::Unknown,
            Err(AuthError::Unavailable(why)) => return Admission::Unavailable(why),
        };
        let server = server.as_deref().and_then(|server| server.split_once('/'));
        let target = server.and_then(|(namespace, name)| self.targets.find(&ObjectId::new(namespace, name)));
        match target {
            Some(tracked) => Admission::Served(proxy, tracked.target),
            None => Admission::NotServed(proxy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Known(Result<Identity, AuthError>);

    #[async_trait::async_trait]
    impl Authenticate for Known {
        async fn authenticate(&self, _: &str) -> Result<Identity, AuthError> {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn a_pod_has_the_world_of_its_own_server_and_nobody_else_has_any() {
        let targets = Targets::per_server();
        targets.make(&ObjectId::new("ns", "s"));
        let word = async |known: Result<Option<&str>, AuthError>| {
            let identity =
                known.map(|server| Identity { proxy: "ns/pod".into(), server: server.map(String::from) });
            let admit = PodsOnly { authenticate: Arc::new(Known(identity)), targets: targets.clone() };
            match admit.admit("token").await {
                Admission::Served(proxy, _) => format!("served {proxy}"),
                Admission::NotServed(proxy) => format!("not served {proxy}"),
                Admission::Unknown => "unknown".into(),
                Admission::Unavailable(why) => format!("unavailable {why}"),
            }
        };
        assert_eq!(word(Ok(Some("ns/s"))).await, "served ns/pod");
        assert_eq!(word(Ok(Some("other/s"))).await, "not served ns/pod");
        assert_eq!(word(Ok(None)).await, "not served ns/pod");
        assert_eq!(word(Err(AuthError::Unknown)).await, "unknown");
        assert_eq!(word(Err(AuthError::Unavailable("down".into()))).await, "unavailable down");
    }
}

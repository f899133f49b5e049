//! Questions to the API server.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use futures::stream;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};

use super::findings::{Answer, Need, Question, Right};

/// Questions of one request that are under way at once.
const AT_ONCE: usize = 8;

/// Who answers.
#[async_trait::async_trait]
pub trait Ask: Send + Sync {
    /// Answers one question about a requester and the namespace of his request.
    async fn ask(&self, user: &UserInfo, namespace: &str, question: &Question) -> Answer;
}

/// Answers to what the needs call for: the likeliest questions first, the others only where those do not suffice.
pub(super) async fn gather(
    ask: &dyn Ask,
    user: &UserInfo,
    namespace: &str,
    needs: &[Need],
) -> BTreeMap<Question, Answer> {
    let mut answers = BTreeMap::new();
    let rounds = needs.iter().map(|need| need.any_of.len()).max().unwrap_or(0);
    for round in 0..rounds {
        let is_met = |need: &&Need| need.any_of.iter().any(|q| answers.get(q) == Some(&Answer::Yes));
        let open: BTreeSet<Question> = needs
            .iter()
            .filter(|need| !is_met(need))
            .filter_map(|need| need.any_of.get(round))
            .filter(|question| !answers.contains_key(*question))
            .cloned()
            .collect();
        let asked = stream::iter(open).map(|question| async move {
            let answer = ask.ask(user, namespace, &question).await;
            (question, answer)
        });
        answers.extend(asked.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
    }
    answers
}

/// The API server.
#[derive(Clone)]
pub struct KubeAsk(kube::Client);

impl std::fmt::Debug for KubeAsk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KubeAsk")
    }
}

impl KubeAsk {
    /// Asks with `client`, who must be allowed to create subjectaccessreviews and to get namespaces.
    pub fn new(client: kube::Client) -> Self {
        Self(client)
    }

    async fn may(&self, user: &UserInfo, namespace: &str, right: &Right) -> kube::Result<bool> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: user.username.clone(),
                uid: user.uid.clone(),
                groups: user.groups.clone(),
                extra: user.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    namespace: Some(namespace.into()),
                    verb: Some(right.verb.into()),
                    group: Some(right.group.into()),
                    resource: Some(right.resource.into()),
                    name: Some(right.name.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = Api::all(self.0.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    async fn is_going(&self, namespace: &str) -> kube::Result<bool> {
        let namespace = Api::<Namespace>::all(self.0.clone()).get_opt(namespace).await?;
        Ok(namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()))
    }
}

#[async_trait::async_trait]
impl Ask for KubeAsk {
    async fn ask(&self, user: &UserInfo, namespace: &str, question: &Question) -> Answer {
        let answer = match question {
            Question::May(right) => self.may(user, namespace, right).await,
            Question::NamespaceIsGoing => self.is_going(namespace).await,
        };
        match answer {
            Ok(true) => Answer::Yes,
            Ok(false) => Answer::No,
            Err(error) => {
                tracing::warn!(%error, "the API server cannot be asked for a right");
                Answer::Unknown
            }
        }
    }
}

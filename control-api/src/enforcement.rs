//! What the control plane knows of proxies.

use std::time::Duration;

use sallyport_api::{Kind, Object};
use sallyport_policy::ObjectId;
use sallyport_policy_proto::resource;
use sallyport_resolve::{resolve_grant, resolve_session, server_of};
use serde_json::{Value, json};

use crate::directory::Objects;

/// The control plane's and the ingest's status addresses.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    pub(crate) operator: String,
    pub(crate) ingest: String,
    pub(crate) http: reqwest::Client,
}

impl Operator {
    /// Waits until every proxy has acknowledged the object as it stands in `objects`, at most `wait`.
    pub(crate) async fn enforced(
        &self,
        kind: Kind,
        id: &ObjectId,
        objects: &Objects,
        wait: Duration,
    ) -> Value {
        let what = if kind == Kind::Grant { "grants" } else { "sessions" };
        let version = version(kind, id, objects).unwrap_or_default();
        let url = format!(
            "{}/v1/enforcement/{what}/{}/{}?version={version}&timeout_ms={}",
            self.operator,
            id.namespace,
            id.name,
            wait.as_millis()
        );
        let asked = self.http.get(url).timeout(wait + Duration::from_secs(5)).send().await;
        match asked {
            Ok(answer) => answer.json().await.unwrap_or_else(|_| json!({ "complete": false })),
            Err(error) => {
                tracing::warn!(%error, "control plane does not answer");
                json!({ "complete": false, "enforced": 0, "of": 0, "pending": [], "reason": "the control plane does not answer" })
            }
        }
    }

    /// Whether the parts answer, and who is connected.
    pub(crate) async fn components(&self) -> Value {
        let ready = async |base: &str| {
            let answer = self.http.get(format!("{base}/readyz")).timeout(Duration::from_secs(2)).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        let json_of = async |path: &str| {
            let answer = self
                .http
                .get(format!("{}{path}", self.operator))
                .timeout(Duration::from_secs(2))
                .send()
                .await;
            match answer {
                Ok(answer) => answer.json().await.unwrap_or(Value::Null),
                Err(_) => Value::Null,
            }
        };
        json!({
            "components": [
                { "name": "operator", "ready": ready(&self.operator).await },
                { "name": "ingest", "ready": ready(&self.ingest).await },
                { "name": "control-api", "ready": true },
            ],
            "proxies": json_of("/v1/proxies").await,
            "problems": json_of("/v1/problems").await,
        })
    }
}

/// The version that proxies get the object in.
fn version(kind: Kind, id: &ObjectId, objects: &Objects) -> Option<String> {
    match objects.find(kind, id)? {
        Object::Grant(grant) => {
            let server = objects.server(&server_of(&grant.spec.server_ref, &id.namespace));
            resolve_grant(grant, server).value.map(|grant| resource::grant(&grant).1)
        }
        Object::Session(session) => {
            let server = objects.server(&server_of(&session.spec.server_ref, &id.namespace));
            resolve_session(session, server, objects.modified(kind, id))
                .value
                .map(|session| resource::session(&session).1)
        }
        Object::Server(_) => None,
    }
}

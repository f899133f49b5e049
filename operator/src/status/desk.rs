//! Where statuses and events are written.

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Api, Client};
use sallyport_api::v1alpha1::{MCPAccessGrant, MCPAgentSession, MCPServer};
use sallyport_api::{API_VERSION, Kind};
use sallyport_operator_index::Key;
use serde_json::{Value, json};

use super::transition::Transition;

/// Who owns the fields of statuses.
pub(crate) const FIELD_MANAGER: &str = "sallyport-operator-status";
/// Longest name of an object that an event's name begins with, in bytes.
const LONGEST_NAME: usize = 200;
/// Longest note, in characters: the API takes 1,024 bytes.
const LONGEST_NOTE: usize = 250;

/// Why something was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The object is gone, or another one of that name is there.
    #[error("the object is gone")]
    Gone,
    /// It may work later.
    #[error("{0}")]
    Failed(String),
}

/// What is written at once of an object.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) status: Value,
    /// With a word for each that is the same when it is told again.
    pub(crate) told: Vec<(String, Transition)>,
}

/// Writes.
#[async_trait]
pub(crate) trait Desk: Send + Sync + 'static {
    /// Writes a status; answers with the object's new resource version.
    async fn write(&self, note: &Note) -> Result<Option<String>, Refusal>;

    /// Tells an event. One of the same word that was told already is no failure.
    async fn tell(&self, note: &Note, word: &str, transition: &Transition) -> Result<(), Refusal>;
}

/// The API server.
#[derive(Clone)]
pub(crate) struct ApiServer {
    pub(crate) client: Client,
    /// This replica, for events.
    pub(crate) instance: String,
}

impl ApiServer {
    fn objects(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        let resource = match kind {
            Kind::Server => ApiResource::erase::<MCPServer>(&()),
            Kind::Grant => ApiResource::erase::<MCPAccessGrant>(&()),
            Kind::Session => ApiResource::erase::<MCPAgentSession>(&()),
        };
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }
}

#[async_trait]
impl Desk for ApiServer {
    async fn write(&self, note: &Note) -> Result<Option<String>, Refusal> {
        let (kind, id) = &note.key;
        let body = json!({
            "apiVersion": API_VERSION, "kind": kind.as_str(),
            // Another object of that name is none of ours.
            "metadata": { "name": id.name, "namespace": id.namespace, "uid": note.uid },
            "status": note.status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let objects = self.objects(*kind, &id.namespace);
        let answer = objects.patch_status(&id.name, &params, &Patch::Apply(&body)).await.map_err(refusal)?;
        Ok(answer.metadata.resource_version)
    }

    async fn tell(&self, note: &Note, word: &str, transition: &Transition) -> Result<(), Refusal> {
        let event = event(note, word, transition, &self.instance, Timestamp::now());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &note.key.1.namespace);
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(refusal(error)),
        }
    }
}

fn refusal(error: kube::Error) -> Refusal {
    match error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => Refusal::Gone,
        error => Refusal::Failed(error.to_string()),
    }
}

/// The event of a transition.
fn event(note: &Note, word: &str, transition: &Transition, instance: &str, now: Timestamp) -> Event {
    let (kind, id) = &note.key;
    let stem: String = id.name.chars().take(LONGEST_NAME).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{word}", stem.trim_end_matches(['.', '-']))),
            namespace: Some(id.namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some("ReportStatus".into()),
        event_time: Some(MicroTime(now)),
        note: Some(transition.note.chars().take(LONGEST_NOTE).collect()),
        reason: Some(transition.reason.into()),
        regarding: Some(ObjectReference {
            api_version: Some(API_VERSION.into()),
            kind: Some(kind.as_str().into()),
            name: Some(id.name.clone()),
            namespace: Some(id.namespace.clone()),
            uid: Some(note.uid.clone()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some("mcpruntime.org/sallyport-operator".into()),
        reporting_instance: Some(instance.chars().take(128).collect()),
        type_: Some(if transition.is_warning { "Warning" } else { "Normal" }.into()),
        ..Event::default()
    }
}

//! Certificates of the operator and the ingest: kept in Secrets by the replica that leads, taken from them by every one.
//!
//! ```text
//!   leader: sallyport-ca ──signs──▶ sallyport-operator-tls, sallyport-ingest-tls        (plan: what to write)
//!   every replica: Secrets ─▶ Served (xDS, webhook), authorities (bootstraps, caBundle)
//! ```
//!
//! Guarantees: a Secret that somebody else made is used as it is; ours is made only where there is none, and changed only
//! as long as it is what was read, so that two replicas never disagree for longer than it takes to read it again.
//! Failure: while the API server is away what was read last is shown on; certificates are renewed ten days before they end.

mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use sallyport_runtime::files::random_hex;
use sallyport_runtime::tls::{Served, TlsError};
use serde_json::json;
use tokio::sync::watch;

use crate::upkeep::look_after;

use plan::{Data, Stored};

/// The authority's Secret.
const AUTHORITY: &str = "sallyport-ca";
/// Secrets of servers, and their Services.
const SERVERS: [(&str, &str); 2] =
    [("sallyport-operator-tls", "sallyport-operator"), ("sallyport-ingest-tls", "sallyport-ingest")];
/// The webhooks' configuration.
const WEBHOOKS: &str = "sallyport";
/// What marks a Secret as ours.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "sallyport");

/// The name that a Service's certificate must prove.
pub fn server_name(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc")
}

/// Why certificates are not as they should be.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the API server refused or did not answer")]
    Api(#[from] kube::Error),
    #[error("Secret {name} cannot be used")]
    Unusable { name: &'static str, source: TlsError },
    #[error("Secret {0} is not there yet; the replica that leads makes it")]
    Missing(&'static str),
    #[error("somebody else wrote {0} meanwhile")]
    Raced(&'static str),
}

/// Keeps certificates.
#[derive(Clone)]
pub struct Certificates {
    secrets: Api<Secret>,
    webhooks: Api<ValidatingWebhookConfiguration>,
    namespace: String,
    served: Arc<Served>,
    authorities: watch::Sender<String>,
    /// A field manager of this process alone: what another one made conflicts with it instead of being overwritten.
    manager: String,
    clock: fn() -> SystemTime,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Keeps those in `namespace`, and lets `served` show the operator's. Answers also with the authorities to trust, as
    /// PEM; empty until they are known.
    pub fn new(client: Client, namespace: &str, served: Arc<Served>) -> (Self, watch::Receiver<String>) {
        let (authorities, trusted) = watch::channel(String::new());
        let this = Self {
            secrets: Api::namespaced(client.clone(), namespace),
            webhooks: Api::all(client),
            namespace: namespace.into(),
            served,
            authorities,
            manager: format!("sallyport-certificates-{}", random_hex::<4>()),
            clock: SystemTime::now,
        };
        (this, trusted)
    }

    /// Looks after them for ever; writes while `leader` says so.
    pub async fn run(self, leader: watch::Receiver<bool>) {
        look_after("certificates are not as they should be", leader, |leads| self.look(leads)).await;
    }

    /// Reads, and writes what is due if this replica leads; then hands out what is there.
    async fn look(&self, leads: bool) -> Result<(), Fault> {
        let now = (self.clock)();
        let name = format!("Sallyport {}", random_hex::<8>());
        let authority = self.settled(AUTHORITY, leads, |stored| plan::authority(stored, &name, now)).await?;
        let mut servers = Vec::new();
        for (secret, service) in SERVERS {
            let bundle = plan::bundle(&authority, &[], now);
            let names = BTreeSet::from([server_name(service, &self.namespace)]);
            let signer = authority.authority();
            let wanted = |stored: Option<&Stored>| plan::server(stored, &signer, &bundle, &names, now);
            servers.push(self.settled(secret, leads, wanted).await?);
        }
        // Trusted first, shown afterwards.
        let bundle = plan::bundle(&authority, &servers, now);
        self.authorities.send_if_modified(|known| {
            let changed = *known != bundle;
            known.clone_from(&bundle);
            changed
        });
        if let (Some(own), [(name, _), ..]) = (servers.first(), SERVERS) {
            self.served.replace(&own.pem()).map_err(|source| Fault::Unusable { name, source })?;
        }
        if leads { self.vouch(&bundle).await } else { Ok(()) }
    }

    /// The Secret `name`, after what `wanted` wants of it was written.
    async fn settled(
        &self,
        name: &'static str,
        leads: bool,
        wanted: impl Fn(Option<&Stored>) -> Result<Option<Data>, TlsError>,
    ) -> Result<Stored, Fault> {
        let found = self.secrets.get_opt(name).await?;
        let stored = found.as_ref().map(stored);
        if leads {
            let data = wanted(stored.as_ref()).map_err(|source| Fault::Unusable { name, source })?;
            if let Some(data) = data {
                self.write(name, found.as_ref(), &data).await?;
                tracing::info!(secret = name, "certificate written");
                return Ok(Stored { is_ours: true, data });
            }
        }
        stored.ok_or(Fault::Missing(name))
    }

    /// Makes the Secret if there is none, or changes it if nobody else did since it was read.
    async fn write(&self, name: &'static str, found: Option<&Secret>, data: &Data) -> Result<(), Fault> {
        let encoded = |text: &String| json!(ByteString(text.clone().into_bytes()));
        let mut content: serde_json::Map<_, _> =
            data.iter().map(|(key, text)| (key.clone(), encoded(text))).collect();
        let written = match found {
            None => {
                let secret = json!({
                    "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": content,
                    "metadata": { "name": name, "labels": { MANAGED_BY.0: MANAGED_BY.1 } },
                });
                // Without force: made by somebody else in between, it conflicts.
                let params = PatchParams::apply(&self.manager);
                self.secrets.patch(name, &params, &Patch::Apply(secret)).await
            }
            Some(found) => {
                let gone =
                    found.data.iter().flatten().map(|(key, _)| key).filter(|key| !data.contains_key(*key));
                content.extend(gone.map(|key| (key.clone(), serde_json::Value::Null)));
                let patch =
                    json!({ "metadata": { "resourceVersion": found.resource_version() }, "data": content });
                self.secrets.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
            }
        };
        match written {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(Fault::Raced(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the API server whom to trust as our webhook. Without a configuration there is nobody to tell.
    async fn vouch(&self, bundle: &str) -> Result<(), Fault> {
        let Some(mut found) = self.webhooks.get_opt(WEBHOOKS).await? else {
            return Ok(());
        };
        let mut changed = false;
        for webhook in found.webhooks.iter_mut().flatten() {
            let known = webhook.client_config.ca_bundle.replace(ByteString(bundle.into()));
            changed |= known.is_none_or(|known| known.0 != bundle.as_bytes());
        }
        if !changed {
            return Ok(());
        }
        let metadata = json!({ "resourceVersion": found.meta().resource_version });
        let patch = json!({ "metadata": metadata, "webhooks": found.webhooks });
        match self.webhooks.patch(WEBHOOKS, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Err(Fault::Raced("the webhook's configuration"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn stored(secret: &Secret) -> Stored {
    let (label, value) = MANAGED_BY;
    let is_ours = secret.labels().get(label).is_some_and(|given| given == value);
    let text = |bytes: &ByteString| String::from_utf8_lossy(&bytes.0).into_owned();
    let data = secret.data.iter().flatten().map(|(key, bytes)| (key.clone(), text(bytes))).collect();
    Stored { is_ours, data }
}

#[cfg(test)]
mod tests;

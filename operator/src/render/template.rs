//! A pod template without its track: what a revision keeps.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use super::{container, gateway, names};

/// What is known of the content of the Secrets that a server's environment is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Secrets {
    /// It refers to none, or the operator may not read them: a change of their content restarts nothing.
    #[default]
    Unknown,
    /// Digest of the content.
    Known(String),
}

/// A pod template without its track.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(core::PodTemplateSpec);

impl Template {
    /// From its parts; no gateway: direct mode.
    pub(super) fn new(
        server: &str,
        main: core::Container,
        sidecar: Option<core::Container>,
        pull_secrets: &[String],
        annotations: BTreeMap<String, String>,
    ) -> Self {
        let is_governed = sidecar.is_some();
        let reference = |name: &String| core::LocalObjectReference { name: name.clone() };
        let spec = core::PodSpec {
            service_account_name: Some(names::service_account(server)),
            automount_service_account_token: Some(false),
            // Variables for every Service of the namespace say more than a server needs to know, and delay big namespaces.
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(container::SERVER_LINGER_SECONDS + 33),
            security_context: Some(core::PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(container::USER),
                run_as_group: Some(container::USER),
                fs_group: Some(container::USER),
                seccomp_profile: Some(container::seccomp()),
                ..core::PodSecurityContext::default()
            }),
            image_pull_secrets: (!pull_secrets.is_empty())
                .then(|| pull_secrets.iter().map(reference).collect()),
            init_containers: sidecar.map(|sidecar| vec![sidecar]),
            containers: vec![main],
            volumes: is_governed.then(|| gateway::volumes(server)),
            ..core::PodSpec::default()
        };
        let metadata = ObjectMeta {
            labels: Some(names::labels(server)),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        };
        Self(core::PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) })
    }

    /// From what a revision keeps.
    ///
    /// # Errors
    /// It is no pod template.
    pub fn from_json(template: serde_json::Value) -> serde_json::Result<Self> {
        serde_json::from_value(template).map(Self)
    }

    /// As a revision keeps it. Keys are sorted, so equal templates give equal text.
    ///
    /// # Errors
    /// Never: a pod template is JSON.
    pub fn to_json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(&self.0)
    }

    /// Digest of the template, of sixteen characters.
    ///
    /// # Errors
    /// Never: a pod template is JSON.
    pub fn hash(&self) -> serde_json::Result<String> {
        Ok(digest(self.to_json()?.to_string().as_bytes()))
    }

    /// As the pods of a track have it.
    pub(super) fn on(&self, track: names::Track) -> core::PodTemplateSpec {
        let mut template = self.0.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(names::TRACK.into(), track.as_str().into());
        template
    }

    /// Ports by container. Service, NetworkPolicy and proxies know one number for both tracks.
    pub(super) fn ports<'a>(&'a self) -> Vec<(&'a str, i32)> {
        let spec = self.0.spec.as_ref();
        let sidecars = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
        let containers = sidecars.chain(spec.map(|spec| spec.containers.as_slice()).unwrap_or_default());
        let ports = |container: &'a core::Container| {
            container.ports.iter().flatten().map(|port| (container.name.as_str(), port.container_port))
        };
        containers.flat_map(ports).collect()
    }
}

/// The first sixteen characters of the SHA-256 digest.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

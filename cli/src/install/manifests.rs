//! The manifests of `config/`, composed as `kubectl kustomize` does: a folder lists files and folders, an overlay patches.
//!
//! Of kustomize there is what those files use: `resources`, and `patches` that are JSON patches with a target. A test holds
//! the outcome against the real one.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

macro_rules! files {
    ($($path:literal),+ $(,)?) => {
        /// The text of each file by its path below `config/`.
        const FILES: &[(&str, &str)] = &[$(($path, include_str!(concat!("../../../config/", $path)))),+];
    };
}

files![
    "audit/api-keys.yaml",
    "audit/kustomization.yaml",
    "audit/pdb.yaml",
    "audit/services.yaml",
    "audit/statefulset.yaml",
    "base/kustomization.yaml",
    "base/namespace.yaml",
    "crd/kustomization.yaml",
    "crd/mcpruntime.org_mcpaccessgrants.yaml",
    "crd/mcpruntime.org_mcpagentsessions.yaml",
    "crd/mcpruntime.org_mcpservers.yaml",
    "network/kustomization.yaml",
    "network/policies.yaml",
    "operator/deployment.yaml",
    "operator/kustomization.yaml",
    "operator/pdb.yaml",
    "operator/services.yaml",
    "overlays/default/kustomization.yaml",
    "overlays/dev/audit.yaml",
    "overlays/dev/kustomization.yaml",
    "overlays/dev/operator.yaml",
    "overlays/kafka/audit.yaml",
    "overlays/kafka/kafka.yaml",
    "overlays/kafka/kustomization.yaml",
    "overlays/kafka/processor.yaml",
    "rbac/audit.yaml",
    "rbac/kustomization.yaml",
    "rbac/operator.yaml",
    "rbac/users.yaml",
    "webhook/kustomization.yaml",
    "webhook/validating.yaml",
];

/// What is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Overlay {
    /// For a cluster that is used.
    Default,
    /// For trying: one replica, and a record that goes with its pod.
    Dev,
    /// As by default, and events go by way of Kafka to ClickHouse.
    Kafka,
}

impl Overlay {
    const fn folder(self) -> &'static str {
        match self {
            Self::Default => "overlays/default",
            Self::Dev => "overlays/dev",
            Self::Kafka => "overlays/kafka",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    resources: Vec<String>,
    #[serde(default)]
    patches: Vec<OverlayPatch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverlayPatch {
    path: String,
    target: Target,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    name: String,
}

/// The objects of an overlay, in the order in which they are best applied.
pub(crate) fn compose(overlay: Overlay) -> anyhow::Result<Vec<Value>> {
    folder(&FILES.iter().copied().collect(), overlay.folder())
}

fn folder(files: &BTreeMap<&str, &str>, path: &str) -> anyhow::Result<Vec<Value>> {
    let at = join(path, "kustomization.yaml");
    let kustomization: Kustomization = parse(file(files, &at)?, &at)?;
    let mut objects = Vec::new();
    for resource in &kustomization.resources {
        let at = join(path, resource);
        if files.contains_key(at.as_str()) {
            objects.extend(documents(files, &at)?);
        } else {
            objects.extend(folder(files, &at)?);
        }
    }
    for patch in &kustomization.patches {
        let at = join(path, &patch.path);
        let operations: json_patch::Patch = parse(file(files, &at)?, &at)?;
        let target = objects
            .iter_mut()
            .find(|object| {
                text(object, "/kind") == patch.target.kind
                    && text(object, "/metadata/name") == patch.target.name
            })
            .with_context(|| format!("config/{at} patches what is not there"))?;
        json_patch::patch(target, &operations).with_context(|| format!("config/{at}"))?;
    }
    Ok(objects)
}

fn documents(files: &BTreeMap<&str, &str>, at: &str) -> anyhow::Result<Vec<Value>> {
    let documents = sallyport_api::manifest::documents(file(files, at)?);
    documents.into_iter().map(|document| parse(document.text, at)).collect()
}

fn parse<T: for<'de> Deserialize<'de>>(text: &str, at: &str) -> anyhow::Result<T> {
    let value =
        sallyport_api::manifest::parse_yaml(text).with_context(|| format!("config/{at} is no YAML"))?;
    serde_json::from_value(value).with_context(|| format!("config/{at}"))
}

fn file<'f>(files: &BTreeMap<&str, &'f str>, at: &str) -> anyhow::Result<&'f str> {
    files.get(at).copied().with_context(|| format!("config/{at} is not built in"))
}

/// `path`, which may begin with `../`, seen from `folder`.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// The text at `pointer`; empty where there is none.
pub(crate) fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;

//! Objects into a cluster.

use std::time::{Duration, Instant};

use anyhow::Context;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use serde_json::Value;

use super::manifests::text;
use crate::commands::say;

/// Who we are among those who own fields.
const MANAGER: &str = "sallyport-install";
const POLL: Duration = Duration::from_millis(250);

/// Applies all objects in order, by server-side apply: what others set beside our fields stays.
pub(crate) async fn all(client: &kube::Client, objects: &[Value]) -> anyhow::Result<()> {
    for object in objects {
        let name = text(object, "/metadata/name");
        let params = PatchParams::apply(MANAGER).force();
        api(client, object)?
            .patch(name, &params, &Patch::Apply(object))
            .await
            .map_err(plain)
            .with_context(|| format!("cannot apply {}", title(object)))?;
        say(&format!("applied  {}", title(object)));
    }
    Ok(())
}

/// Waits until everything that has a state is ready, and says so of each.
pub(super) async fn wait(client: &kube::Client, objects: &[Value], timeout: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut waiting: Vec<(&Value, String)> =
        objects.iter().filter(|object| has_state(object)).map(|object| (object, String::new())).collect();
    loop {
        let mut left = Vec::new();
        for (object, _) in waiting {
            let live = api(client, object)?.get(text(object, "/metadata/name")).await;
            match live.map(|live| missing(&serde_json::to_value(live).unwrap_or_default())) {
                Ok(None) => say(&format!("ready    {}", title(object))),
                Ok(Some(why)) => left.push((object, why)),
                Err(error) => left.push((object, plain(error).to_string())),
            }
        }
        if left.is_empty() {
            say(&format!("installed in {:.1} s", began.elapsed().as_secs_f64()));
            return Ok(());
        }
        if began.elapsed() > timeout {
            let left: Vec<String> =
                left.iter().map(|(object, why)| format!("{}: {why}", title(object))).collect();
            anyhow::bail!(
                "not ready after {} s; `sallyport doctor` tells more\n  {}",
                timeout.as_secs(),
                left.join("\n  ")
            );
        }
        waiting = left;
        tokio::time::sleep(POLL).await;
    }
}

/// The words of the API server, without their wrapping.
pub(crate) fn plain(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow::anyhow!("{} ({})", status.message, status.code),
        error => anyhow::Error::from(error).context("the API server cannot be asked"),
    }
}

fn api(client: &kube::Client, object: &Value) -> anyhow::Result<Api<DynamicObject>> {
    let types =
        TypeMeta { api_version: text(object, "/apiVersion").into(), kind: text(object, "/kind").into() };
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
    Ok(match text(object, "/metadata/namespace") {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    })
}

fn title(object: &Value) -> String {
    format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"))
}

fn has_state(object: &Value) -> bool {
    ["CustomResourceDefinition", "Deployment", "StatefulSet", "ValidatingWebhookConfiguration"]
        .contains(&text(object, "/kind"))
}

/// What an object still lacks; none: it is ready.
fn missing(live: &Value) -> Option<String> {
    let number = |pointer| live.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let list = |pointer| live.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    match text(live, "/kind") {
        "CustomResourceDefinition" => {
            let established = list("/status/conditions").any(|condition| {
                condition.get("type").is_some_and(|kind| kind == "Established")
                    && condition.get("status").is_some_and(|status| status == "True")
            });
            (!established).then(|| "is not established".into())
        }
        "Deployment" | "StatefulSet" => {
            let wanted = number("/spec/replicas");
            if number("/status/observedGeneration") < number("/metadata/generation") {
                return Some("is not taken up by its controller yet".into());
            }
            let updated = number("/status/updatedReplicas").min(number("/status/replicas"));
            let (ready, all) = (number("/status/readyReplicas").min(updated), number("/status/replicas"));
            (ready != wanted || all != wanted).then(|| format!("{ready} of {wanted} pods are ready"))
        }
        "ValidatingWebhookConfiguration" => {
            let has_authority = |webhook: &Value| !text(webhook, "/clientConfig/caBundle").is_empty();
            let complete = list("/webhooks").all(has_authority);
            (!complete).then(|| "has no certificate authority yet; the operator puts it there".into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(wanted: i64, replicas: i64, updated: i64, ready: i64) -> Value {
        json!({ "kind": "Deployment", "metadata": { "generation": 2 }, "spec": { "replicas": wanted }, "status": {
            "observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready } })
    }

    #[test]
    fn a_deployment_is_ready_when_every_pod_is_new_and_ready() {
        assert_eq!(missing(&deployment(2, 2, 2, 2)), None);
        for (replicas, updated, ready) in [(2, 2, 1), (2, 1, 2), (3, 2, 3), (0, 0, 0)] {
            assert!(
                missing(&deployment(2, replicas, updated, ready)).is_some(),
                "{replicas} {updated} {ready}"
            );
        }
        let mut old = deployment(2, 2, 2, 2);
        old["metadata"]["generation"] = 3.into();
        assert!(missing(&old).is_some());
    }

    #[test]
    fn a_webhook_is_ready_when_each_has_an_authority() {
        let webhook = |bundles: &[&str]| {
            let webhooks: Vec<Value> =
                bundles.iter().map(|bundle| json!({ "clientConfig": { "caBundle": bundle } })).collect();
            json!({ "kind": "ValidatingWebhookConfiguration", "webhooks": webhooks })
        };
        assert_eq!(missing(&webhook(&["Y2E=", "Y2E="])), None);
        assert!(missing(&webhook(&["Y2E=", ""])).is_some());
    }

    #[test]
    fn a_definition_is_ready_when_it_is_established() {
        let definition = |status: &str| {
            json!({ "kind": "CustomResourceDefinition", "status": {
            "conditions": [{ "type": "Established", "status": status }] } })
        };
        assert_eq!(missing(&definition("True")), None);
        assert!(missing(&definition("False")).is_some());
    }
}

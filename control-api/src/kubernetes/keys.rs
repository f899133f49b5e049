//! API keys in a Secret.

use std::collections::BTreeMap;

use anyhow::Context;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams};
use rand::RngExt;
use serde_json::json;

use super::MANAGER;

/// The entry of the Secret that has the keys, one per line.
const ENTRY: &str = "keys";

/// The text of API keys in the Secret `name` of the client's own namespace; where it is empty, a new random key is put there.
/// The Secret itself must exist: to make one is a right that leads to every token of the namespace.
///
/// # Errors
/// There is none, or it can be neither read nor filled.
pub(crate) async fn api_keys(client: kube::Client, name: &str) -> anyhow::Result<String> {
    let namespace = client.default_namespace().to_string();
    let api: Api<Secret> = Api::namespaced(client, &namespace);
    let reading = || {
        format!(
            "cannot read the API keys in Secret `{namespace}/{name}`; apply config/audit/api-keys.yaml, or see to the role"
        )
    };
    loop {
        let secret = api.get(name).await.with_context(reading)?;
        if let Some(ByteString(keys)) = secret.data.as_ref().and_then(|data| data.get(ENTRY))
            && !keys.trim_ascii().is_empty()
        {
            return String::from_utf8(keys.clone()).with_context(reading);
        }
        let data = BTreeMap::from([(ENTRY, ByteString(random_key().into_bytes()))]);
        let patch =
            json!({ "metadata": { "resourceVersion": secret.metadata.resource_version }, "data": data });
        match api
            .patch(
                name,
                &PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() },
                &Patch::Merge(patch),
            )
            .await
        {
            Ok(_) => tracing::info!(secret = %format_args!("{namespace}/{name}"), "made an API key"),
            // Another process was faster: its key counts.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot put an API key into Secret `{namespace}/{name}`"));
            }
        }
    }
}

fn random_key() -> String {
    rand::rng().random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

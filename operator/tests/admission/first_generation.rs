//! Manifests as users of the first generation have them.

use std::path::PathBuf;

use sallyport_api::manifest::parse_yaml;
use serde_json::Value;

use crate::support::Tenancy;

/// The namespace that the manifests name.
const NAMESPACE: &str = "mcp-servers";

/// Paths of what is in `wanted` and not, or otherwise, in `stored`.
fn lost(wanted: &Value, stored: &Value, path: &str, found: &mut Vec<String>) {
    match (wanted, stored) {
        (Value::Object(wanted), Value::Object(stored)) => {
            for (name, value) in wanted {
                lost(value, stored.get(name).unwrap_or(&Value::Null), &format!("{path}.{name}"), found);
            }
        }
        (Value::Array(wanted), Value::Array(stored)) if wanted.len() == stored.len() => {
            for (index, (wanted, stored)) in wanted.iter().zip(stored).enumerate() {
                lost(wanted, stored, &format!("{path}[{index}]"), found);
            }
        }
        _ if wanted == stored => {}
        _ => found.push(path.to_string()),
    }
}

/// kubectl waits for the webhook, which another thread serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_apply_unchanged_and_warnings_name_what_todays_rules_need() {
    let Some(t) = Tenancy::start(NAMESPACE).await else { return };
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/samples/first-generation"));
    for (file, warnings) in [
        (
            "server.yaml",
            &[
                ("SideEffectUnknown", "spec.tools[0].sideEffect"),
                ("SideEffectUnknown", "spec.tools[1].sideEffect"),
            ][..],
        ),
        ("access.yaml", &[("NoSideEffectsAllowed", "spec.allowedSideEffects")][..]),
    ] {
        let path = folder.join(file);
        let told = t.kubectl(&["apply", "-f", &path.display().to_string()]);
        for (reason, field) in warnings {
            let is_told =
                |line: &str| line.contains("Warning:") && line.contains(reason) && line.contains(field);
            assert!(told.lines().any(is_told), "{reason} {field}: {told}");
        }
        for manifest in std::fs::read_to_string(&path).unwrap().split("\n---\n") {
            let manifest = parse_yaml(manifest).unwrap();
            let (kind, name) =
                (manifest["kind"].as_str().unwrap(), manifest["metadata"]["name"].as_str().unwrap());
            let stored = t.admin.get(NAMESPACE, kind, name).await.expect("it is stored");
            let mut found = Vec::new();
            lost(&manifest, &stored, kind, &mut found);
            assert_eq!(found, [""; 0], "nothing is pruned or turned into something else");
            t.learn(stored);
        }
    }
}

//! The schemas' rules by the API server, which must judge as our own reading of manifests does.

use std::path::PathBuf;

use sallyport_api::manifest::{load_json, parse_yaml};
use sallyport_api::{Kind, crds};
use serde_json::{Value, json};

use crate::support::{Done, Tenancy, fields};

async fn dry(t: &Tenancy, kind: &str, manifest: Value) -> Done {
    t.admin.try_make(&t.namespace, kind, manifest, true).await
}

#[tokio::test]
async fn the_api_server_holds_every_rule() {
    let Some(t) = Tenancy::unjudged("rules").await else { return };
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/api/testdata/rules"));
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let case = parse_yaml(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let kind = case["kind"].as_str().unwrap();
        let manifest = |field: &str| {
            let mut manifest = case[field].clone();
            if manifest["metadata"].is_null() {
                manifest["metadata"] = json!({ "name": name });
            }
            manifest
        };
        let (accepted, rejected) = if case["before"].is_null() {
            (dry(&t, kind, manifest("accepted")).await, dry(&t, kind, manifest("rejected")).await)
        } else {
            t.admin.try_make(&t.namespace, kind, manifest("before"), false).await.unwrap();
            let rejected = t.admin.replace(&t.namespace, kind, manifest("rejected")).await;
            (t.admin.replace(&t.namespace, kind, manifest("accepted")).await, rejected)
        };
        accepted.unwrap_or_else(|status| panic_with(&name, &status.message));
        let (code, at) = fields(rejected);
        let path = case["path"].as_str().unwrap();
        // A rule of the root stands for a field that has no schema.
        let is_there = at.iter().any(|field| field == path || (path == "metadata.name" && field == "<nil>"));
        assert!(code == 422 && is_there, "{name}: {code} {at:?}");
        cases += 1;
    }
    assert!(cases > 15);
}

#[expect(clippy::panic, reason = "a test cannot go on")]
fn panic_with(name: &str, message: &str) -> Value {
    panic!("{name}: {message}")
}

/// The smallest value that a schema allows, and that is all its required fields.
fn smallest(schema: &Value) -> Value {
    if let Some(allowed) = schema["enum"].as_array() {
        return allowed[0].clone();
    }
    match schema["type"].as_str().unwrap_or_default() {
        "object" => {
            let required =
                schema["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap());
            Value::Object(required.map(|name| (name.into(), smallest(&schema["properties"][name]))).collect())
        }
        "array" => json!([]),
        "boolean" => json!(false),
        "integer" => schema["minimum"].clone(),
        _ => json!("a"),
    }
}

/// Values that break one bound each, with the path of the field; every other field is as small as it may be.
fn beyond(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    let mut push = |value: Value| found.push((path.to_string(), value));
    match schema["type"].as_str().unwrap_or_default() {
        "string" => {
            if let Some(max) = schema["maxLength"].as_u64() {
                push("a".repeat(usize::try_from(max).unwrap() + 1).into());
            }
            if !schema["enum"].is_null() || !schema["pattern"].is_null() || !schema["format"].is_null() {
                push("\u{7f} no such thing".into());
            }
            push(json!(7));
        }
        "integer" => {
            push((schema["minimum"].as_f64().unwrap() as i64 - 1).into());
            push((schema["maximum"].as_f64().unwrap() as i64 + 1).into());
            push("1".into());
        }
        "boolean" => push("true".into()),
        "array" => {
            let max = usize::try_from(schema["maxItems"].as_u64().unwrap()).unwrap();
            push(vec![smallest(&schema["items"]); max + 1].into());
            push(json!({}));
            let mut items = Vec::new();
            beyond(&schema["items"], path, &mut items);
            found.extend(items.into_iter().map(|(path, item)| (path, json!([item]))));
        }
        "object" => {
            if let Some(max) = schema["maxProperties"].as_u64() {
                push(
                    (0..=max)
                        .map(|i| (format!("k{i}"), json!("v")))
                        .collect::<serde_json::Map<_, _>>()
                        .into(),
                );
            }
            push(json!([]));
            for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
                let mut values = Vec::new();
                beyond(inner, &format!("{path}.{name}"), &mut values);
                found.extend(values.into_iter().map(|(path, value)| {
                    let mut whole = smallest(schema);
                    whole[name] = value;
                    (path, whole)
                }));
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn the_api_server_and_we_refuse_what_is_beyond_any_bound() {
    let Some(t) = Tenancy::unjudged("bounds").await else { return };
    let mut judged = 0;
    for (crd, kind) in crds().into_iter().zip(Kind::ALL) {
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut values = Vec::new();
        beyond(schema, "spec", &mut values);
        for (path, spec) in values {
            let manifest = json!({ "apiVersion": "mcpruntime.org/v1alpha1", "kind": kind.as_str(),
                "metadata": { "name": "beyond", "namespace": t.namespace }, "spec": spec });
            let ours = load_json(manifest.clone()).expect_err(&path);
            let at = path.split('.').take(2).collect::<Vec<_>>().join(".");
            assert!(ours.iter().any(|problem| problem.path.starts_with(&at)), "{path}: {ours:?}");
            let status = dry(&t, kind.as_str(), manifest).await.expect_err(&path);
            assert!([400, 422].contains(&status.code), "{path}: {status:?}");
            judged += 1;
        }
    }
    assert!(judged > 200, "{judged}");
}

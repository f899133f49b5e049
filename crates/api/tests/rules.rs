//! Every rule of the schemas, by a manifest that it accepts and one that it rejects; and what holds of every field.
//! `operator/tests/admission/rules.rs` asks a real API server about the same manifests.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use sallyport_api::manifest::{load_json, load_update, parse_yaml};
use sallyport_api::schema::SchemaProblem;
use sallyport_api::{Object, crds};
use serde_json::{Value, json};

fn cases() -> Vec<(String, Value)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/rules"));
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        let name = path.file_stem().expect("named").to_string_lossy().into_owned();
        (name, parse_yaml(&text).expect("YAML"))
    };
    std::fs::read_dir(folder).expect("there").map(read).collect()
}

fn manifest(case: &Value, field: &str) -> Value {
    let mut manifest = case[field].clone();
    manifest["apiVersion"] = "mcpruntime.org/v1alpha1".into();
    manifest["kind"] = case["kind"].clone();
    if manifest["metadata"].is_null() {
        manifest["metadata"] = json!({ "name": "subject-of-the-case" });
    }
    manifest
}

fn loaded(case: &Value, field: &str) -> Result<Object, Vec<SchemaProblem>> {
    let before = (!case["before"].is_null()).then(|| load_json(manifest(case, "before")).expect("valid"));
    load_update(manifest(case, field), before.as_ref())
}

#[test]
fn every_rule_accepts_and_rejects() {
    for (name, case) in cases() {
        assert_eq!(loaded(&case, "accepted").map(|_| ()), Ok(()), "{name}");
        let problems = loaded(&case, "rejected").expect_err(&name);
        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
        assert_eq!(problems[0].path, case["path"].as_str().expect("text"), "{name}");
        let message = case["message"].as_str().expect("text");
        assert!(problems[0].message.contains(message), "{name}: {}", problems[0].message);
    }
}

/// Every node of the schemas, with its path.
fn nodes() -> Vec<(String, Value)> {
    fn walk(path: String, schema: &Value, found: &mut Vec<(String, Value)>) {
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            walk(format!("{path}.{name}"), schema, found);
        }
        for (field, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if schema[field].is_object() {
                walk(format!("{path}{mark}"), &schema[field], found);
            }
        }
        found.push((path, schema.clone()));
    }
    let mut found = Vec::new();
    for crd in crds() {
        let kind = crd.spec.names.kind.clone();
        let value = serde_json::to_value(&crd).expect("JSON");
        let schema = &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        walk(kind, schema, &mut found);
    }
    found
}

#[test]
fn every_rule_of_the_schemas_has_a_case() {
    let cases = cases();
    let mut covered = BTreeSet::new();
    for (path, schema) in nodes() {
        let kind = path.split('.').next().expect("not empty").to_string();
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().expect("every rule says what is wrong").to_string();
            let has = cases.iter().any(|(_, case)| {
                case["kind"] == kind.as_str() && message.contains(case["message"].as_str().expect("text"))
            });
            assert!(has, "{path}: no case for: {message}");
            covered.insert((kind.clone(), message));
        }
    }
    assert!(covered.len() > 15, "the rules were found: {covered:?}");
}

/// Bounds keep what rules cost within what the API server allows, and one tenant's object from being a burden to all.
#[test]
fn every_text_list_and_map_of_a_spec_is_bounded() {
    for (path, schema) in nodes().into_iter().filter(|(path, _)| path.contains(".spec.")) {
        let is_bounded = match schema["type"].as_str() {
            Some("string") => {
                !schema["maxLength"].is_null()
                    || !schema["enum"].is_null()
                    || !schema["format"].is_null()
                    || schema["pattern"] == "^kubernetes$"
            }
            Some("array") => !schema["maxItems"].is_null(),
            Some("integer") => !schema["minimum"].is_null() && !schema["maximum"].is_null(),
            Some("object") => schema["additionalProperties"].is_null() || !schema["maxProperties"].is_null(),
            _ => true,
        };
        assert!(is_bounded, "{path} has no bound: {schema}");
    }
}

#[test]
fn every_field_is_described() {
    for (path, schema) in nodes() {
        let is_field = path.rsplit('.').next().is_some_and(|last| !last.ends_with(['}', ']']));
        let description = schema["description"].as_str().unwrap_or_default();
        assert!(!is_field || description.len() > 3, "{path} has no description");
        assert!(!description.contains("Auto-generated"), "{path}: {description}");
    }
}

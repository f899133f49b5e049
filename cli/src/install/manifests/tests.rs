use std::path::Path;
use std::process::Command;

use clap::{CommandFactory, Parser, ValueEnum};

use super::*;
use crate::args::Cli;

fn composed(overlay: Overlay) -> BTreeMap<String, Value> {
    let objects = compose(overlay).unwrap();
    let count = objects.len();
    let by_name: BTreeMap<String, Value> = objects
        .into_iter()
        .map(|object| {
            let part = |pointer| text(&object, pointer).to_string();
            (format!("{} {}/{}", part("/kind"), part("/metadata/namespace"), part("/metadata/name")), object)
        })
        .collect();
    assert_eq!(by_name.len(), count, "an object is there twice");
    by_name
}

fn rules(objects: &BTreeMap<String, Value>) -> Vec<(String, Value)> {
    let roles =
        objects.iter().filter(|(name, _)| name.starts_with("ClusterRole ") || name.starts_with("Role "));
    roles
        .flat_map(|(name, role)| {
            role["rules"]
                .as_array()
                .cloned()
                .unwrap_or_default()
                .into_iter()
                .map(move |rule| (name.clone(), rule))
        })
        .collect()
}

fn has(rule: &Value, field: &str, word: &str) -> bool {
    rule[field].as_array().is_some_and(|words| words.iter().any(|given| given == word))
}

#[test]
fn no_role_has_a_wildcard_impersonates_or_reads_secrets_of_others() {
    for overlay in Overlay::value_variants() {
        let objects = composed(*overlay);
        let rules = rules(&objects);
        assert!(rules.len() > 20, "{}", rules.len());
        let bound = |role: &str| {
            let mut bindings = objects.values().filter(|object| text(object, "/kind").ends_with("Binding"));
            bindings.any(|binding| role.ends_with(text(binding, "/roleRef/name")))
        };
        for (role, rule) in &rules {
            assert!(rule.get("nonResourceURLs").is_none(), "{role}: {rule}");
            for field in ["verbs", "resources", "apiGroups"] {
                let words = rule[field].as_array().unwrap();
                assert!(words.iter().all(|word| !word.as_str().unwrap().contains('*')), "{role}: {rule}");
            }
            for verb in ["impersonate", "bind", "escalate"] {
                assert!(!has(rule, "verbs", verb), "{role}: {rule}");
            }
            // Whoever may write roles or make tokens may do anything.
            for resource in ["serviceaccounts/token", "pods", "pods/exec", "nodes/proxy", "users", "groups"] {
                assert!(!has(rule, "resources", resource), "{role}: {rule}");
            }
            assert!(!has(rule, "apiGroups", "rbac.authorization.k8s.io"), "{role}: {rule}");
            if has(rule, "resources", "secrets") && bound(role) {
                assert!(role.starts_with("Role sallyport-system/"), "{role}: {rule}");
                assert!(!rule["resourceNames"].as_array().unwrap().is_empty(), "{role}: {rule}");
                for verb in ["list", "watch", "deletecollection"] {
                    assert!(!has(rule, "verbs", verb), "a name does not narrow it, {role}: {rule}");
                }
            }
        }
    }
}

#[test]
fn every_container_of_ours_is_restricted_and_probed() {
    for overlay in Overlay::value_variants() {
        let objects = composed(*overlay);
        let workloads: Vec<_> =
            objects.values().filter(|object| object.pointer("/spec/template/spec").is_some()).collect();
        assert_eq!(workloads.len(), if *overlay == Overlay::Kafka { 3 } else { 2 });
        for workload in workloads {
            let pod = &workload["spec"]["template"]["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
            for container in pod["containers"].as_array().unwrap() {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false);
                assert_eq!(context["readOnlyRootFilesystem"], true);
                assert_eq!(context["capabilities"]["drop"][0], "ALL");
                for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                    assert!(container[probe].is_object(), "{probe}: {container}");
                }
                assert!(container["resources"]["requests"]["cpu"].is_string());
                assert!(container["resources"]["limits"]["memory"].is_string());
                let image = container["image"].as_str().unwrap();
                assert_eq!(image, concat!("sallyport:", env!("CARGO_PKG_VERSION")));
            }
        }
    }
}

#[test]
fn every_flag_and_variable_of_our_containers_is_known_to_its_command() {
    let command = Cli::command();
    for overlay in Overlay::value_variants() {
        let objects = composed(*overlay);
        let pods = objects.values().filter_map(|object| object.pointer("/spec/template/spec/containers"));
        for container in pods.flat_map(|containers| containers.as_array().unwrap()) {
            let arguments: Vec<&str> = container["args"]
                .as_array()
                .unwrap()
                .iter()
                .map(|argument| argument.as_str().unwrap())
                .collect();
            let known = command.find_subcommand(arguments[0]).unwrap();
            let variables = container["env"].as_array().into_iter().flatten();
            let names = variables.map(|variable| variable["name"].as_str().unwrap());
            let flags = names.filter(|name| name.starts_with("SALLYPORT_")).map(|name| {
                let flag = known.get_arguments().find(|flag| flag.get_env() == Some(name.as_ref()));
                format!("--{}=value", flag.unwrap_or_else(|| panic!("{name}")).get_long().unwrap())
            });
            let line = std::iter::once("sallyport".to_string());
            let line = line.chain(arguments.iter().map(ToString::to_string)).chain(flags);
            if let Err(error) = Cli::try_parse_from(line) {
                panic!("{overlay:?}, {}: {error}", container["name"]);
            }
        }
    }
}

#[test]
fn the_overlays_differ_by_what_they_say() {
    let (default, dev) = (composed(Overlay::Default), composed(Overlay::Dev));
    assert_eq!(default.keys().collect::<Vec<_>>(), dev.keys().collect::<Vec<_>>());
    let differing: Vec<&String> =
        default.iter().filter(|(name, object)| dev[*name] != **object).map(|(name, _)| name).collect();
    assert_eq!(
        differing,
        ["Deployment sallyport-system/sallyport-operator", "StatefulSet sallyport-system/sallyport-audit"]
    );
    assert_eq!(default["Deployment sallyport-system/sallyport-operator"]["spec"]["replicas"], 2);
    assert!(
        dev["StatefulSet sallyport-system/sallyport-audit"]["spec"].get("volumeClaimTemplates").is_none()
    );
}

#[test]
fn the_overlay_for_kafka_adds_what_reaches_the_brokers() {
    let (default, kafka) = (composed(Overlay::Default), composed(Overlay::Kafka));
    let added: Vec<&String> = kafka.keys().filter(|name| !default.contains_key(*name)).collect();
    assert_eq!(
        added,
        [
            "ConfigMap sallyport-system/sallyport-clickhouse",
            "ConfigMap sallyport-system/sallyport-kafka",
            "Deployment sallyport-system/sallyport-processor",
            "NetworkPolicy sallyport-system/sallyport-clickhouse",
            "NetworkPolicy sallyport-system/sallyport-kafka",
            "NetworkPolicy sallyport-system/sallyport-processor",
            "PodDisruptionBudget sallyport-system/sallyport-processor",
            "Secret sallyport-system/sallyport-clickhouse",
            "Secret sallyport-system/sallyport-kafka"
        ]
    );
    let ingest =
        &kafka["StatefulSet sallyport-system/sallyport-audit"]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(ingest["name"], "ingest");
    let variables = ingest["env"].as_array().unwrap();
    let brokers = variables.iter().find(|variable| variable["name"] == "SALLYPORT_KAFKA").unwrap();
    assert_eq!(brokers["valueFrom"]["configMapKeyRef"]["name"], "sallyport-kafka");
}

/// Kustomize writes `1.0` as `1`.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

#[test]
fn what_is_composed_is_what_kustomize_makes() {
    let Some(bin) = std::env::var_os("SALLYPORT_KUBE_BIN") else {
        eprintln!("skipped: needs kubectl; set SALLYPORT_KUBE_BIN to its folder");
        return;
    };
    for overlay in Overlay::value_variants() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(overlay.folder());
        let output =
            Command::new(Path::new(&bin).join("kubectl")).arg("kustomize").arg(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut made: Vec<Value> = sallyport_api::manifest::documents(&text)
            .into_iter()
            .map(|document| sallyport_api::manifest::parse_yaml(document.text).unwrap())
            .collect();
        let mut ours = compose(*overlay).unwrap();
        for list in [&mut made, &mut ours] {
            list.sort_by_key(|object| {
                ["/kind", "/metadata/namespace", "/metadata/name"]
                    .map(|at| super::text(object, at).to_string())
            });
        }
        assert_eq!(ours.len(), made.len());
        for (ours, made) in ours.iter().zip(&made) {
            let (ours, made) = (plain(ours), plain(made));
            assert!(ours == made, "{} differs", super::text(&ours, "/metadata/name"));
        }
    }
}

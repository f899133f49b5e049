//! The environment of the server's container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use sallyport_api::v1alpha1::{EnvVar, MCPServerSpec, SecretEnvVar, SecretKeyRef};
use sallyport_resolve::Problem;

use super::prepare::error;

/// All variables, in the order of their fields. A name may stand once only: Kubernetes would take one of them and not say which.
pub(super) fn environment(spec: &MCPServerSpec, problems: &mut Vec<Problem>) -> Vec<core::EnvVar> {
    let plain = [("spec.envVars", &spec.env_vars), ("spec.env", &spec.env)];
    let secret =
        [("spec.secretEnvVars", &spec.secret_env_vars), ("spec.envFromSecret", &spec.env_from_secret)];
    let mut environment = Vec::new();
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for (field, list) in plain {
        for (index, EnvVar { name, value }) in list.iter().enumerate() {
            let path = format!("{field}[{index}]");
            check_name(&path, name, &mut seen, problems);
            environment.push(core::EnvVar {
                name: name.clone(),
                value: Some(value.clone()),
                value_from: None,
            });
        }
    }
    for (field, list) in secret {
        for (index, SecretEnvVar { name, secret_key_ref }) in list.iter().enumerate() {
            let path = format!("{field}[{index}]");
            check_name(&path, name, &mut seen, problems);
            check_reference(&format!("{path}.secretKeyRef"), secret_key_ref, problems);
            environment.push(from_secret(name, secret_key_ref));
        }
    }
    environment
}

/// Keys of Secrets that the environment is made of.
pub fn references(spec: &MCPServerSpec) -> impl Iterator<Item = &SecretKeyRef> {
    spec.secret_env_vars.iter().chain(&spec.env_from_secret).map(|variable| &variable.secret_key_ref)
}

fn from_secret(name: &str, reference: &SecretKeyRef) -> core::EnvVar {
    let selector =
        core::SecretKeySelector { name: reference.name.clone(), key: reference.key.clone(), optional: None };
    let source = core::EnvVarSource { secret_key_ref: Some(selector), ..core::EnvVarSource::default() };
    core::EnvVar { name: name.into(), value: None, value_from: Some(source) }
}

fn check_name<'a>(
    path: &str,
    name: &'a str,
    seen: &mut BTreeMap<&'a str, String>,
    problems: &mut Vec<Problem>,
) {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if name.is_empty() || !name.bytes().all(fits) || name.starts_with(|c: char| c.is_ascii_digit()) {
        let message =
            format!("is `{name}`; must be letters, digits, `-`, `.` and `_`, and not begin with a digit");
        problems.push(error(format!("{path}.name"), "InvalidVariable", message));
    }
    match seen.get(name) {
        Some(first) => {
            let message = format!("is `{name}`, which {first} sets already; remove one of them");
            problems.push(error(format!("{path}.name"), "DuplicateVariable", message));
        }
        None => drop(seen.insert(name, path.into())),
    }
}

fn check_reference(path: &str, reference: &SecretKeyRef, problems: &mut Vec<Problem>) {
    if !super::prepare::is_subdomain(&reference.name) {
        let message = format!("is `{}`, which is no name of a Secret", reference.name);
        problems.push(error(format!("{path}.name"), "InvalidReference", message));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if reference.key.is_empty() || !reference.key.bytes().all(fits) {
        let message = format!("is `{}`, which is no key of a Secret", reference.key);
        problems.push(error(format!("{path}.key"), "InvalidReference", message));
    }
}

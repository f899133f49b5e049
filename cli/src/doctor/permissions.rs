//! Whether our ServiceAccounts may do what they need, and nothing that they must not.

use futures::StreamExt;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use serde_json::Value;

use super::{Finding, NAMESPACE, some_of};
use crate::install::manifests::{Overlay, compose, text};

const CHECK: &str = "permissions";
/// Questions at once.
const AT_ONCE: usize = 16;

/// Something that an account may do, or must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Right {
    /// None: in the whole cluster.
    pub(super) namespace: Option<String>,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) name: Option<String>,
    pub(super) verb: String,
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(name) = &self.name {
            write!(f, "/{name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in {namespace}"),
            None => Ok(()),
        }
    }
}

/// Both accounts.
pub(super) async fn check(client: &kube::Client) -> Vec<Finding> {
    let objects = match compose(Overlay::Default) {
        Ok(objects) => objects,
        Err(error) => return vec![Finding::failure(CHECK, format!("{error:#}"), "report this defect")],
    };
    let mut findings = Vec::new();
    for account in ["sallyport-operator", "sallyport-audit"] {
        findings.push(account_check(client, account, &rights(&objects, account)).await);
    }
    findings
}

async fn account_check(client: &kube::Client, account: &str, needed: &[Right]) -> Finding {
    let forbidden = forbidden();
    let questions = needed.iter().chain(&forbidden);
    let answers: Vec<_> = futures::stream::iter(questions.map(|right| ask(client, account, right)))
        .buffered(AT_ONCE)
        .collect()
        .await;
    let mut allowed = Vec::new();
    for answer in answers {
        match answer {
            Ok(answer) => allowed.push(answer),
            Err(error) => return Finding::blind(CHECK, &error),
        }
    }
    let (has, beyond) = allowed.split_at(needed.len().min(allowed.len()));
    let pick = |rights: &[Right], answers: &[bool], wanted: bool| -> Vec<String> {
        let chosen = rights.iter().zip(answers).filter(|(_, answer)| **answer == wanted);
        chosen.map(|(right, _)| right.to_string()).collect()
    };
    verdict(account, needed.len(), &pick(needed, has, false), &pick(&forbidden, beyond, true))
}

pub(super) fn verdict(account: &str, needed: usize, lacking: &[String], beyond: &[String]) -> Finding {
    if !lacking.is_empty() {
        return Finding::failure(
            CHECK,
            format!("{account} may not {}", some_of(lacking)),
            "run `sallyport install`, which applies its roles and bindings",
        );
    }
    if !beyond.is_empty() {
        return Finding::warning(
            CHECK,
            format!("{account} may also {}", some_of(beyond)),
            "find what binds it to more than its own roles: `kubectl get clusterrolebindings,rolebindings -A -o wide`",
        );
    }
    Finding::ok(
        CHECK,
        format!("{account} has the {needed} rights it needs, and none of those it must not have"),
    )
}

/// What the roles that are installed give to an account, one by one.
pub(super) fn rights(objects: &[Value], account: &str) -> Vec<Right> {
    let is_ours = |object: &&Value| {
        let subjects = object.pointer("/subjects").and_then(Value::as_array);
        subjects.into_iter().flatten().any(|subject| text(subject, "/name") == account)
    };
    let bindings = objects.iter().filter(|object| text(object, "/kind").ends_with("Binding")).filter(is_ours);
    bindings
        .flat_map(|binding| {
            let (kind, name) = (text(binding, "/roleRef/kind"), text(binding, "/roleRef/name"));
            let role = objects
                .iter()
                .find(|object| text(object, "/kind") == kind && text(object, "/metadata/name") == name);
            let rules = role.and_then(|role| role.pointer("/rules")).and_then(Value::as_array);
            let namespace = Some(text(binding, "/metadata/namespace")).filter(|name| !name.is_empty());
            rules.into_iter().flatten().flat_map(move |rule| of_rule(rule, namespace))
        })
        .collect()
}

fn of_rule(rule: &Value, namespace: Option<&str>) -> Vec<Right> {
    let words = |field: &str| -> Vec<&str> {
        rule.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let named = words("resourceNames");
    let names: Vec<Option<&str>> =
        if named.is_empty() { vec![None] } else { named.into_iter().map(Some).collect() };
    let mut rights = Vec::new();
    for group in words("apiGroups") {
        for resource in words("resources") {
            for verb in words("verbs") {
                rights.extend(names.iter().map(|name| Right {
                    namespace: namespace.map(Into::into),
                    group: group.into(),
                    resource: resource.into(),
                    name: name.map(Into::into),
                    verb: verb.into(),
                }));
            }
        }
    }
    rights
}

/// What no account of ours may do.
fn forbidden() -> Vec<Right> {
    let right = |group: &str, resource: &str, verb: &str| Right {
        namespace: None,
        group: group.into(),
        resource: resource.into(),
        name: None,
        verb: verb.into(),
    };
    vec![
        right("", "secrets", "get"),
        right("", "secrets", "list"),
        right("", "users", "impersonate"),
        right("", "serviceaccounts", "impersonate"),
        right("", "pods/exec", "create"),
        right("rbac.authorization.k8s.io", "clusterrolebindings", "create"),
        right("*", "*", "*"),
    ]
}

async fn ask(client: &kube::Client, account: &str, right: &Right) -> Result<bool, kube::Error> {
    let (resource, subresource) = match right.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_string())),
        None => (right.resource.as_str(), None),
    };
    let attributes = ResourceAttributes {
        namespace: right.namespace.clone(),
        group: Some(right.group.clone()),
        resource: Some(resource.to_string()),
        subresource,
        name: right.name.clone(),
        verb: Some(right.verb.clone()),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{NAMESPACE}:{account}")),
            groups: Some(vec![
                "system:serviceaccounts".into(),
                format!("system:serviceaccounts:{NAMESPACE}"),
                "system:authenticated".into(),
            ]),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

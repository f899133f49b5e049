//! Our own processes: replicas, leader, webhook, images.

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ObjectMeta, PostParams};
use sallyport_api::v1alpha1::{MCPAccessGrant, MCPAccessGrantSpec, ServerReference, SubjectRef};

use super::{Finding, NAMESPACE, gateways};

const OPERATOR: &str = "operator";
const LEADER: &str = "leader";
const AUDIT: &str = "audit";
const WEBHOOK: &str = "webhook";
const VERSION: &str = "version";
const NAME: &str = "sallyport-operator";
/// A leader that has not renewed for so long is none, in seconds.
const LEASE_OLD: i64 = 30;

/// All of them.
pub(super) async fn check(client: &kube::Client) -> Vec<Finding> {
    let mut findings = Vec::new();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    match deployments.get_opt(NAME).await {
        Ok(found) => findings.extend(operator(found.as_ref())),
        Err(error) => findings.push(Finding::blind(OPERATOR, &error)),
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    findings.push(match leases.get_opt(NAME).await {
        Ok(found) => leader(found.as_ref(), Timestamp::now()),
        Err(error) => Finding::blind(LEADER, &error),
    });
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), NAMESPACE);
    findings.push(match sets.get_opt("sallyport-audit").await {
        Ok(found) => {
            let wanted = found.as_ref().and_then(|set| set.spec.as_ref()?.replicas);
            let ready = found.as_ref().and_then(|set| set.status.as_ref()?.ready_replicas);
            replicas(AUDIT, "StatefulSet sallyport-audit", wanted, ready)
        }
        Err(error) => Finding::blind(AUDIT, &error),
    });
    // Only the overlay `kafka` has it.
    findings.extend(match deployments.get_opt("sallyport-processor").await {
        Ok(found) => found.map(|found| deployment(AUDIT, "Deployment sallyport-processor", Some(&found))),
        Err(error) => Some(Finding::blind(AUDIT, &error)),
    });
    findings.push(webhook(client).await);
    findings.extend(gateways::pods(client, Some(NAMESPACE)).await);
    findings
}

pub(super) fn operator(found: Option<&Deployment>) -> Vec<Finding> {
    let mut findings = vec![deployment(OPERATOR, "Deployment sallyport-operator", found)];
    let image = found.and_then(|deployment| {
        deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.as_deref()
    });
    findings.extend(image.map(version));
    findings
}

fn deployment(check: &'static str, what: &str, found: Option<&Deployment>) -> Finding {
    let wanted = found.and_then(|deployment| deployment.spec.as_ref()?.replicas);
    let ready = found.and_then(|deployment| deployment.status.as_ref()?.available_replicas);
    replicas(check, what, wanted, ready)
}

pub(super) fn replicas(check: &'static str, what: &str, wanted: Option<i32>, ready: Option<i32>) -> Finding {
    let Some(wanted) = wanted else {
        return Finding::failure(check, format!("there is no {what}"), "run `sallyport install`");
    };
    let ready = ready.unwrap_or(0);
    let object = what.to_lowercase().replace(' ', "/");
    let look = format!("see `kubectl -n {NAMESPACE} describe {object}`, and its pods' logs");
    match ready {
        0 => Finding::failure(check, format!("{what} has none of {wanted} replicas ready"), look),
        ready if ready < wanted => {
            Finding::warning(check, format!("{what} has {ready} of {wanted} replicas ready"), look)
        }
        ready => Finding::ok(check, format!("{what} has {ready} of {wanted} replicas ready")),
    }
}

/// The installed version beside ours.
pub(super) fn version(image: &str) -> Finding {
    let ours = env!("CARGO_PKG_VERSION");
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    // A digest says nothing of the version.
    let tag = name.split('@').next().and_then(|name| Some(name.split_once(':')?.1));
    match tag {
        Some(tag) if tag != ours => Finding::warning(
            VERSION,
            format!("{image} is installed, and this is {ours}"),
            "use the `sallyport` of the installed version, or run `sallyport install`",
        ),
        Some(_) | None => Finding::ok(VERSION, format!("{image}, as this is {ours}")),
    }
}

pub(super) fn leader(found: Option<&Lease>, now: Timestamp) -> Finding {
    let look = "see that the operator runs and reaches the API server: \
        `kubectl -n sallyport-system logs deployment/sallyport-operator`";
    let spec = found.and_then(|lease| lease.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).filter(|holder| !holder.is_empty());
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    match (holder, renewed) {
        (Some(holder), Some(renewed)) => {
            let age = now.as_second() - renewed.0.as_second();
            if age > LEASE_OLD {
                return Finding::failure(
                    LEADER,
                    format!(
                        "{holder} has not renewed its lease for {age} s: workloads and status stand still"
                    ),
                    look,
                );
            }
            Finding::ok(LEADER, holder)
        }
        _ => Finding::failure(LEADER, "no operator leads: workloads and status stand still", look),
    }
}

async fn webhook(client: &kube::Client) -> Finding {
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    match configurations.get_opt("sallyport").await {
        Err(error) => return Finding::blind(WEBHOOK, &error),
        Ok(found) => {
            if let Some(finding) = configured(found.as_ref()) {
                return finding;
            }
        }
    }
    // A server that does not exist is a warning, not a refusal; what matters is that somebody answers.
    let probe = MCPAccessGrant {
        metadata: ObjectMeta { name: Some("sallyport-doctor".into()), ..ObjectMeta::default() },
        spec: MCPAccessGrantSpec {
            server_ref: ServerReference { name: "sallyport-doctor".into(), ..ServerReference::default() },
            subject: SubjectRef { human_id: "sallyport-doctor".into(), ..SubjectRef::default() },
            ..MCPAccessGrantSpec::default()
        },
        status: None,
    };
    let api: Api<MCPAccessGrant> = Api::namespaced(client.clone(), NAMESPACE);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    answered(api.create(&params, &probe).await.err().as_ref())
}

/// What is wrong with the configuration itself.
pub(super) fn configured(found: Option<&ValidatingWebhookConfiguration>) -> Option<Finding> {
    let Some(found) = found else {
        return Some(Finding::failure(
            WEBHOOK,
            "ValidatingWebhookConfiguration sallyport is missing: only the schema is checked",
            "run `sallyport install`",
        ));
    };
    let mut webhooks = found.webhooks.iter().flatten();
    let lacks =
        webhooks.any(|webhook| webhook.client_config.ca_bundle.as_ref().is_none_or(|ca| ca.0.is_empty()));
    lacks.then(|| {
        Finding::failure(
            WEBHOOK,
            "its certificate authority is missing, so that every write of our kinds is refused",
            "see that an operator leads: it puts its authority there",
        )
    })
}

/// What the answer to a dry run says of the way to the webhook.
pub(super) fn answered(error: Option<&kube::Error>) -> Finding {
    match error {
        None => Finding::ok(WEBHOOK, "answers"),
        Some(kube::Error::Api(status)) if status.message.contains("failed calling webhook") => {
            Finding::failure(
                WEBHOOK,
                format!("does not answer, so that every write of our kinds is refused: {}", status.message),
                "see that the operator is ready, and that the API server reaches its pods at port 9443",
            )
        }
        Some(kube::Error::Api(status)) if status.message.contains("denied the request") => {
            Finding::ok(WEBHOOK, "answers")
        }
        Some(error) => Finding::blind(WEBHOOK, error),
    }
}

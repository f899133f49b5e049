use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request as HttpRequest, StatusCode};
use k8s_openapi::api::authentication::v1::UserInfo;
use prometheus_client::registry::Registry;
use sallyport_api::manifest::load_json;
use sallyport_operator_index::Index;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::render::Settings;

/// Answers by the question's words, and counts.
#[derive(Default)]
struct Fake {
    says: BTreeMap<&'static str, Answer>,
    asked: AtomicUsize,
    hangs: bool,
}

#[async_trait::async_trait]
impl Ask for Fake {
    async fn ask(&self, user: &UserInfo, namespace: &str, question: &Question) -> Answer {
        assert_eq!((user.username.as_deref(), namespace), (Some("tenant"), "ns"));
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let words = match question {
            Question::May(right) => right.to_string(),
            Question::NamespaceIsGoing => "going".into(),
        };
        self.says.iter().find(|(key, _)| words.contains(*key)).map_or(Answer::No, |(_, answer)| *answer)
    }
}

fn says(answers: &[(&'static str, Answer)]) -> Arc<Fake> {
    Arc::new(Fake { says: answers.iter().copied().collect(), ..Fake::default() })
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings { gateway_image: "gateway".into(), ..Settings::default() })
}

fn manifest(kind: &str, name: &str, spec: &Value) -> Value {
    json!({ "apiVersion": "mcpruntime.org/v1alpha1", "kind": kind,
        "metadata": { "name": name, "namespace": "ns" }, "spec": spec })
}

fn review(kind: &str, operation: &str, object: Option<&Value>, old: Option<&Value>) -> Value {
    json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u1", "kind": { "group": "mcpruntime.org", "version": "v1alpha1", "kind": kind },
        "operation": operation, "name": "one", "namespace": "ns",
        "userInfo": { "username": "tenant", "groups": ["tenants"], "extra": { "scope": ["a"] } },
        "object": object.map(|spec| manifest(kind, "one", spec)),
        "oldObject": old.map(|spec| manifest(kind, "one", spec)),
    } })
}

async fn post(webhook: &Webhook, path: &str, body: Vec<u8>) -> (StatusCode, Value) {
    let request = HttpRequest::post(path).body(Body::from(body)).unwrap();
    let answer = router(webhook.clone()).oneshot(request).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn asked(ask: Arc<Fake>, review: Value) -> Value {
    let webhook = Webhook::new(Arc::new(Mutex::new(Index::default())), ask, settings());
    let path = match review["request"]["kind"]["kind"].as_str().unwrap() {
        "MCPServer" => "/admission/v1/servers",
        "MCPAccessGrant" => "/admission/v1/grants",
        _ => "/admission/v1/sessions",
    };
    let (status, answer) = post(&webhook, path, review.to_string().into_bytes()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["response"]["uid"], "u1");
    answer["response"].clone()
}

fn server(more: Value) -> Value {
    let mut spec = json!({ "image": "i", "gateway": { "enabled": true } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn session(more: Value) -> Value {
    let mut spec = json!({ "serverRef": { "name": "s" }, "subject": { "humanID": "h" } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn secret() -> Value {
    server(json!({ "secretEnvVars": [{ "name": "A", "secretKeyRef": { "name": "key", "key": "k" } }] }))
}

fn warnings(response: &Value) -> String {
    response["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w.as_str().unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_and_may_be_repeated() {
    let ask = says(&[("`get`", Answer::Unknown)]);
    let response = asked(ask, review("MCPServer", "CREATE", Some(&secret()), None)).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(
        (&response["status"]["code"], &response["status"]["reason"]),
        (&json!(503), &json!("ServiceUnavailable"))
    );
    assert_eq!(response["status"]["details"]["retryAfterSeconds"], 1);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_holds_a_request_no_longer_than_its_deadline() {
    let ask = Arc::new(Fake { hangs: true, ..Fake::default() });
    let began = tokio::time::Instant::now();
    let response = asked(ask, review("MCPServer", "CREATE", Some(&secret()), None)).await;
    assert_eq!(response["status"]["code"], 503);
    assert!(began.elapsed() < Duration::from_secs(5), "less than the webhook's own timeout");
}

#[tokio::test]
async fn who_may_read_all_secrets_is_asked_once() {
    let names: Vec<Value> = (0..40).map(|i| format!("key-{i}").into()).collect();
    let spec = server(
        json!({ "imagePullSecrets": names[..16], "secretEnvVars": names[16..].iter().enumerate().map(|(at, name)|
        json!({ "name": format!("KEY_{at}"), "secretKeyRef": { "name": name, "key": "k" } })).collect::<Vec<_>>() }),
    );
    let ask = says(&[("`get` on secrets", Answer::Yes)]);
    let response = asked(ask.clone(), review("MCPServer", "CREATE", Some(&spec), None)).await;
    assert_eq!((&response["allowed"], ask.asked.load(Ordering::SeqCst)), (&json!(true), 1));
    let ask = says(&[("`get` on secrets `key-", Answer::Yes)]);
    let response = asked(ask.clone(), review("MCPServer", "CREATE", Some(&spec), None)).await;
    assert_eq!((&response["allowed"], ask.asked.load(Ordering::SeqCst)), (&json!(true), 41));
}

#[tokio::test]
async fn more_secrets_than_can_be_judged_are_refused_unasked() {
    let variable = |i| json!({ "name": "A", "secretKeyRef": { "name": format!("key-{i}"), "key": "k" } });
    let spec = server(json!({ "secretEnvVars": (0..65).map(variable).collect::<Vec<_>>() }));
    let ask = says(&[("`get`", Answer::Yes)]);
    let response = asked(ask.clone(), review("MCPServer", "CREATE", Some(&spec), None)).await;
    assert_eq!((&response["status"]["code"], ask.asked.load(Ordering::SeqCst)), (&json!(422), 0));
}

#[tokio::test]
async fn a_change_that_touches_no_privilege_asks_nothing() {
    let old = server(json!({
        "secretEnvVars": secret()["secretEnvVars"], "ingressAnnotations": { "a": "b" },
        "gateway": { "enabled": true, "image": "g", "upstreamURL": "http://elsewhere" },
    }));
    let mut new = old.clone();
    new["description"] = "x".into();
    let ask = says(&[]);
    let response = asked(ask.clone(), review("MCPServer", "UPDATE", Some(&new), Some(&old))).await;
    assert_eq!((&response["allowed"], ask.asked.load(Ordering::SeqCst)), (&json!(true), 0), "{response}");
}

#[tokio::test]
async fn an_object_that_is_older_than_todays_types_counts_as_changed() {
    let mut review = review("MCPServer", "UPDATE", Some(&secret()), Some(&secret()));
    assert_eq!(asked(says(&[]), review.clone()).await["allowed"], true);
    review["request"]["oldObject"]["spec"]["replicas"] = "three".into();
    assert_eq!(asked(says(&[]), review).await["allowed"], false);
}

#[tokio::test]
async fn a_revoked_session_goes_with_its_namespace_or_by_right() {
    let revoked = session(json!({ "revoked": true }));
    let deletion = review("MCPAgentSession", "DELETE", None, Some(&revoked));
    assert_eq!(asked(says(&[]), deletion.clone()).await["status"]["code"], 403);
    for yes in ["going", "`unrevoke` on mcpagentsessions.mcpruntime.org `one`"] {
        assert_eq!(asked(says(&[(yes, Answer::Yes)]), deletion.clone()).await["allowed"], true, "{yes}");
    }
    let unknown = says(&[("going", Answer::Unknown), ("unrevoke", Answer::No)]);
    assert_eq!(asked(unknown, deletion.clone()).await["status"]["code"], 503);
    // What cannot be read may be revoked.
    let mut unreadable = deletion;
    unreadable["request"]["oldObject"]["spec"]["subject"] = 7.into();
    assert_eq!(asked(says(&[]), unreadable).await["status"]["code"], 403);
}

#[tokio::test]
async fn what_has_no_effect_is_told_and_not_refused() {
    let grant = session(json!({ "toolRules": [{ "name": "t", "decision": "allow" }] }));
    let response = asked(says(&[]), review("MCPAccessGrant", "CREATE", Some(&grant), None)).await;
    assert_eq!(response["allowed"], true);
    assert!(warnings(&response).contains("ServerNotFound"), "{response}");
    let foreign = session(json!({ "serverRef": { "name": "s", "namespace": "other" } }));
    let response = asked(says(&[]), review("MCPAccessGrant", "CREATE", Some(&foreign), None)).await;
    assert!(warnings(&response).contains("NotAccepted"), "not whether it exists: {response}");
    let past = session(json!({ "expiresAt": "2020-01-01T00:00:00Z" }));
    let response = asked(says(&[]), review("MCPAgentSession", "CREATE", Some(&past), None)).await;
    assert!(warnings(&response).contains("spec.expiresAt is past"), "{response}");
    let direct = server(json!({ "gateway": { "enabled": false } }));
    let response = asked(says(&[]), review("MCPServer", "CREATE", Some(&direct), None)).await;
    assert!(warnings(&response).contains("not governed"), "{response}");
}

#[tokio::test]
async fn a_tool_that_the_server_does_not_declare_is_told() {
    let index = Mutex::new(Index::default());
    let known =
        manifest("MCPServer", "s", &server(json!({ "tools": [{ "name": "known", "sideEffect": "read" }] })));
    index.lock().unwrap().upsert(load_json(known).unwrap(), None);
    let webhook = Webhook::new(Arc::new(index), says(&[]), settings());
    let rules = json!([{ "name": "known", "decision": "allow" }, { "name": "unknown", "decision": "allow" }]);
    let grant = session(json!({ "toolRules": rules, "allowedSideEffects": ["read"] }));
    let body = review("MCPAccessGrant", "CREATE", Some(&grant), None).to_string();
    let (_, answer) = post(&webhook, "/admission/v1/grants", body.into_bytes()).await;
    let told = warnings(&answer["response"]);
    assert!(told.contains("spec.toolRules[1].name") && !told.contains("spec.toolRules[0]"), "{told}");
}

#[tokio::test]
async fn warnings_fit_what_the_api_server_passes_on() {
    let tools: Vec<Value> = (0..50).map(|i| json!({ "name": format!("{}{i}", "ü".repeat(120)) })).collect();
    let response =
        asked(says(&[]), review("MCPServer", "CREATE", Some(&server(json!({ "tools": tools }))), None)).await;
    let told = response["warnings"].as_array().unwrap();
    assert_eq!(told.len(), 13);
    assert!(told.iter().all(|warning| warning.as_str().unwrap().len() <= 256));
    assert!(told[12].as_str().unwrap().contains("38 warnings more"));
}

#[tokio::test]
async fn a_review_that_cannot_be_read_is_no_permission() {
    let webhook = Webhook::new(Arc::new(Mutex::new(Index::default())), says(&[]), settings());
    let other = review("MCPAgentSession", "CREATE", Some(&session(json!({}))), None).to_string();
    let wrong = review("MCPServer", "CREATE", Some(&json!({ "image": 7 })), None).to_string();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in ["", "{}", "null", &other, &deep] {
        assert_eq!(post(&webhook, "/admission/v1/servers", body.into()).await.0, StatusCode::BAD_REQUEST);
    }
    let (_, answer) = post(&webhook, "/admission/v1/servers", wrong.into()).await;
    assert_eq!(
        (&answer["response"]["uid"], &answer["response"]["status"]["code"]),
        (&json!("u1"), &json!(422))
    );
    let nothing = review("MCPServer", "CREATE", None, None).to_string();
    let (_, answer) = post(&webhook, "/admission/v1/servers", nothing.into()).await;
    assert_eq!(answer["response"]["allowed"], false);
    let large = vec![b' '; 9 << 20];
    assert_eq!(post(&webhook, "/admission/v1/servers", large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn requests_are_counted_by_kind_and_outcome() {
    let mut registry = Registry::default();
    let metrics = AdmissionMetrics::register(&mut registry);
    let webhook =
        Webhook::new(Arc::new(Mutex::new(Index::default())), says(&[]), settings()).counted_by(metrics);
    let direct = json!({ "image": "i", "gateway": { "enabled": false } });
    let sent = [
        ("servers", review("MCPServer", "CREATE", Some(&server(json!({}))), None)),
        ("servers", review("MCPServer", "CREATE", Some(&direct), None)),
        ("servers", review("MCPServer", "CREATE", Some(&secret()), None)),
        ("sessions", review("MCPAgentSession", "CREATE", Some(&json!("nothing")), None)),
    ];
    for (path, review) in sent {
        post(&webhook, &format!("/admission/v1/{path}"), review.to_string().into_bytes()).await;
    }
    post(&webhook, "/admission/v1/grants", b"{".to_vec()).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let counted = [
        ("MCPServer", "allowed"),
        ("MCPServer", "warned"),
        ("MCPServer", "refused"),
        ("MCPAgentSession", "unreadable"),
        ("MCPAccessGrant", "unreadable"),
    ];
    for (kind, outcome) in counted {
        let labels = format!("{{kind=\"{kind}\",outcome=\"{outcome}\"}}");
        assert!(text.contains(&format!("sallyport_operator_admission_requests_total{labels} 1\n")), "{text}");
    }
    assert!(text.contains("sallyport_operator_admission_seconds_count 5\n"), "{text}");
}

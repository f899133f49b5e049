//! Malformed and hostile objects: none brings the webhook down, holds it up, or is judged otherwise by the API server
//! than by our own reading.

use std::time::{Duration, Instant};

use sallyport_api::Kind;
use sallyport_api::manifest::load_json;
use serde_json::{Value, json};

use crate::support::{Tenancy, access, server};

const OBJECTS: u64 = 1000;
/// The API server writes down thousands of errors one by one, so its answers take longer than our judgement.
const LONGEST_ANSWER: Duration = Duration::from_secs(30);
/// No judgement of ours may take longer, whatever is in a review.
const LONGEST: Duration = Duration::from_secs(5);

/// What etcd takes, in bytes.
const LARGEST: usize = 1_500_000;

/// Numbers that are the same on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// At most 40 times as long as the longest part within something else, so that an object stays within what etcd takes.
fn text(numbers: &mut Numbers, depth: usize) -> String {
    let parts = [
        "",
        "a",
        "payments",
        "../../etc/passwd",
        "x\u{0}y",
        "\u{202e}txt.exe",
        "\u{200b}",
        "😀",
        "İ",
        "ﬀ",
        "%2e%2e",
        "${jndi:x}",
        "a\r\nx-evil: 1",
        "' OR 1=1",
        "<script>",
        "http://169.254.169.254/latest",
        "http://[::1]:9901/quitquitquit",
        "-",
        ".",
        "/",
        "null",
        "true",
        "9999999999999999999999",
        "2026-02-30T25:61:00Z",
        "1e309s",
        "kube-system",
        "~",
        "*",
    ];
    let part = *numbers.one(&parts);
    let times =
        if depth == 0 { *numbers.one(&[1, 1, 1, 2, 64, 1000, 20_000]) } else { *numbers.one(&[1, 1, 2, 40]) };
    part.repeat(times)
}

fn value(numbers: &mut Numbers, depth: usize) -> Value {
    match numbers.below(if depth > 3 { 7 } else { 11 }) {
        0 => Value::Null,
        1 => (numbers.below(2) == 0).into(),
        2 => json!(i64::MIN),
        3 => json!(u64::MAX),
        4 => json!(-1.5e300),
        5 | 6 => text(numbers, depth).into(),
        7 => match numbers.below(3) {
            0 => vec![value(numbers, depth + 2); *numbers.one(&[0, 1, 2, 20])].into(),
            1 => vec!["a"; 5000].into(),
            _ => vec![json!({ "name": "a" }); 600].into(),
        },
        8 => (0..60).fold(json!("deep"), |inner, _| json!({ "in": [inner] })),
        9 => json!({ "name": value(numbers, depth + 2), "namespace": text(numbers, 1) }),
        _ => (0..*numbers.one(&[1, 3, 70]))
            .map(|i| (format!("{}{i}", text(numbers, 1)), value(numbers, depth + 2)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

const FIELDS: [&str; 24] = [
    "image",
    "serverRef",
    "subject",
    "tools",
    "toolRules",
    "auth",
    "policy",
    "session",
    "gateway",
    "secretEnvVars",
    "rollout",
    "ingressPath",
    "ingressHost",
    "publicPathPrefix",
    "ingressAnnotations",
    "expiresAt",
    "revoked",
    "resources",
    "replicas",
    "acceptedNamespaces",
    "analytics",
    "upstreamTokenSecretRef",
    "imagePullSecrets",
    "port",
];

fn object(numbers: &mut Numbers) -> (Kind, Value) {
    let kind = *numbers.one(&Kind::ALL);
    let mut spec = if kind == Kind::Server { server(json!({})) } else { access(json!({})) };
    for _ in 0..=numbers.below(3) {
        spec[*numbers.one(&FIELDS)] = value(numbers, 0);
    }
    let name =
        if numbers.below(4) == 0 { text(numbers, 1) } else { format!("hostile-{}", numbers.below(1 << 20)) };
    (
        kind,
        json!({ "apiVersion": "mcpruntime.org/v1alpha1", "kind": kind.as_str(), "metadata": { "name": name }, "spec": spec }),
    )
}

#[tokio::test]
async fn a_thousand_hostile_objects_are_judged_in_bounded_time_and_alike() {
    let Some(t) = Tenancy::start("hostile").await else { return };
    let mut numbers = Numbers(1);
    let (mut passed, mut refused) = (0, 0);
    for round in 0..OBJECTS {
        // Larger ones never reach a schema: the API server hangs up.
        let (kind, mut manifest) = std::iter::repeat_with(|| object(&mut numbers))
            .find(|(_, manifest)| manifest.to_string().len() < LARGEST)
            .unwrap();
        let began = Instant::now();
        let answer = t.tenant.probe(&t.namespace, kind, &manifest).await;
        assert!(began.elapsed() < LONGEST_ANSWER, "{round}: {:?}", began.elapsed());
        let (by_schema, told) = match &answer {
            Ok(_) => (true, String::new()),
            Err(status) => {
                assert!([400, 403, 413, 422].contains(&status.code), "{round}: {status:?}");
                (status.message.contains("admission webhook"), status.message.clone())
            }
        };
        manifest["metadata"]["namespace"] = t.namespace.clone().into();
        let ours = load_json(manifest.clone()).err().unwrap_or_default();
        // The API server drops fields that it does not know; we tell of them, and judge no further.
        let is_unknown = |problem: &sallyport_api::schema::SchemaProblem| problem.reason == "UnknownField";
        if !ours.is_empty() && ours.iter().all(is_unknown) {
            continue;
        }
        // A list passes for a time where the schema says `date-time`; whoever reads it needs to be spared that.
        if told.contains("(Unreadable)") {
            assert!(!ours.is_empty(), "{round}: {told}");
            continue;
        }
        let told: String = told.chars().take(300).collect();
        assert_eq!(by_schema, ours.is_empty(), "{round}: {:?} / {told}", ours.first());
        if by_schema { passed += 1 } else { refused += 1 }
    }
    assert!(passed > 20 && refused > 200, "{passed} {refused}");
    t.tenant.create(&t.namespace, "MCPServer", "sound", server(json!({}))).await.unwrap();
}

/// What no schema has seen, as it comes when somebody else posts to the webhook.
#[tokio::test]
async fn a_thousand_hostile_reviews_end_in_no_panic() {
    let webhook = crate::support::lone_webhook();
    let mut numbers = Numbers(2);
    for round in 0..OBJECTS {
        let ((kind, new), (_, old)) = (object(&mut numbers), object(&mut numbers));
        let operation = *numbers.one(&["CREATE", "UPDATE", "DELETE", "CONNECT"]);
        let review = json!({ "request": { "uid": "u", "kind": { "kind": kind.as_str() }, "operation": operation,
            "name": text(&mut numbers, 1), "namespace": text(&mut numbers, 1), "userInfo": { "username": text(&mut numbers, 1) },
            "object": new, "oldObject": old } });
        let body = serde_json::to_vec(&review).unwrap();
        let began = Instant::now();
        if let Ok(request) = sallyport_operator::admission::Request::read(kind, &body) {
            webhook.review(&request).await;
        }
        assert!(began.elapsed() < LONGEST, "{round}: {:?}", began.elapsed());
    }
}

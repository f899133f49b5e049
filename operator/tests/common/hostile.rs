//! Malformed and hostile objects, the same on every run.

use sallyport_api::Kind;
use serde_json::{Value, json};

/// What etcd takes, in bytes.
const LARGEST: usize = 1_500_000;

/// Numbers that are the same on every run.
pub struct Numbers(u64);

impl Numbers {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// At most 40 times as long as the longest part within something else, so that an object stays within what etcd takes.
pub fn text(numbers: &mut Numbers, depth: usize) -> String {
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

/// A manifest with some fields of another kind than they must be.
pub fn object(numbers: &mut Numbers) -> (Kind, Value) {
    let kind = *numbers.one(&Kind::ALL);
    let mut spec = match kind {
        Kind::Server => json!({ "image": "registry.example.com/i", "gateway": { "enabled": true } }),
        Kind::Grant | Kind::Session => {
            json!({ "serverRef": { "name": "payments" }, "subject": { "humanID": "user-123" } })
        }
    };
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

/// One that etcd takes: larger ones never reach a schema, for the API server hangs up.
pub fn storable(numbers: &mut Numbers) -> (Kind, Value) {
    std::iter::repeat_with(|| object(numbers))
        .find(|(_, manifest)| manifest.to_string().len() < LARGEST)
        .expect("some are small")
}

//! Manifests as people write them, right and wrong.
#![expect(clippy::expect_used, reason = "helpers of tests")]

use sallyport_api::manifest::{ManifestProblem, documents, load_str, to_yaml};

const SERVER: &str = "apiVersion: mcpruntime.org/v1alpha1\nkind: MCPServer\nmetadata:\n  name: payments\n  namespace: mcp-servers\nspec:\n  image: registry.example.com/payments-mcp\n";
const GRANT: &str = "apiVersion: mcpruntime.org/v1alpha1\nkind: MCPAccessGrant\nmetadata:\n  name: g\n  namespace: mcp-servers\nspec:\n  serverRef:\n    name: payments\n  subject:\n    humanID: user-123\n";

fn only_problem(text: &str) -> ManifestProblem {
    let (_, problems) = load_str("f.yaml", text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().expect("one")
}

/// The manifests that users of the original have, with the fields of its first generation.
#[test]
fn manifests_of_the_first_generation_load_unchanged() {
    let server = format!(
        "{SERVER}  port: 8088\n  ingressHost: mcp.example.com\n  ingressPath: /payments/mcp\n  gateway:\n    enabled: true\n  auth:\n    mode: header\n    humanIDHeader: X-MCP-Human-ID\n    agentIDHeader: X-MCP-Agent-ID\n    sessionIDHeader: X-MCP-Agent-Session\n  policy:\n    mode: allow-list\n    defaultDecision: deny\n    enforceOn: call_tool\n    policyVersion: v1\n  session:\n    required: true\n    store: kubernetes\n    headerName: X-MCP-Agent-Session\n    maxLifetime: 24h\n    idleTimeout: 1h\n  tools:\n    - name: list_invoices\n      requiredTrust: low\n    - name: refund_invoice\n      requiredTrust: high\n  analytics:\n    enabled: true\n    ingestURL: http://mcp-sentinel-ingest.mcp-sentinel.svc.cluster.local:8081/events\n  replicas: 3\n  rollout:\n    strategy: Canary\n    canaryReplicas: 1\n"
    );
    let session = "apiVersion: mcpruntime.org/v1alpha1\nkind: MCPAgentSession\nmetadata:\n  name: sess-8f1b9d\n  namespace: mcp-servers\nspec:\n  serverRef:\n    name: payments\n  subject:\n    humanID: user-123\n    agentID: ops-agent\n  consentedTrust: medium\n  expiresAt: \"2026-03-26T12:00:00Z\"\n  upstreamTokenSecretRef:\n    name: payments-upstream-token\n    key: access-token\n";
    let grant = format!(
        "{GRANT}  maxTrust: high\n  policyVersion: v1\n  toolRules:\n    - name: list_invoices\n      decision: allow\n      requiredTrust: low\n"
    );
    let (loaded, problems) = load_str("f.yaml", &format!("{server}---\n{grant}---\n{session}"));
    assert_eq!(problems, []);
    assert_eq!(loaded.len(), 3);
    assert!(loaded.windows(2).all(|pair| pair[0].line < pair[1].line));
}

#[test]
fn the_samples_load() {
    for name in ["server.yaml", "access.yaml"] {
        let path = format!("{}/../../config/samples/payments/{name}", env!("CARGO_MANIFEST_DIR"));
        let (loaded, problems) = load_str(name, &std::fs::read_to_string(path).expect("there"));
        assert_eq!(problems, []);
        assert!(!loaded.is_empty());
    }
}

#[test]
fn an_unknown_field_is_named_with_the_one_that_was_meant() {
    let found = only_problem(&format!("{SERVER}  denyRespons: http\n"));
    assert_eq!((found.path.as_str(), found.reason, found.line), ("spec.denyRespons", "UnknownField", 8));
    assert!(found.message.contains("did you mean `denyResponse`?"), "{found}");
}

#[test]
fn a_wrong_word_is_answered_with_the_right_ones() {
    let found = only_problem(&format!("{GRANT}  maxTrust: hihg\n"));
    assert_eq!((found.path.as_str(), found.reason), ("spec.maxTrust", "WrongValue"));
    assert!(found.message.contains("`low`, `medium`, `high`"), "{found}");
    assert!(found.message.contains("did you mean `high`?"), "{found}");
}

#[test]
fn every_cross_field_rule_is_held() {
    let cases = [
        ("  analytics:\n    source: x\n", "spec.analytics"),
        ("  gateway:\n    enabled: true\n    port: 8088\n", "spec.gateway.port"),
        ("  replicas: 3\n  rollout:\n    strategy: Canary\n", "spec.rollout.canaryReplicas"),
        ("  auth:\n    mode: oauth\n", "spec.auth.issuerURL"),
        ("  publicPathPrefix: //\n", "spec.publicPathPrefix"),
    ];
    for (text, path) in cases {
        let found = only_problem(&format!("{SERVER}{text}"));
        assert_eq!((found.path.as_str(), found.reason), (path, "Rule"), "{text}");
    }
    let twice = only_problem(&format!(
        "{GRANT}  toolRules:\n    - {{name: a, decision: allow}}\n    - {{name: a, decision: deny}}\n"
    ));
    assert_eq!((twice.path.as_str(), twice.reason), ("spec.toolRules[1]", "Duplicate"));
    let nobody = only_problem(
        &GRANT.replace("MCPAccessGrant", "MCPAgentSession").replace("    humanID: user-123\n", "    {}\n"),
    );
    assert_eq!(nobody.path, "spec.subject");
}

#[test]
fn what_the_rules_allow_is_accepted() {
    let cases = [
        "  analytics:\n    disabled: true\n",
        "  analytics:\n    enabled: false\n",
        "  gateway:\n    enabled: true\n  analytics:\n    source: x\n",
        "  replicas: 3\n  rollout:\n    strategy: Canary\n    canaryReplicas: 2\n",
        "  auth:\n    mode: oauth\n    issuerURL: https://issuer.example.com\n",
        "  gateway:\n    port: 8088\n",
    ];
    for text in cases {
        let (loaded, problems) = load_str("f.yaml", &format!("{SERVER}{text}"));
        assert_eq!((loaded.len(), problems), (1, vec![]), "{text}");
    }
}

#[test]
fn a_bad_document_does_not_block_its_neighbours() {
    let (loaded, problems) = load_str("f.yaml", &format!("{SERVER}---\nkind: [\n---\n{GRANT}"));
    assert_eq!(loaded.len(), 2);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].reason, "Syntax");
    assert!(problems[0].line >= 9, "{}", problems[0]);
}

#[test]
fn bad_values_are_told_with_field_and_remedy() {
    let cases = [
        ("  port: 0\n", "spec.port", "must be from 1 to 65535"),
        ("  port: eighty\n", "spec.port", "must be an integer, is a string"),
        ("  session:\n    maxLifetime: 24 hours\n", "spec.session.maxLifetime", "must match"),
        ("  teamID: a b\n", "spec.teamID", "must match"),
        ("  tools: {}\n", "spec.tools", "must be an array, is an object"),
        ("  tools:\n    - requiredTrust: low\n", "spec.tools[0].name", "is missing"),
    ];
    for (text, path, words) in cases {
        let found = only_problem(&format!("{SERVER}{text}"));
        assert_eq!(found.path, path);
        assert!(found.message.contains(words), "{found}");
    }
    let time = only_problem(
        &GRANT
            .replace("MCPAccessGrant", "MCPAgentSession")
            .replace("  subject", "  expiresAt: tomorrow\n  subject"),
    );
    assert_eq!(time.path, "spec.expiresAt");
    let kind = only_problem("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n");
    assert_eq!(kind.reason, "WrongKind");
    let name = only_problem(&SERVER.replace("name: payments", "name: ../etc"));
    assert_eq!(name.path, "metadata.name");
    let twice = only_problem(&format!("{SERVER}---\n{SERVER}"));
    assert_eq!(twice.reason, "Duplicate");
}

#[test]
fn what_is_written_is_read_again() {
    let (loaded, _) = load_str("f.yaml", GRANT);
    let text = to_yaml(&loaded[0].object).expect("writable");
    let (again, problems) = load_str("g.yaml", &text);
    assert_eq!(problems, []);
    assert_eq!(again[0].object, loaded[0].object);
}

/// YAML 1.1 has booleans by 22 names, some of them good names for a namespace or a person.
#[test]
fn only_true_and_false_are_booleans() {
    let text =
        GRANT.replace("namespace: mcp-servers", "namespace: n").replace("humanID: user-123", "humanID: yes");
    let (loaded, problems) = load_str("f.yaml", &text);
    assert_eq!(problems, []);
    assert_eq!(loaded[0].object.id().0, "n");
    let text = to_yaml(&loaded[0].object).expect("writable");
    assert!(
        text.contains("namespace: \"n\"") || text.contains("namespace: 'n'"),
        "for readers of YAML 1.1: {text}"
    );
    for (word, path) in [("no", "spec.disabled"), ("on", "spec.disabled")] {
        let found = only_problem(&format!("{GRANT}  disabled: {word}\n"));
        assert_eq!((found.path.as_str(), found.reason), (path, "WrongType"), "{word}");
    }
    let found = only_problem(&GRANT.replace("name: g", "name: true"));
    assert_eq!(found.path, "metadata.name");
}

#[test]
fn comments_and_empty_documents_are_no_documents() {
    assert_eq!(documents("---\n# nothing\n---\n\n").len(), 0);
    let text = "# head\n---\na: 1\n---\nb: 2\n";
    let found = documents(text);
    assert_eq!(found.iter().map(|d| (d.text, d.line)).collect::<Vec<_>>(), [("a: 1\n", 3), ("b: 2\n", 5)]);
    assert!(found.iter().all(|d| text[d.offset..].starts_with(d.text)));
}

use sallyport_api::manifest::load_str;
use sallyport_policy_proto::v1;
use sallyport_resolve::Severity;

use super::*;

const API: &str = "apiVersion: mcpruntime.org/v1alpha1";

fn object(yaml: &str) -> Object {
    let (mut loaded, problems) = load_str("test.yaml", yaml);
    assert_eq!(problems, []);
    loaded.remove(0).object
}

fn server(name: &str, more: &str) -> Object {
    object(&format!(
        "{API}\nkind: MCPServer\nmetadata: {{name: {name}, namespace: ns}}\nspec:\n  image: i\n  gateway: {{enabled: true}}\n{more}"
    ))
}

fn grant(name: &str, server: &str) -> Object {
    object(&format!(
        "{API}\nkind: MCPAccessGrant\nmetadata: {{name: {name}, namespace: ns}}\nspec:\n  serverRef: {{name: {server}}}\n  subject: {{humanID: h}}\n  allowedSideEffects: [read]\n"
    ))
}

fn session(name: &str, server: &str, more: &str) -> Object {
    object(&format!(
        "{API}\nkind: MCPAgentSession\nmetadata: {{name: {name}, namespace: ns}}\nspec:\n  serverRef: {{name: {server}}}\n  subject: {{humanID: h}}\n{more}"
    ))
}

fn key(kind: Kind, name: &str) -> Key {
    (kind, ObjectId::new("ns", name))
}

/// Changes as text: `plan`, `+name`, `-name`.
fn told(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Plan => "plan".to_string(),
        Change::Access((_, id), Some(_)) => format!("+{}", id.name),
        Change::Access((_, id), None) => format!("-{}", id.name),
    };
    changes.iter().map(word).collect()
}

fn reasons(index: &Index, key: &Key) -> Vec<&'static str> {
    index.problems().get(key).into_iter().flatten().map(|problem| problem.reason).collect()
}

#[test]
fn a_grant_has_no_effect_until_its_server_is_there() {
    let mut index = Index::default();
    assert_eq!(told(&index.upsert(grant("g", "s"), None)), ["-g"]);
    assert_eq!(reasons(&index, &key(Kind::Grant, "g")), ["ServerNotFound"]);
    assert_eq!(told(&index.upsert(server("s", ""), None)), ["plan", "+g"]);
    assert_eq!(reasons(&index, &key(Kind::Grant, "g")), [""; 0]);
    assert_eq!(told(&index.remove(&key(Kind::Server, "s"))), ["plan", "-g"]);
}

#[test]
fn a_session_resolves_alone_and_a_server_its_own_dependents() {
    let mut index = Index::default();
    for name in ["s", "t"] {
        index.upsert(server(name, ""), None);
    }
    index.upsert(grant("g", "s"), None);
    index.upsert(session("one", "s", ""), None);
    index.upsert(session("two", "t", ""), None);
    assert_eq!(told(&index.upsert(session("one", "s", "  revoked: true\n"), None)), ["+one"]);
    assert_eq!(told(&index.upsert(server("s", "  teamID: team\n"), None)), ["plan", "+g", "+one"]);
    // It names another server now.
    index.upsert(session("one", "t", ""), None);
    assert_eq!(told(&index.upsert(server("s", ""), None)), ["plan", "+g"]);
    assert_eq!(told(&index.upsert(server("t", ""), None)), ["plan", "+one", "+two"]);
    assert_eq!(told(&index.remove(&key(Kind::Session, "two"))), ["-two"]);
    assert_eq!(told(&index.upsert(server("t", ""), None)), ["plan", "+one"]);
}

#[test]
fn the_same_object_has_the_same_version_and_its_file_gives_its_age() {
    let mut index = Index::default();
    index.upsert(server("s", ""), None);
    let mut encoded = |issued_at| match index.upsert(session("one", "s", ""), issued_at).remove(0) {
        Change::Access(_, Some(encoded)) => encoded,
        other => panic!("{other:?}"),
    };
    let first = encoded(Some(7));
    assert_eq!(first, encoded(Some(7)));
    let second = encoded(Some(8));
    assert_ne!(first.version, second.version);
    let message = <v1::Session as prost::Message>::decode(second.bytes.as_slice()).unwrap();
    assert_eq!((message.name.as_str(), message.issued_at), ("one", 8));
}

#[test]
fn of_two_servers_in_one_place_the_first_by_name_has_it() {
    let mut index = Index::default();
    index.upsert(server("b", "  ingressPath: /same\n"), None);
    index.upsert(server("a", "  ingressPath: /same/\n"), None);
    let plan = index.plan();
    assert_eq!(plan.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["ns/a"]);
    assert_eq!(plan.servers.len(), 1);
    assert_eq!(reasons(&index, &key(Kind::Server, "b")), ["RouteCollision"]);
    index.remove(&key(Kind::Server, "a"));
    assert_eq!(index.plan().routes.len(), 1);
    assert_eq!(reasons(&index, &key(Kind::Server, "b")), [""; 0]);
}

#[test]
fn the_more_specific_route_comes_first() {
    let mut index = Index::default();
    index.upsert(server("all", "  ingressPath: /\n"), None);
    index.upsert(server("deep", "  ingressPath: /a/b\n"), None);
    index.upsert(server("hosted", "  ingressPath: /\n  ingressHost: MCP.example.com\n"), None);
    let plan = index.plan();
    assert_eq!(
        plan.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(),
        ["ns/hosted", "ns/deep", "ns/all"]
    );
    assert_eq!(plan.routes[0].host.as_deref(), Some("mcp.example.com"));
}

#[test]
fn what_no_proxy_would_take_is_left_out_and_costs_the_others_nothing() {
    let bad = [
        "  ingressPath: /a//b\n",
        "  ingressPath: /a/../b\n",
        "  ingressPath: \"/a?b\"\n",
        "  ingressPath: \"/a%2Fb\"\n",
        "  ingressHost: \"*\"\n",
        "  ingressHost: \"a b\"\n",
    ];
    for more in bad {
        let mut index = Index::default();
        index.upsert(server("good", ""), None);
        index.upsert(server("bad", more), None);
        let plan = index.plan();
        assert_eq!(plan.routes.len(), 1, "{more}");
        let problems = index.problems().get(&key(Kind::Server, "bad")).unwrap();
        assert!(problems.iter().any(|problem| problem.severity == Severity::Error), "{more}");
    }
}

#[test]
fn the_upstream_sees_its_own_path_or_the_rest() {
    let rewrite = |gateway: &str, more: &str| {
        let mut index = Index::default();
        let yaml = format!(
            "{API}\nkind: MCPServer\nmetadata: {{name: s, namespace: ns}}\nspec:\n  image: i\n  gateway: {{enabled: true, {gateway}}}\n{more}"
        );
        index.upsert(object(&yaml), None);
        let plan = index.plan();
        (plan.routes[0].rewrite.clone(), plan.upstreams[0].address.port)
    };
    assert_eq!(rewrite("upstreamURL: \"http://h:81/own\"", ""), (Some("/own".into()), 81));
    assert_eq!(rewrite("upstreamURL: \"http://h:81\"", ""), (None, 81));
    assert_eq!(rewrite("stripPrefix: /s", ""), (Some("/mcp".into()), 8088));
    assert_eq!(rewrite("stripPrefix: /s/mcp", ""), (Some("/".into()), 8088));
    assert_eq!(rewrite("stripPrefix: /s/mc", ""), (None, 8088), "only at a segment's border");
    assert_eq!(rewrite("stripPrefix: /", ""), (None, 8088));
}

use sallyport_api::manifest::load_str;
use sallyport_api::{Kind, Object};
use sallyport_policy::ObjectId;
use sallyport_policy_proto::v1;
use sallyport_resolve::{Problem, Severity};

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

/// Changes as text: `s` for a server, `s+name` and `s-name` for what names it.
fn told(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Server(id) => id.name.clone(),
        Change::Access { key, server, encoded: Some(_) } => format!("{}+{}", server.name, key.1.name),
        Change::Access { key, server, encoded: None } => format!("{}-{}", server.name, key.1.name),
    };
    changes.iter().map(word).collect()
}

fn reasons(index: &Index, key: &Key) -> Vec<&'static str> {
    index.problems().get(key).into_iter().flatten().map(|problem| problem.reason).collect()
}

#[test]
fn a_grant_has_no_effect_until_its_server_is_there() {
    let mut index = Index::default();
    assert_eq!(told(&index.upsert(grant("g", "s"), None)), ["s-g"]);
    assert_eq!(reasons(&index, &key(Kind::Grant, "g")), ["ServerNotFound"]);
    assert_eq!(told(&index.upsert(server("s", ""), None)), ["s", "s+g"]);
    assert_eq!(reasons(&index, &key(Kind::Grant, "g")), [""; 0]);
    assert_eq!(told(&index.remove(&key(Kind::Server, "s"))), ["s", "s-g"]);
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
    assert_eq!(told(&index.upsert(session("one", "s", "  revoked: true\n"), None)), ["s+one"]);
    assert_eq!(told(&index.upsert(server("s", "  teamID: team\n"), None)), ["s", "s+g", "s+one"]);
    assert_eq!(told(&index.remove(&key(Kind::Session, "two"))), ["t-two"]);
    assert_eq!(told(&index.upsert(server("t", "  teamID: team\n"), None)), ["t"]);
}

#[test]
fn what_names_another_server_leaves_the_one_it_named() {
    let mut index = Index::default();
    for name in ["s", "t"] {
        index.upsert(server(name, ""), None);
    }
    index.upsert(session("one", "s", ""), None);
    assert_eq!(told(&index.upsert(session("one", "t", ""), None)), ["s-one", "t+one"]);
    assert_eq!(index.named_by(&key(Kind::Session, "one")), Some(&ObjectId::new("ns", "t")));
    assert_eq!(told(&index.upsert(server("s", "  teamID: team\n"), None)), ["s"]);
}

#[test]
fn nothing_depends_on_a_status() {
    let mut index = Index::default();
    index.upsert(server("s", ""), None);
    index.upsert(session("one", "s", ""), None);
    let Object::Server(mut changed) = server("s", "") else { panic!() };
    changed.status =
        Some(sallyport_api::v1alpha1::MCPServerStatus { phase: "Ready".into(), ..Default::default() });
    assert_eq!(told(&index.upsert(Object::Server(changed), None)), [""; 0]);
    let kept = index.server(&ObjectId::new("ns", "s")).and_then(|server| server.status.clone());
    assert_eq!(kept.map(|status| status.phase), Some("Ready".into()));
    assert_eq!(told(&index.upsert(session("one", "s", ""), None)), [""; 0]);
}

#[test]
fn what_is_rejected_has_a_problem_and_the_effect_of_what_is_left() {
    let wrong =
        |reason| Problem { severity: Severity::Error, path: "spec".into(), reason, message: String::new() };
    let mut index = Index::default();
    index.upsert(server("s", ""), None);
    index.upsert(grant("g", "s"), None);
    let g = key(Kind::Grant, "g");
    assert_eq!(told(&index.reject(g.clone(), None, vec![wrong("Rule")])), ["s-g"]);
    assert_eq!(reasons(&index, &g), ["Rule"]);
    assert!(index.keys().any(|key| key == g));
    assert_eq!(told(&index.reject(g.clone(), Some(grant("g", "s")), vec![wrong("WrongValue")])), ["s+g"]);
    assert_eq!(reasons(&index, &g), ["WrongValue"]);
    assert_eq!(told(&index.upsert(grant("g", "s"), None)), ["s+g"]);
    assert_eq!(reasons(&index, &g), [""; 0]);
    let s = key(Kind::Server, "s");
    assert_eq!(told(&index.reject(s.clone(), None, vec![wrong("Rule")])), ["s", "s-g"]);
    assert_eq!(reasons(&index, &s), ["Rule"]);
    index.remove(&s);
    assert!(!index.keys().any(|key| key == s));
}

#[test]
fn the_same_object_has_the_same_version_and_its_file_gives_its_age() {
    let mut index = Index::default();
    index.upsert(server("s", ""), None);
    let mut encoded = |issued_at| {
        index.remove(&key(Kind::Session, "one"));
        match index.upsert(session("one", "s", ""), issued_at).remove(0) {
            Change::Access { encoded: Some(encoded), .. } => encoded,
            other => panic!("{other:?}"),
        }
    };
    let first = encoded(Some(7));
    assert_eq!(first, encoded(Some(7)));
    let second = encoded(Some(8));
    assert_ne!(first.version, second.version);
    let message = <v1::Session as prost::Message>::decode(second.bytes.as_slice()).unwrap();
    assert_eq!((message.name.as_str(), message.issued_at), ("one", 8));
}

fn routes(plan: &Plan) -> Vec<&str> {
    plan.routes.iter().map(|route| route.name.as_str()).collect()
}

#[test]
fn of_two_servers_in_one_place_the_first_by_name_has_it() {
    let mut index = Index::default();
    index.upsert(server("b", "  ingressPath: /same\n"), None);
    let changes = index.upsert(server("a", "  ingressPath: /same/\n"), None);
    assert_eq!(told(&changes), ["a", "b"], "the other one lost its place");
    let plan = index.plan();
    assert_eq!(routes(&plan), ["ns/a"]);
    assert_eq!(plan.servers.len(), 1);
    assert_eq!(reasons(&index, &key(Kind::Server, "b")), ["RouteCollision"]);
    assert_eq!(told(&index.remove(&key(Kind::Server, "a"))), ["a", "b"]);
    assert_eq!(index.plan().routes.len(), 1);
    assert_eq!(reasons(&index, &key(Kind::Server, "b")), [""; 0]);
}

#[test]
fn an_older_server_keeps_its_place_whatever_a_newer_one_is_called() {
    let born = |name: &str, seconds| {
        let Object::Server(mut born) = server(name, "  ingressPath: /same\n") else { panic!() };
        let time = k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap();
        born.metadata.creation_timestamp = Some(sallyport_api::Time(time));
        Object::Server(born)
    };
    let mut index = Index::default();
    index.upsert(born("b", 1), None);
    assert_eq!(told(&index.upsert(born("a", 2), None)), ["a"], "no other server is touched");
    assert_eq!(routes(&index.plan()), ["ns/b"]);
    index.upsert(born("c", 3), None);
    index.remove(&key(Kind::Server, "b"));
    let told = index.problems().get(&key(Kind::Server, "c")).unwrap();
    assert!(told[0].message.contains("ns/a"), "{told:?}");
}

/// A server `namespace/name` of this age, reached at `/p` on a host.
fn placed(id: &str, age: i64, host: Option<&str>) -> Object {
    let host = host.map(|host| format!("  ingressHost: {host}\n")).unwrap_or_default();
    let Object::Server(mut server) = server("s", &format!("  ingressPath: /p\n{host}")) else { panic!() };
    let (namespace, name) = id.split_once('/').unwrap();
    server.metadata.namespace = Some(namespace.into());
    server.metadata.name = Some(name.into());
    let time = k8s_openapi::jiff::Timestamp::from_second(age).unwrap();
    server.metadata.creation_timestamp = Some(sallyport_api::Time(time));
    Object::Server(server)
}

#[test]
fn a_host_is_singled_out_at_home_only_and_the_older_server_stays() {
    let one = Some("one");
    let left = |servers: &[(&str, i64, Option<&str>)]| {
        let mut index = Index::default();
        for (id, age, host) in servers {
            index.upsert(placed(id, *age, *host), None);
        }
        index.plan().routes.iter().map(|route| route.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(left(&[("a/any", 1, None), ("a/host", 2, one)]), ["a/host", "a/any"]);
    assert_eq!(left(&[("a/any", 1, None), ("b/host", 2, one)]), ["a/any"], "its calls are not to be had");
    assert_eq!(left(&[("b/host", 2, one), ("a/any", 1, None)]), ["a/any"], "in whatever order they are told");
    assert_eq!(left(&[("a/any", 2, None), ("b/host", 1, one)]), ["b/host"]);
    assert_eq!(left(&[("a/one", 1, one), ("b/two", 2, Some("two"))]).len(), 2, "hosts of their own");
}

#[test]
fn who_was_in_the_way_gives_its_place_to_those_it_kept_out() {
    let mut index = Index::default();
    index.upsert(placed("a/any", 1, None), None);
    for (name, host) in [("b/one", "one"), ("b/two", "two")] {
        assert_eq!(told(&index.upsert(placed(name, 2, Some(host)), None)), [&name[2..]]);
    }
    let b = |name| (Kind::Server, ObjectId::new("b", name));
    assert_eq!(reasons(&index, &b("one")), ["RouteCollision"]);
    assert_eq!(told(&index.remove(&(Kind::Server, ObjectId::new("a", "any")))), ["any", "one", "two"]);
    assert_eq!(reasons(&index, &b("one")), [""; 0]);
    assert_eq!(index.plan().routes.len(), 2);
}

#[test]
fn whoever_has_a_place_is_in_the_way_of_a_server_that_is_not_there_yet() {
    let mut index = Index::default();
    index.upsert(placed("a/any", 1, None), None);
    index.upsert(placed("a/host", 2, Some("one")), None);
    let holder = |id, age, host| {
        let Object::Server(server) = placed(id, age, host) else { panic!() };
        index.in_the_way(&server).map(ToString::to_string)
    };
    assert_eq!(holder("b/new", 3, Some("one")).as_deref(), Some("a/any"));
    assert_eq!(holder("b/new", 0, Some("two")).as_deref(), Some("a/any"), "its age is no argument");
    assert_eq!(holder("a/new", 3, Some("one")).as_deref(), Some("a/host"));
    assert_eq!(holder("a/new", 3, Some("two")), None);
    assert_eq!(holder("a/any", 1, None), None, "it is not in its own way");
}

#[test]
fn a_proxy_of_one_server_is_reached_by_any_host_and_knows_no_other() {
    let mut index = Index::default();
    index.upsert(server("s", "  ingressHost: mcp.example.com\n"), None);
    index.upsert(server("t", ""), None);
    index.upsert(server("u", "  ingressPath: /t/mcp\n"), None);
    let of = |name| index.plan_of(&ObjectId::new("ns", name)).unwrap();
    let plan = of("s").plan;
    assert_eq!((routes(&plan), plan.servers.len(), plan.upstreams.len()), (vec!["ns/s"], 1, 1));
    assert_eq!((plan.routes[0].host.as_deref(), of("s").port), (None, 8091));
    let loser = of("u").plan;
    assert_eq!((loser.routes.len(), loser.servers.len()), (0, 1), "its place is another's");
    assert_eq!(index.plan_of(&ObjectId::new("ns", "none")), None);
    let direct =
        object(&format!("{API}\nkind: MCPServer\nmetadata: {{name: d, namespace: ns}}\nspec:\n  image: i\n"));
    index.upsert(direct, None);
    assert_eq!(index.plan_of(&ObjectId::new("ns", "d")), None, "without a gateway there is no proxy");
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
        "  ingressHost: a..b\n",
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

#[test]
fn a_revision_is_of_the_policy_alone() {
    let mut index = Index::default();
    let mut revision = |more: &str| {
        index.upsert(server("s", more), None);
        index.policy_revision(&ObjectId::new("ns", "s")).map(ToString::to_string)
    };
    let first = revision("");
    assert!(first.is_some());
    assert_eq!(revision("  replicas: 2\n"), first);
    assert_ne!(revision("  teamID: team\n"), first);
    index.upsert(
        object(&format!(
            "{API}\nkind: MCPServer\nmetadata: {{name: s, namespace: ns}}\nspec: {{image: i}}\n"
        )),
        None,
    );
    assert_eq!(index.policy_revision(&ObjectId::new("ns", "s")), None);
}

use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use sallyport_api::manifest::load_str;
use sallyport_operator_xds::SharedWorld;
use sallyport_operator_xds::render::{FILTER, LISTENER};

use super::*;

const API: &str = "apiVersion: mcpruntime.org/v1alpha1";

fn upsert(kind: &str, name: &str, spec: &str) -> Delta {
    let yaml = format!("{API}\nkind: {kind}\nmetadata: {{name: {name}, namespace: ns}}\nspec: {spec}\n");
    let (mut loaded, problems) = load_str("test.yaml", &yaml);
    assert_eq!(problems, []);
    Delta::Upsert(loaded.remove(0).object, None)
}

fn server(name: &str, more: &str) -> Delta {
    upsert("MCPServer", name, &format!("{{image: i, gateway: {{enabled: true}}{more}}}"))
}

fn session(name: &str, server: &str, more: &str) -> Delta {
    upsert(
        "MCPAgentSession",
        name,
        &format!("{{serverRef: {{name: {server}}}, subject: {{humanID: h}}{more}}}"),
    )
}

fn control() -> Control {
    let common = Common {
        listen: Address { host: "0.0.0.0".into(), port: 8091 },
        module: "filter.wasm".into(),
        proxy: String::new(),
        digest_key: DigestKey::default(),
    };
    Control {
        index: Arc::default(),
        targets: Targets::per_server(),
        metrics: Metrics::register(&mut prometheus_client::registry::Registry::default()),
        common,
        revisions: Revisions::default(),
        applied: watch::channel(0).0,
    }
}

fn world(control: &Control, server: &str) -> SharedWorld {
    control.targets.find(&ObjectId::new("ns", server)).expect("a target").target.world
}

/// The filter's configuration, as its proxies have it.
async fn config(world: &SharedWorld) -> v1::FilterConfig {
    let stored = world.read(|world| world.find(types::EXTENSION, FILTER).cloned()).await.unwrap();
    let extension = TypedExtensionConfig::decode(stored.body.value.as_slice()).unwrap();
    let wasm = Wasm::decode(extension.typed_config.unwrap().value.as_slice()).unwrap();
    let bytes = wasm.config.unwrap().configuration.unwrap().value;
    let bytes: Vec<u8> = prost::Message::decode(bytes.as_slice()).unwrap();
    v1::FilterConfig::decode(bytes.as_slice()).unwrap()
}

async fn names(world: &SharedWorld, type_url: &'static str) -> Vec<String> {
    world.read(|world| world.all(type_url).map(|(name, _)| name.to_string()).collect()).await
}

async fn version(world: &SharedWorld, type_url: &'static str, name: &str) -> Option<String> {
    world.read(|world| world.find(type_url, name).map(|stored| stored.version.clone())).await
}

#[tokio::test]
async fn a_target_knows_its_own_server_alone_and_is_woken_by_it_alone() {
    let mut control = control();
    let deltas = vec![session("one", "s", ""), session("two", "t", ""), server("s", ""), server("t", "")];
    let made = control.apply(deltas).await;
    assert_eq!(made.len(), 2);
    let (s, t) = (world(&control, "s"), world(&control, "t"));
    assert_eq!(names(&s, types::SESSION).await, ["ns/one"]);
    assert_eq!(names(&s, types::CLUSTER).await, ["mcp/ns/s"]);
    assert_eq!(names(&t, types::SESSION).await, ["ns/two"]);
    let foreign = t.bell();
    control.apply(vec![session("one", "s", ", revoked: true"), server("s", ", teamID: team")]).await;
    assert!(!foreign.has_changed().unwrap());
    control.apply(vec![session("one", "t", "")]).await;
    assert_eq!(names(&s, types::SESSION).await, [""; 0]);
    assert_eq!(names(&t, types::SESSION).await, ["ns/one", "ns/two"]);
    assert!(foreign.has_changed().unwrap());
}

#[tokio::test]
async fn what_names_a_server_that_is_not_there_makes_no_target() {
    let mut control = control();
    let without_gateway = upsert("MCPServer", "direct", "{image: i}");
    control.apply(vec![session("one", "none", ""), without_gateway]).await;
    assert!(control.targets.all().is_empty());
}

#[tokio::test]
async fn proxies_of_a_server_that_is_gone_are_left_with_nothing() {
    let mut control = control();
    control.apply(vec![server("s", ""), session("one", "s", "")]).await;
    let s = world(&control, "s");
    let before = version(&s, types::EXTENSION, FILTER).await;
    control.apply(vec![Delta::Remove((Kind::Server, ObjectId::new("ns", "s")))]).await;
    assert_eq!(names(&s, types::SESSION).await, [""; 0]);
    assert_eq!(names(&s, types::CLUSTER).await, [""; 0]);
    let stored = s.read(|world| world.find(types::EXTENSION, FILTER).cloned()).await.unwrap();
    assert_eq!(config(&s).await.servers, []);
    assert_ne!(before, Some(stored.version));
    control.apply(vec![server("s", "")]).await;
    assert_eq!(names(&world(&control, "s"), types::SESSION).await, ["ns/one"], "the same target goes on");
    assert_eq!(names(&s, types::ROUTES).await, [LISTENER]);
}

#[tokio::test]
async fn two_replicas_give_a_server_the_same_version_whatever_they_saw_before() {
    let (mut one, mut other) = (control(), control());
    let edition = |generation: i64, more: &str| {
        let Delta::Upsert(Object::Server(mut server), _) = server("s", more) else { panic!() };
        server.metadata.generation = Some(generation);
        Delta::Upsert(Object::Server(server), None)
    };
    for (generation, more) in [(1, ""), (2, ", teamID: team"), (3, "")] {
        one.apply(vec![edition(generation, more)]).await;
    }
    other.apply(vec![edition(3, "")]).await;
    let of = async |control: &Control| version(&world(control, "s"), types::EXTENSION, FILTER).await;
    assert_eq!(of(&one).await, of(&other).await);
    let mut first = control();
    first.apply(vec![edition(1, "")]).await;
    assert_ne!(of(&first).await, of(&one).await, "an undone change does not give the same bytes again");
}

#[tokio::test]
async fn another_digest_key_reaches_every_server_and_one_of_before_comes_back_as_another_configuration() {
    let mut control = control();
    control.apply(vec![server("s", ""), server("t", "")]).await;
    let mut seen = std::collections::BTreeSet::new();
    for (key, version) in [("one", "1"), ("two", "2"), ("one", "3")] {
        let key = DigestKey { bytes: key.as_bytes().into(), version: version.into() };
        assert_eq!(control.rekey(key.clone()).await.len(), 0, "no target is new");
        for name in ["s", "t"] {
            let config = config(&world(&control, name)).await;
            assert_eq!(config.digest_key, *key.bytes);
            seen.insert((name, config.revision));
        }
        let before = world(&control, "s").read(World::seq).await;
        control.rekey(key).await;
        assert_eq!(world(&control, "s").read(World::seq).await, before, "the same key changes nothing");
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

use std::time::SystemTime;

use axum::routing::post;
use axum::{Json, Router};
use envoy_types::pb::google::protobuf::Any;
use sallyport_api::manifest::load_str;
use sallyport_operator_xds::{Instance, Surveyed};

use super::*;

fn key(kind: Kind, name: &str) -> Key {
    (kind, ObjectId::new("ns", name))
}

fn object(kind: &str, name: &str, spec: &str) -> sallyport_api::Object {
    let head = "apiVersion: mcpruntime.org/v1alpha1";
    let yaml = format!("{head}\nkind: {kind}\nmetadata: {{name: {name}, namespace: ns}}\nspec: {spec}\n");
    let (mut loaded, problems) = load_str("test.yaml", &yaml);
    assert_eq!(problems, []);
    loaded.remove(0).object
}

/// Two servers, `s` with a session `one`, and what their proxies are told.
async fn enforcement(peers: Option<Peers>) -> Enforcement {
    let targets = Targets::per_server();
    let mut index = Index::default();
    for server in ["s", "t"] {
        index.upsert(object("MCPServer", server, "{image: i, gateway: {enabled: true}}"), None);
        let (tracked, _) = targets.make(&ObjectId::new("ns", server));
        tracked.target.world.change(|world| world.set(types::EXTENSION, FILTER, body("policy"))).await;
    }
    for (name, server) in [("one", "s"), ("lost", "nowhere")] {
        let spec = format!("{{serverRef: {{name: {server}}}, subject: {{humanID: h}}}}");
        index.upsert(object("MCPAgentSession", name, &spec), None);
    }
    target(&targets, "s").world.change(|world| world.set(types::SESSION, "ns/one", body("1"))).await;
    Enforcement {
        targets,
        index: Arc::new(Mutex::new(index)),
        applied: watch::channel(0).1,
        peers,
        filters: 1,
    }
}

fn body(version: &str) -> Option<(Any, String)> {
    Some((Any::default(), version.into()))
}

fn target(targets: &Targets, server: &str) -> Target {
    targets.find(&ObjectId::new("ns", server)).unwrap().target
}

/// A stream of `ns/pod`: Envoy's own, or the filter's of a worker, that has answered everything up to a change.
fn stream(pod: &str, worker: Option<u32>, reached: u64) -> Instance {
    let node = worker.map_or_else(|| format!("ns/{pod}"), |worker| format!("ns/{pod}/{worker}/x"));
    let instance = Instance::new(format!("ns/{pod}"), SystemTime::UNIX_EPOCH);
    let (grants, sessions, configuration) = (reached, reached, reached);
    Instance { node, is_filter: worker.is_some(), grants, sessions, configuration, ..instance }
}

fn words(progress: &Progress) -> String {
    let pending: Vec<String> = progress.pending.iter().map(ToString::to_string).collect();
    format!("{}/{} {}", progress.enforced, progress.of, pending.join(", ")).trim_end().into()
}

async fn reach(enforcement: &Enforcement, keys: &[Key]) -> Vec<String> {
    enforcement.reach(keys).await.iter().map(words).collect()
}

#[tokio::test]
async fn each_object_is_counted_on_the_proxies_of_its_own_server() {
    let enforcement = enforcement(None).await;
    let (s, t) = (target(&enforcement.targets, "s").proxies, target(&enforcement.targets, "t").proxies);
    s.update(1, &stream("s-1", None, 2));
    s.update(2, &stream("s-1", Some(1), 2));
    s.update(3, &stream("s-2", None, 0));
    s.update(4, &stream("s-2", Some(1), 1));
    t.update(1, &stream("t-1", None, 9));
    let keys = [key(Kind::Session, "one"), key(Kind::Server, "t"), key(Kind::Server, "s")];
    assert_eq!(reach(&enforcement, &keys).await, ["1/2 ns/s-2", "1/1", "1/2 ns/s-2"]);
    s.update(4, &stream("s-2", Some(1), 2));
    assert_eq!(reach(&enforcement, &keys[..1]).await, ["2/2"]);
    s.departed(2);
    assert_eq!(reach(&enforcement, &keys[..1]).await, ["1/2 ns/s-1: stream ended"]);
}

#[tokio::test]
async fn what_concerns_no_proxy_has_come_nowhere() {
    let enforcement = enforcement(None).await;
    let keys = [key(Kind::Session, "lost"), key(Kind::Grant, "never"), key(Kind::Server, "nowhere")];
    assert_eq!(reach(&enforcement, &keys).await, ["0/0"; 3]);
    assert!(!Progress::default().is_complete(), "nobody knows what is enforced");
}

#[tokio::test]
async fn what_is_withdrawn_is_enforced_when_its_removal_is_acknowledged() {
    let enforcement = enforcement(None).await;
    let target = target(&enforcement.targets, "s");
    target.proxies.update(1, &stream("s-1", Some(1), 2));
    target.world.change(|world| world.set(types::SESSION, "ns/one", None)).await;
    let one = [key(Kind::Session, "one")];
    assert_eq!(reach(&enforcement, &one).await, ["0/1 ns/s-1"]);
    target.proxies.update(1, &stream("s-1", Some(1), 3));
    assert_eq!(reach(&enforcement, &one).await, ["1/1"]);
}

/// Another replica, which answers every question with these streams of `ns/s`, none of which keeps anything.
async fn replica(pods: &'static [&'static str]) -> String {
    let surveyed = |pod: &&str| Surveyed {
        proxy: format!("ns/{pod}"),
        node: format!("ns/{pod}/1/x"),
        is_filter: true,
        is_connected: true,
    };
    let survey = Survey { streams: pods.iter().map(surveyed).collect(), ..Survey::default() };
    let answer = async |Json(asked): Json<Asked>| {
        assert_eq!(asked.servers["ns/s"][0].version, "1", "it is asked for the version that is here");
        Json(Answered { servers: BTreeMap::from([("ns/s".to_string(), survey)]) })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/enforcement/batch", post(answer));
    tokio::spawn(axum::serve(listener, router).into_future());
    address.to_string()
}

#[tokio::test]
async fn proxies_of_other_replicas_count_and_a_replica_that_is_silent_is_left_out() {
    let one = [key(Kind::Session, "one")];
    let both = enforcement(Some(Peers::new(replica(&["s-2", "s-3"]).await, None).unwrap())).await;
    target(&both.targets, "s").proxies.update(1, &stream("s-1", Some(1), 0));
    assert_eq!(reach(&both, &one).await, ["2/3 ns/s-1"]);
    let alone = enforcement(Some(Peers::new("replicas.invalid:1".into(), None).unwrap())).await;
    target(&alone.targets, "s").proxies.update(1, &stream("s-1", Some(1), 2));
    assert_eq!(reach(&alone, &one).await, ["1/1"]);
}

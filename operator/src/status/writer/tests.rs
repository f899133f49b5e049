use std::collections::BTreeMap;
use std::sync::Mutex;

use sallyport_api::v1alpha1::{MCPAgentSession, MCPServer};
use sallyport_api::words::{access_phase, event};
use sallyport_resolve::Problem;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::super::decide::{SeenServer, Subject};
use super::super::reach::Laggard;
use super::super::transition::Transition;
use super::super::workload::{Revisions, Workload};
use super::*;

/// Objects and proxies as the writer sees them; what it writes comes back as from a watch.
struct Cluster {
    inner: Mutex<Inner>,
    notices: UnboundedSender<Notice>,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<Key, Value>,
    reach: BTreeMap<Key, Reach>,
    problems: BTreeMap<Key, Vec<Problem>>,
    writes: Vec<(Key, String)>,
    told: Vec<(String, String, &'static str)>,
    /// So many writes fail.
    failing: u32,
    version: u64,
}

fn server_key() -> Key {
    (Kind::Server, ObjectId::new("ns", "pay"))
}

fn session_key(name: &str) -> Key {
    (Kind::Session, ObjectId::new("ns", name))
}

impl Cluster {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Changes an object, or adds it.
    fn put(&self, key: &Key, spec: Value) {
        let mut inner = self.lock();
        inner.version += 1;
        let version = inner.version.to_string();
        let generation =
            inner.objects.get(key).map_or(1, |known| known["metadata"]["generation"].as_i64().unwrap() + 1);
        let status = inner.objects.get(key).map(|known| known["status"].clone()).unwrap_or_default();
        let metadata = json!({"name": key.1.name, "namespace": key.1.namespace, "uid": format!("uid-{}", key.1.name),
                              "generation": generation, "resourceVersion": version});
        let object = json!({"apiVersion": "mcpruntime.org/v1alpha1", "kind": key.0.as_str(), "metadata": metadata,
                            "spec": spec, "status": status});
        inner.objects.insert(key.clone(), object);
        drop(inner);
        self.notices.send(Notice::Object(key.clone())).unwrap();
    }

    fn put_session(&self, name: &str, revoked: bool) {
        let spec = json!({"serverRef": {"name": "pay"}, "subject": {"humanID": "h"}, "revoked": revoked});
        self.put(&session_key(name), spec);
    }

    fn put_server(&self) {
        self.put(&server_key(), json!({"image": "i", "gateway": {"enabled": true}}));
    }

    /// So many of so many proxies enforce an object as it is now.
    fn acknowledge(&self, key: &Key, enforced: usize, of: usize) {
        let laggard = |number| Laggard { proxy: format!("ns/pay-{number}"), refused: None };
        let pending = (enforced..of).map(laggard).collect();
        self.lock().reach.insert(key.clone(), Reach { enforced, of, pending, unconnected: 0 });
        self.notices.send(Notice::Proxies(ObjectId::new("ns", "pay"))).unwrap();
    }

    fn refuse(&self, key: &Key) {
        let pending = vec![Laggard { proxy: "ns/pay-0".into(), refused: Some("does not decode".into()) }];
        self.lock().reach.insert(key.clone(), Reach { enforced: 0, of: 1, pending, unconnected: 0 });
        self.notices.send(Notice::Proxies(ObjectId::new("ns", "pay"))).unwrap();
    }

    /// What was written since this was asked last, as `name phase enforced`.
    fn written(&self) -> Vec<String> {
        self.lock().writes.drain(..).map(|(key, text)| format!("{} {text}", key.1.name)).collect()
    }

    /// Reasons of events that were told since this was asked last.
    fn told(&self) -> Vec<String> {
        self.lock().told.drain(..).map(|(object, _, reason)| format!("{object} {reason}")).collect()
    }
}

#[async_trait]
impl View for Cluster {
    fn keys(&self) -> Vec<Key> {
        self.lock().objects.keys().cloned().collect()
    }

    fn servers(&self) -> Vec<ObjectId> {
        self.keys().into_iter().filter(|key| key.0 == Kind::Server).map(|(_, id)| id).collect()
    }

    fn seen(&self, key: &Key) -> Option<Seen> {
        let inner = self.lock();
        let object = inner.objects.get(key)?.clone();
        let subject = match key.0 {
            Kind::Server => {
                let server: MCPServer = serde_json::from_value(object).unwrap();
                Subject::Server(Box::new(SeenServer {
                    server: Arc::new(server),
                    workload: Workload::default(),
                    rollout: Revisions::default(),
                    revision: "r1".into(),
                }))
            }
            Kind::Session => {
                let session: MCPAgentSession = serde_json::from_value(object).unwrap();
                Subject::Session(Arc::new(session))
            }
            Kind::Grant => panic!("no grants here"),
        };
        let problems = inner.problems.get(key).cloned().unwrap_or_default();
        Some(Seen { subject, problems, server: ObjectId::new("ns", "pay"), is_governed: true, available: 0 })
    }

    async fn reach(&self, keys: &[Key]) -> Vec<Reach> {
        let inner = self.lock();
        keys.iter().map(|key| inner.reach.get(key).cloned().unwrap_or_default()).collect()
    }

    fn dependents(&self, _: &ObjectId) -> Vec<Key> {
        self.keys().into_iter().filter(|key| key.0 == Kind::Session).collect()
    }

    fn ended(&self, _: Timestamp) -> Vec<Key> {
        Vec::new()
    }
}

#[async_trait]
impl Desk for Cluster {
    async fn write(&self, note: &Note) -> Result<Option<String>, Refusal> {
        let mut inner = self.lock();
        if inner.failing > 0 {
            inner.failing -= 1;
            return Err(Refusal::Failed("away".into()));
        }
        inner.version += 1;
        let version = inner.version.to_string();
        let Some(object) = inner.objects.get_mut(&note.key) else { return Err(Refusal::Gone) };
        object["status"] = note.status.clone();
        object["metadata"]["resourceVersion"] = version.clone().into();
        let word = |field: &str| note.status[field].as_str().unwrap_or_default().to_string();
        let text = format!("{} {}", word("phase"), word("enforced"));
        inner.writes.push((note.key.clone(), text));
        drop(inner);
        self.notices.send(Notice::Object(note.key.clone())).unwrap();
        Ok(Some(version))
    }

    async fn tell(&self, note: &Note, word: &str, transition: &Transition) -> Result<(), Refusal> {
        let mut inner = self.lock();
        // The API server has one object of a name.
        if inner.told.iter().all(|(_, known, _)| known != word) {
            inner.told.push((note.key.1.name.clone(), word.into(), transition.reason));
        }
        Ok(())
    }
}

struct Running {
    cluster: Arc<Cluster>,
    leads: watch::Sender<bool>,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Running {
    fn start(per_second: u32) -> Self {
        let (notices, queue) = mpsc::unbounded_channel();
        let cluster = Arc::new(Cluster { inner: Mutex::default(), notices });
        let (leads, leading) = watch::channel(true);
        let shutdown = CancellationToken::new();
        let settings =
            Settings { writes_per_second: per_second, ingress_readiness: IngressReadiness::Strict };
        let writer = Writer::new(cluster.clone(), cluster.clone(), settings, StatusMetrics::default());
        tokio::spawn(writer.run(queue, leading, shutdown.clone()));
        Self { cluster, leads, _shutdown: shutdown.drop_guard() }
    }

    /// Lets time pass; it is the test's own.
    async fn pass(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }
}

impl std::ops::Deref for Running {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_session_is_written_of_once_when_it_is_enforced() {
    let running = Running::start(50);
    running.acknowledge(&session_key("s"), 1, 2);
    running.put_session("s", false);
    running.pass(0.4).await;
    assert_eq!(running.written(), [""; 0]);
    running.acknowledge(&session_key("s"), 2, 2);
    running.pass(60.0).await;
    assert_eq!(running.written(), ["s Active 2/2"]);
    assert_eq!(running.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_take_long_are_told_as_missing() {
    let running = Running::start(50);
    running.acknowledge(&session_key("s"), 1, 2);
    running.put_session("s", false);
    running.pass(5.0).await;
    assert_eq!(running.written(), ["s Pending 1/2"]);
    running.acknowledge(&session_key("s"), 2, 2);
    running.pass(1.0).await;
    assert_eq!(running.written(), ["s Active 2/2"]);
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_another_replica_has_are_found_without_a_bell() {
    let running = Running::start(50);
    running.acknowledge(&session_key("s"), 1, 2);
    running.put_session("s", false);
    running.pass(5.0).await;
    running.cluster.lock().reach.insert(session_key("s"), Reach::complete(2));
    running.pass(35.0).await;
    assert_eq!(running.written(), ["s Pending 1/2", "s Active 2/2"]);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_passes_five_thousand_new_sessions() {
    let running = Running::start(50);
    for number in 0..5000 {
        let name = format!("s{number}");
        running.cluster.lock().reach.insert(session_key(&name), Reach::complete(2));
        running.put_session(&name, false);
    }
    running.pass(3.0).await;
    let begun = running.written().len();
    assert!((100..=250).contains(&begun), "{begun} at 50 a second");
    running.put_session("s4999", true);
    running.pass(0.2).await;
    let written = running.written();
    assert!(written.contains(&"s4999 Revoked 2/2".into()), "{written:?}");
    assert!(written.len() < 20, "{} in a fifth of a second", written.len());
    assert_eq!(running.told(), ["s4999 Revoked", "s4999 EnforcedEverywhere"]);
    running.pass(120.0).await;
    // One for each, and the one that was withdrawn is not written of again.
    assert_eq!(begun + written.len() + running.written().len(), 5000);
}

#[tokio::test(start_paused = true)]
async fn proxies_that_come_and_go_change_their_servers_status_alone() {
    let running = Running::start(50);
    running.put_server();
    for name in ["a", "b", "c"] {
        running.acknowledge(&session_key(name), 2, 2);
        running.put_session(name, false);
    }
    running.acknowledge(&server_key(), 2, 2);
    running.pass(30.0).await;
    assert_eq!(running.written().len(), 4);
    for of in [3, 1] {
        for name in ["a", "b", "c"] {
            running.acknowledge(&session_key(name), of, of);
        }
        running.acknowledge(&server_key(), of, of);
        running.pass(30.0).await;
        assert_eq!(running.written(), [format!("pay PartiallyReady {of}/{of}")]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_begins_anew_writes_nothing_that_is_there_and_tells_nothing_again() {
    let running = Running::start(50);
    running.put_server();
    running.acknowledge(&server_key(), 2, 2);
    for name in ["a", "b"] {
        running.acknowledge(&session_key(name), 2, 2);
        running.put_session(name, false);
    }
    running.pass(5.0).await;
    running.put_session("b", true);
    running.pass(5.0).await;
    assert_eq!(running.told(), ["pay EnforcedEverywhere", "b Revoked", "b EnforcedEverywhere"]);
    running.written();
    running.leads.send(false).unwrap();
    running.pass(1.0).await;
    // Proxies come back to whoever leads now one by one.
    running.acknowledge(&server_key(), 0, 0);
    running.leads.send(true).unwrap();
    running.pass(5.0).await;
    running.acknowledge(&server_key(), 2, 2);
    running.pass(120.0).await;
    assert_eq!(running.written(), [""; 0]);
    assert_eq!(running.told(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_writes_nothing() {
    let running = Running::start(50);
    running.leads.send(false).unwrap();
    running.pass(1.0).await;
    running.acknowledge(&session_key("s"), 2, 2);
    running.put_session("s", false);
    running.pass(60.0).await;
    assert_eq!(running.written(), [""; 0]);
    running.leads.send(true).unwrap();
    running.pass(5.0).await;
    assert_eq!(running.written(), ["s Active 2/2"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_failed_is_tried_again() {
    let running = Running::start(50);
    running.cluster.lock().failing = 3;
    running.acknowledge(&session_key("s"), 2, 2);
    running.put_session("s", false);
    running.pass(3.0).await;
    assert_eq!(running.written(), [""; 0]);
    running.pass(10.0).await;
    assert_eq!(running.written(), ["s Active 2/2"]);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_tells_who_has_not_heard_of_it_and_then_that_all_have() {
    let running = Running::start(50);
    running.acknowledge(&session_key("s"), 2, 2);
    running.put_session("s", false);
    running.pass(5.0).await;
    running.written();
    running.acknowledge(&session_key("s"), 1, 2);
    running.put_session("s", true);
    running.pass(3.0).await;
    assert_eq!((running.written(), running.told()), (vec!["s Revoked 1/2".into()], vec!["s Revoked".into()]));
    running.acknowledge(&session_key("s"), 2, 2);
    running.pass(0.1).await;
    assert_eq!(running.written(), ["s Revoked 2/2"]);
    assert_eq!(running.told(), ["s EnforcedEverywhere"]);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refuses_is_told_once() {
    let running = Running::start(50);
    running.put_session("s", false);
    running.refuse(&session_key("s"));
    running.pass(60.0).await;
    assert_eq!(running.written(), ["s Pending 0/1"]);
    assert_eq!(running.told(), [format!("s {}", event::PROXY_REJECTED)]);
}

#[tokio::test(start_paused = true)]
async fn where_no_proxy_is_that_is_told_and_then_the_first_one() {
    let running = Running::start(50);
    running.put_server();
    running.put_session("s", false);
    running.pass(60.0).await;
    assert_eq!(running.written(), ["pay Pending 0/0", "s Pending 0/0"]);
    running.acknowledge(&session_key("s"), 1, 1);
    running.acknowledge(&server_key(), 1, 1);
    running.pass(1.0).await;
    running.acknowledge(&session_key("s"), 2, 2);
    running.acknowledge(&server_key(), 2, 2);
    running.pass(10.0).await;
    let written = running.written();
    let sessions: Vec<&String> = written.iter().filter(|line| line.starts_with("s ")).collect();
    assert_eq!(sessions, [&format!("s {} 2/2", access_phase::ACTIVE)], "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_withdrawn_while_it_waits_as_a_new_one_is_written_of() {
    let running = Running::start(50);
    running.put_session("s", false);
    running.pass(0.3).await;
    running.put_session("s", true);
    running.pass(60.0).await;
    assert_eq!(running.written(), ["s Revoked 0/0"]);
}

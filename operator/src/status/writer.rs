//! Looks at what changed and writes what differs, while this replica holds the lease.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use sallyport_api::Kind;
use sallyport_operator_index::Key;
use sallyport_policy::ObjectId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::decide::{Decision, Seen, decide};
use super::desk::{Desk, Note, Refusal};
use super::keeper::Keeper;
use super::metrics::StatusMetrics;
use super::queue::Next;
use super::reach::Reach;
use super::remembered::Remembered;
use super::workload::IngressReadiness;

/// Writes at once in each lane.
const AT_ONCE: (usize, usize) = (16, 8);
/// How often servers are looked at for the sake of proxies that other replicas serve, and sessions for that of their end.
const ROUND: Duration = Duration::from_secs(10);
/// Notices that are taken in before anything else happens.
const NOTICES: usize = 1024;

/// Something that may change a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// An object came, changed or went; or an object that it is made of did.
    Object(Key),
    /// What names a server may fare otherwise now.
    Dependents(ObjectId),
    /// Proxies of a server came, went or answered.
    Proxies(ObjectId),
}

/// What statuses are decided from.
#[async_trait]
pub(crate) trait View: Send + Sync + 'static {
    /// Every object.
    fn keys(&self) -> Vec<Key>;

    /// Every server.
    fn servers(&self) -> Vec<ObjectId>;

    /// An object as it is now.
    fn seen(&self, key: &Key) -> Option<Seen>;

    /// How far objects have come as they are now, over all replicas; in the same order.
    async fn reach(&self, keys: &[Key]) -> Vec<Reach>;

    /// Grants and sessions that name a server.
    fn dependents(&self, server: &ObjectId) -> Vec<Key>;

    /// Sessions that have ended by `now` and whose status does not say so.
    fn ended(&self, now: Timestamp) -> Vec<Key>;
}

/// What may be chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Patient writes in a second.
    pub(crate) writes_per_second: u32,
    pub(crate) ingress_readiness: IngressReadiness,
}

/// The writer.
pub(crate) struct Writer<V, D> {
    view: Arc<V>,
    desk: Arc<D>,
    settings: Settings,
    metrics: StatusMetrics,
    keeper: Keeper,
    jobs: JoinSet<Done>,
}

/// A write that ended.
struct Done {
    key: Key,
    next: Remembered,
    outcome: Result<Option<String>, Refusal>,
    /// Events that were told, and that were not.
    told: Vec<(&'static str, bool)>,
}

impl<V: View, D: Desk> Writer<V, D> {
    pub(crate) fn new(view: Arc<V>, desk: Arc<D>, settings: Settings, metrics: StatusMetrics) -> Self {
        let keeper = Keeper::new(settings.writes_per_second, Instant::now());
        Self { view, desk, settings, metrics, keeper, jobs: JoinSet::new() }
    }

    /// Writes while `leads` says so, until `shutdown`. `leads` must not say so before all objects are known.
    pub(crate) async fn run(
        mut self,
        mut notices: mpsc::UnboundedReceiver<Notice>,
        mut leads: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) {
        let mut is_leading = false;
        let mut round = tokio::time::interval(ROUND);
        loop {
            if *leads.borrow_and_update() != is_leading {
                is_leading = !is_leading;
                self.turn(is_leading);
            }
            let now = Instant::now();
            let wake = if is_leading { self.keeper.next_look(now) } else { None };
            let wake = [wake, self.work(is_leading, now).await].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                changed = leads.changed() => if changed.is_err() { return },
                notice = notices.recv() => {
                    let Some(notice) = notice else { return };
                    self.take_in(notice, is_leading);
                    for _ in 0..NOTICES {
                        let Ok(notice) = notices.try_recv() else { break };
                        self.take_in(notice, is_leading);
                    }
                }
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => self.finish(done),
                _ = round.tick() => if is_leading { self.round() },
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Begins or ends to lead.
    fn turn(&mut self, is_leading: bool) {
        self.keeper = Keeper::new(self.settings.writes_per_second, Instant::now());
        // Whoever leads now writes; what is under way here must not come after.
        self.jobs.abort_all();
        if is_leading {
            self.keeper.begin(self.view.keys());
        }
        tracing::info!(leads = is_leading, "status writer");
    }

    fn take_in(&mut self, notice: Notice, is_leading: bool) {
        match notice {
            _ if !is_leading => {}
            Notice::Object(key) => self.keeper.changed(key),
            Notice::Dependents(server) => {
                for key in self.view.dependents(&server) {
                    self.keeper.look(key);
                }
            }
            Notice::Proxies(server) => self.keeper.rang(&server, Instant::now()),
        }
    }

    fn round(&mut self) {
        // Before the servers of this round are added: they are no backlog.
        self.metrics.depth(self.keeper.depth());
        for key in self.view.ended(Timestamp::now()) {
            self.keeper.look(key);
        }
        for server in self.view.servers() {
            self.keeper.look((Kind::Server, server));
        }
    }

    /// Looks at a few objects and begins a few writes. Answers when there is more to do.
    async fn work(&mut self, is_leading: bool, now: Instant) -> Option<Instant> {
        if !is_leading {
            return None;
        }
        let due = self.keeper.due(now);
        if !due.is_empty() {
            for (key, seen, decision, connected) in self.decide(due).await {
                self.keeper.judge(&key, &seen, &decision, connected, Instant::now());
            }
        }
        let (urgent, patient) = AT_ONCE;
        match self.keeper.next_writes(urgent, patient, Instant::now()) {
            Next::Idle => self.keeper.next_look(now),
            Next::Wait(until) => self.keeper.next_look(now).into_iter().chain([until]).min(),
            Next::Write(keys) => {
                // They may have changed while they stood in the queue.
                for (key, seen, decision, connected) in self.decide(keys).await {
                    self.keeper.judge(&key, &seen, &decision, connected, Instant::now());
                    if decision.is_news {
                        self.keeper.began(key.clone(), decision.lane);
                        self.write(key, &seen, decision);
                    }
                }
                Some(now)
            }
        }
    }

    /// What is to be told of each of `keys` that is there, with how many proxies of its server are connected.
    async fn decide(&mut self, keys: Vec<Key>) -> Vec<(Key, Seen, Decision, usize)> {
        let (mut open, mut looks) = (Vec::new(), Vec::new());
        for key in keys {
            let Some(seen) = self.view.seen(&key) else {
                self.keeper.gone(&key);
                continue;
            };
            self.keeper.arrived(&key, &seen);
            let before = self.keeper.before(&key, &seen);
            let known = self.keeper.known_reach(&key, &seen, before.as_ref());
            if known.is_none() {
                open.push(key.clone());
            }
            looks.push((key, seen, before, known));
        }
        let mut asked = if open.is_empty() { Vec::new() } else { self.view.reach(&open).await }.into_iter();
        let now = Timestamp::now();
        let mut decided = Vec::new();
        for (key, seen, before, known) in looks {
            let reach = known.or_else(|| Some(asked.next()?.among(seen.available)));
            let Some(reach) = reach else { continue };
            let connected = reach.connected();
            let is_backlog = self.keeper.is_untouched(&key);
            let readiness = self.settings.ingress_readiness;
            if let Some(decision) = decide(&seen, reach, before.as_ref(), is_backlog, readiness, now) {
                decided.push((key, seen, decision, connected));
            }
        }
        decided
    }

    fn write(&mut self, key: Key, seen: &Seen, decision: Decision) {
        let Decision { status, next, told, episode, .. } = decision;
        let uid = seen.metadata().uid.clone().unwrap_or_default();
        let told = told.into_iter().map(|transition| (word(&uid, episode, transition.reason), transition));
        let note = Note { key, uid: uid.clone(), status, told: told.collect() };
        let desk = self.desk.clone();
        self.jobs.spawn(async move {
            let mut told = Vec::new();
            // Before the status: whoever dies in between tells them again, under the same name.
            for (word, transition) in &note.told {
                let answer = desk.tell(&note, word, transition).await;
                if let Err(error) = &answer {
                    tracing::warn!(object = %note.key.1, reason = transition.reason, %error, "event was not told");
                }
                told.push((transition.reason, answer.is_ok()));
            }
            let outcome = desk.write(&note).await;
            Done { key: note.key, next, outcome, told }
        });
    }

    fn finish(&mut self, done: Result<Done, tokio::task::JoinError>) {
        // Only those of a former term are aborted, and their books are closed.
        let Ok(Done { key, next, outcome, told }) = done else { return };
        self.metrics.told(&told);
        self.metrics.wrote(key.0, &outcome);
        match outcome {
            Ok(version) => {
                self.keeper.wrote(key.clone(), next, version.as_deref());
                if let Some(seen) = self.view.seen(&key) {
                    self.keeper.arrived(&key, &seen);
                }
            }
            Err(Refusal::Gone) => self.keeper.dropped(&key),
            Err(error @ Refusal::Failed(_)) => {
                tracing::warn!(kind = key.0.as_str(), object = %key.1, %error, "status was not written; trying again");
                self.keeper.failed(&key, Instant::now());
            }
        }
    }
}

/// The name that an event of this moment in an object's life has, whoever tells it.
fn word(uid: &str, episode: u64, reason: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (uid, episode, reason).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

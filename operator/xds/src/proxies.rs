//! Who is connected, and has acknowledged what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::survey::{Obstacle, Question, Survey, Surveyed};
use crate::world::types;

/// What proxies acknowledge.
const TYPES: [&str; 3] = [types::EXTENSION, types::GRANT, types::SESSION];

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The proxy, as its credential says.
    pub proxy: String,
    /// What it calls itself: a filter's worker, or Envoy.
    pub node: String,
    /// It is a filter's: it enforces grants and sessions.
    pub is_filter: bool,
    /// The wire version that the filter speaks.
    pub wire_version: u32,
    /// False: it went a moment ago, and may still enforce what it held.
    pub is_connected: bool,
    /// Since when.
    pub connected_at: SystemTime,
    /// Everything up to this change is answered, of grants.
    pub grants: u64,
    /// Everything up to this change is answered, of sessions.
    pub sessions: u64,
    /// Everything up to this change is answered, of filter configurations.
    pub configuration: u64,
    /// Responses sent.
    pub sent: u64,
    /// Responses acknowledged.
    pub acknowledgements: u64,
    /// Responses refused.
    pub refusals: u64,
    /// Resources whose last form it refused, by type and name, with the reason.
    pub refused: BTreeMap<(&'static str, String), String>,
}

impl Instance {
    /// A stream that has said nothing yet.
    pub fn new(proxy: String, connected_at: SystemTime) -> Self {
        Self {
            proxy,
            node: String::new(),
            is_filter: false,
            wire_version: 1,
            is_connected: true,
            connected_at,
            grants: 0,
            sessions: 0,
            configuration: 0,
            sent: 0,
            acknowledgements: 0,
            refusals: 0,
            refused: BTreeMap::new(),
        }
    }

    /// Everything up to this change is answered, of one type; none: it is not for this stream to answer that.
    fn reached(&self, type_url: &str) -> Option<u64> {
        match type_url {
            types::GRANT if self.is_filter => Some(self.grants),
            types::SESSION if self.is_filter => Some(self.sessions),
            types::EXTENSION if !self.is_filter => Some(self.configuration),
            _ => None,
        }
    }

    /// What keeps it from a change; none: nothing, or it is not for this stream to answer.
    fn obstacle(&self, question: &Question) -> Option<Obstacle> {
        let refused = || self.refused.get(&(question.type_url, question.name.clone()));
        let reached = self.reached(question.type_url)?;
        if !self.is_connected {
            Some(Obstacle::Ended)
        } else if let Some(reason) = (!self.refused.is_empty()).then(refused).flatten() {
            Some(Obstacle::Refused(reason.clone()))
        } else {
            question.change.is_none_or(|change| reached < change).then_some(Obstacle::Silent)
        }
    }
}

/// How many proxies are connected, and have acknowledged all there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Those that are connected.
    pub connected: usize,
    /// Those of which Envoy has the newest configuration.
    pub configuration: usize,
    /// Those of which every filter has the newest grants.
    pub grants: usize,
    /// Those of which every filter has the newest sessions.
    pub sessions: usize,
}

/// Sums over all streams there ever were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Responses sent.
    pub sent: u64,
    /// Responses acknowledged.
    pub acknowledgements: u64,
    /// Responses refused.
    pub refusals: u64,
}

#[derive(Debug, Default)]
struct Known {
    instances: BTreeMap<u64, Instance>,
    totals: Totals,
}

/// All streams of one target.
#[derive(Clone, Debug)]
pub struct Proxies {
    known: Arc<Mutex<Known>>,
    bell: Arc<watch::Sender<u64>>,
}

impl Default for Proxies {
    fn default() -> Self {
        Self { known: Arc::default(), bell: Arc::new(watch::channel(0).0) }
    }
}

impl Proxies {
    /// Everyone, by the number of the stream.
    pub fn all(&self) -> BTreeMap<u64, Instance> {
        self.lock().instances.clone()
    }

    /// Sums over all streams there ever were.
    pub fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// Rings whenever anyone comes, goes or answers.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// How many streams are connected.
    pub fn connected(&self) -> usize {
        self.lock().instances.values().filter(|instance| instance.is_connected).count()
    }

    /// How many proxies are connected, and have taken everything up to the change `newest`. What a proxy refused it has not.
    pub fn standing(&self, newest: u64) -> Standing {
        let known = self.lock();
        let mut proxies: BTreeMap<&str, [Option<bool>; TYPES.len()]> = BTreeMap::new();
        for instance in known.instances.values().filter(|i| i.is_connected && !i.node.is_empty()) {
            let all = proxies.entry(&instance.proxy).or_default();
            for (word, type_url) in all.iter_mut().zip(TYPES) {
                if let Some(reached) = instance.reached(type_url) {
                    let is_refused = instance.refused.keys().any(|(refused, _)| *refused == type_url);
                    *word = Some(word.unwrap_or(true) && reached >= newest && !is_refused);
                }
            }
        }
        let mut standing = Standing { connected: proxies.len(), ..Standing::default() };
        for words in proxies.into_values() {
            let [configuration, grants, sessions] = words.map(|word| usize::from(word == Some(true)));
            standing.configuration += configuration;
            standing.grants += grants;
            standing.sessions += sessions;
        }
        standing
    }

    /// How far each of `questions` has come. A stream that ended a moment ago counts as pending: its proxy may still enforce
    /// what it held.
    pub fn survey(&self, questions: &[Question]) -> Survey {
        let mut survey = Survey::default();
        let known = self.lock();
        // A stream that has said nothing yet is nobody's.
        for instance in known.instances.values().filter(|instance| !instance.node.is_empty()) {
            let number = survey.streams.len();
            survey.streams.push(Surveyed {
                proxy: instance.proxy.clone(),
                node: instance.node.clone(),
                is_filter: instance.is_filter,
                is_connected: instance.is_connected,
            });
            for (at, question) in questions.iter().enumerate() {
                if let Some(obstacle) = instance.obstacle(question) {
                    survey.pending.entry(at).or_default().insert(number, obstacle);
                }
            }
        }
        survey
    }

    /// The change up to which every connected filter has answered everything; none: no filter is connected.
    pub fn answered(&self) -> Option<u64> {
        let known = self.lock();
        let filters = known.instances.values().filter(|instance| instance.is_filter && instance.is_connected);
        filters.map(|instance| instance.grants.min(instance.sessions)).min()
    }

    /// A stream is in this state now.
    pub fn update(&self, stream: u64, instance: &Instance) {
        let mut known = self.lock();
        let before = known.instances.get(&stream);
        if before == Some(instance) {
            return;
        }
        let added = |now: u64, field: fn(&Instance) -> u64| now.saturating_sub(before.map_or(0, field));
        let more = Totals {
            sent: added(instance.sent, |i| i.sent),
            acknowledgements: added(instance.acknowledgements, |i| i.acknowledgements),
            refusals: added(instance.refusals, |i| i.refusals),
        };
        known.totals.sent += more.sent;
        known.totals.acknowledgements += more.acknowledgements;
        known.totals.refusals += more.refusals;
        // The same worker is back: its earlier stream counts no more. A stream is known for a filter's only by its second
        // subscription; until then the earlier one counts, or the worker would be missing from who must acknowledge.
        let replaced = |other: &Instance| {
            let is_same = other.proxy == instance.proxy && other.node == instance.node;
            !other.is_connected && is_same && (instance.is_filter || !other.is_filter)
        };
        known.instances.retain(|number, other| *number == stream || !replaced(other));
        known.instances.insert(stream, instance.clone());
        drop(known);
        self.ring();
    }

    /// A stream ended; it is remembered for a moment: its proxy may still enforce what it held.
    pub fn departed(&self, stream: u64) {
        if let Some(instance) = self.lock().instances.get_mut(&stream) {
            instance.is_connected = false;
        }
        self.ring();
    }

    pub(crate) fn forget(&self, stream: u64) {
        if self.lock().instances.remove(&stream).is_some() {
            self.ring();
        }
    }

    fn ring(&self) {
        self.bell.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::Progress;

    fn laggards(progress: &Progress) -> Vec<String> {
        progress.pending.iter().map(ToString::to_string).collect()
    }

    fn filter(node: &str, sessions: u64) -> Instance {
        let instance = Instance::new("edge".into(), SystemTime::UNIX_EPOCH);
        Instance { node: node.into(), is_filter: true, grants: 9, sessions, ..instance }
    }

    fn progress(proxies: &Proxies, type_url: &'static str, name: &str, change: u64) -> Progress {
        let question = Question { type_url, name: name.into(), change: Some(change) };
        Progress::of_streams(&proxies.survey(&[question]), 0, type_url, 1)
    }

    #[test]
    fn a_change_is_enforced_where_everything_up_to_it_was_taken() {
        let proxies = Proxies::default();
        proxies.update(1, &filter("edge/1/x", 5));
        proxies.update(2, &filter("edge/2/x", 4));
        proxies.update(3, &Instance { is_filter: false, configuration: 7, ..filter("edge", 0) });
        let half = progress(&proxies, types::SESSION, "n/s", 5);
        assert_eq!((half.enforced, half.of, laggards(&half)), (1, 2, vec!["edge/2/x".into()]));
        assert_eq!(progress(&proxies, types::GRANT, "n/g", 9).enforced, 2);
        assert_eq!(
            progress(&proxies, types::EXTENSION, "sallyport", 7),
            Progress { enforced: 1, of: 1, pending: vec![] }
        );
        assert_eq!(progress(&proxies, types::EXTENSION, "sallyport", 8).enforced, 0);
        assert_eq!(proxies.answered(), Some(4));
        assert_eq!(proxies.connected(), 3);
    }

    #[test]
    fn a_proxy_stands_where_all_its_streams_took_the_newest() {
        let proxies = Proxies::default();
        let standing =
            |configuration, grants, sessions| Standing { connected: 2, configuration, grants, sessions };
        let other = |instance: Instance| Instance { proxy: "other".into(), ..instance };
        proxies.update(1, &filter("edge/1/x", 9));
        proxies.update(2, &filter("edge/2/x", 4));
        proxies.update(3, &Instance { is_filter: false, configuration: 9, ..filter("edge", 0) });
        proxies.update(4, &other(filter("other/1/x", 9)));
        assert_eq!(proxies.standing(9), standing(1, 2, 1));
        let refused = BTreeMap::from([((types::GRANT, "n/g".to_string()), "does not decode".to_string())]);
        proxies.update(4, &other(Instance { refused, ..filter("other/1/x", 9) }));
        assert_eq!(proxies.standing(9), standing(1, 1, 1));
        proxies.departed(4);
        assert_eq!(proxies.standing(4), Standing { connected: 1, configuration: 1, grants: 1, sessions: 1 });
    }

    #[test]
    fn a_refused_resource_is_not_enforced_there() {
        let proxies = Proxies::default();
        let refused = BTreeMap::from([((types::SESSION, "n/s".to_string()), "does not decode".to_string())]);
        proxies.update(1, &Instance { refused, ..filter("edge/1/x", 5) });
        assert_eq!(
            laggards(&progress(&proxies, types::SESSION, "n/s", 5)),
            ["edge/1/x: refused: does not decode"]
        );
        assert_eq!(progress(&proxies, types::SESSION, "n/other", 5).enforced, 1);
    }

    #[test]
    fn who_left_is_pending_until_it_is_back_or_forgotten() {
        let proxies = Proxies::default();
        proxies.update(1, &filter("edge/1/x", 5));
        proxies.update(2, &filter("edge/2/x", 5));
        proxies.departed(1);
        proxies.departed(2);
        assert_eq!(progress(&proxies, types::SESSION, "n/s", 5).enforced, 0);
        assert_eq!(proxies.connected(), 0);
        proxies.update(3, &filter("edge/1/x", 5));
        proxies.forget(2);
        assert_eq!(
            progress(&proxies, types::SESSION, "n/s", 5),
            Progress { enforced: 1, of: 1, pending: vec![] }
        );
    }

    #[test]
    fn a_worker_that_is_coming_back_is_never_missing_from_those_who_must_acknowledge() {
        let proxies = Proxies::default();
        proxies.update(1, &filter("edge/1/x", 5));
        proxies.departed(1);
        proxies.update(2, &Instance { is_filter: false, ..filter("edge/1/x", 0) });
        assert_eq!(progress(&proxies, types::SESSION, "n/s", 5).of, 1);
        proxies.update(2, &filter("edge/1/x", 5));
        assert_eq!(
            progress(&proxies, types::SESSION, "n/s", 5),
            Progress { enforced: 1, of: 1, pending: vec![] }
        );
    }

    #[test]
    fn totals_outlive_their_streams() {
        let proxies = Proxies::default();
        proxies.update(1, &Instance { sent: 2, acknowledgements: 1, ..filter("a", 1) });
        proxies.update(1, &Instance { sent: 5, acknowledgements: 3, refusals: 1, ..filter("a", 1) });
        proxies.forget(1);
        proxies.update(2, &Instance { sent: 1, ..filter("a", 1) });
        assert_eq!(proxies.totals(), Totals { sent: 6, acknowledgements: 3, refusals: 1 });
    }
}

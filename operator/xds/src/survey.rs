//! How far changes have come, as several control planes see it together.
//!
//! Each replica numbers its changes on its own and knows only the streams that it serves. So they are asked by version, and
//! what they answer is put together by stream, then by proxy.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::world::types;

/// Whether a resource has come to the proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its type.
    pub type_url: &'static str,
    /// Its name.
    pub name: String,
    /// Number of the change that made it what it should be; none: it is not so here yet.
    pub change: Option<u64>,
}

/// A stream of a survey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// The proxy, as its credential says.
    pub proxy: String,
    /// What it calls itself.
    pub node: String,
    /// It is a filter's, which enforces grants and sessions; else Envoy's own, which takes configurations.
    pub is_filter: bool,
    /// False: it went a moment ago.
    pub is_connected: bool,
}

/// What one control plane knows of the answers to some questions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// All streams.
    pub streams: Vec<Surveyed>,
    /// By question and by stream, both counted from 0, what keeps it.
    pub pending: BTreeMap<usize, BTreeMap<usize, Obstacle>>,
}

/// What keeps a proxy from a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Obstacle {
    /// It has not answered yet.
    Silent,
    /// Its stream ended a moment ago: it may still enforce what it held.
    Ended,
    /// It refused the change, with this reason.
    Refused(String),
    /// No filter of it is connected.
    Filterless,
    /// Of its filters some are connected nowhere: nobody knows what those enforce.
    Partial {
        /// Filters that are connected.
        connected: usize,
        /// Filters there are.
        of: usize,
    },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no answer yet"),
            Self::Ended => f.write_str("stream ended"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Filterless => f.write_str("no filter is connected"),
            Self::Partial { connected, of } => write!(f, "only {connected} of {of} filters are connected"),
        }
    }
}

/// Who does not enforce a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Laggard {
    /// A stream or a proxy.
    pub name: String,
    /// Why not.
    pub obstacle: Obstacle,
}

impl fmt::Display for Laggard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.obstacle {
            Obstacle::Silent => f.write_str(&self.name),
            obstacle => write!(f, "{}: {obstacle}", self.name),
        }
    }
}

impl Survey {
    /// The streams that have a say on this type, each with what keeps it from the answer to a question.
    fn words(&self, question: usize, type_url: &str) -> impl Iterator<Item = (&Surveyed, Option<&Obstacle>)> {
        let is_for_filters = type_url != types::EXTENSION;
        let pending = self.pending.get(&question);
        let streams = self.streams.iter().enumerate();
        streams
            .filter(move |(_, stream)| stream.is_filter == is_for_filters)
            .map(move |(number, stream)| (stream, pending.and_then(|pending| pending.get(&number))))
    }
}

/// How far a change has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Those who acknowledged it.
    pub enforced: usize,
    /// Those there are.
    pub of: usize,
    /// The others.
    pub pending: Vec<Laggard>,
}

impl Progress {
    /// Stream by stream. Where there is any, those of `filters` that are connected nowhere count as well.
    pub fn of_streams(survey: &Survey, question: usize, type_url: &str, filters: usize) -> Self {
        let mut progress = Self::default();
        for (stream, obstacle) in survey.words(question, type_url) {
            progress.count(&stream.node, obstacle.cloned());
        }
        let of = if type_url == types::EXTENSION { 1 } else { filters };
        let connected = progress.of;
        if let Some(stream) = survey.streams.first() {
            for _ in connected..of {
                progress.count(&stream.proxy, Some(Obstacle::Partial { connected, of }));
            }
        }
        progress
    }

    /// Proxy by proxy: one counts when all its streams have answered, whichever control plane serves them. A proxy of which
    /// fewer than `filters` filters are connected has not: a control plane that was killed has told nobody whom it served.
    pub fn of_proxies<'s>(
        surveys: impl IntoIterator<Item = &'s Survey> + Clone,
        question: usize,
        type_url: &str,
        filters: usize,
    ) -> Self {
        let mut nodes: BTreeMap<(&str, &str), (bool, Option<&Obstacle>)> = BTreeMap::new();
        for survey in surveys.clone() {
            for (stream, obstacle) in survey.words(question, type_url) {
                let word = (stream.is_connected, obstacle);
                let known = nodes.entry((&stream.proxy, &stream.node)).or_insert(word);
                // One that ended here may be connected elsewhere since; of two that are, the one that lags counts.
                let is_newer = stream.is_connected && !known.0;
                let is_as_new = stream.is_connected == known.0;
                if is_newer || (is_as_new && known.1.is_none()) {
                    *known = word;
                }
            }
        }
        let all = surveys.into_iter().flat_map(|survey| &survey.streams);
        let mut proxies: BTreeMap<&str, Option<Option<&Obstacle>>> =
            all.map(|stream| (stream.proxy.as_str(), None)).collect();
        let mut connected: BTreeMap<&str, usize> = BTreeMap::new();
        for ((proxy, _), (is_connected, obstacle)) in nodes {
            *connected.entry(proxy).or_default() += usize::from(is_connected);
            let known = proxies.entry(proxy).or_default();
            // A reason says more than silence.
            let is_told = known.flatten().is_some_and(|told| *told != Obstacle::Silent);
            if known.is_none() || (obstacle.is_some() && !is_told) {
                *known = Some(obstacle);
            }
        }
        let mut progress = Self::default();
        let of = if type_url == types::EXTENSION { 1 } else { filters };
        for (proxy, word) in proxies {
            let connected = connected.get(proxy).copied().unwrap_or_default();
            let partial = (connected < of).then_some(Obstacle::Partial { connected, of });
            let obstacle = word.unwrap_or(Some(&Obstacle::Filterless)).cloned();
            progress.count(proxy, obstacle.or(partial));
        }
        progress
    }

    /// Everyone has acknowledged it, and there is one at least.
    pub fn is_complete(&self) -> bool {
        self.of > 0 && self.enforced == self.of
    }

    fn count(&mut self, name: &str, obstacle: Option<Obstacle>) {
        self.of += 1;
        match obstacle {
            None => self.enforced += 1,
            Some(obstacle) => self.pending.push(Laggard { name: name.into(), obstacle }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Streams by `proxy/worker`, with what keeps them; `gone` for one that ended, and a worker `-` for Envoy itself.
    fn survey(words: &[(&str, Option<&str>)]) -> Survey {
        let mut survey = Survey::default();
        for (number, (node, obstacle)) in words.iter().enumerate() {
            let (proxy, worker) = node.split_once('/').unwrap();
            let obstacle = obstacle.map(|word| match word {
                "" => Obstacle::Silent,
                "gone" => Obstacle::Ended,
                reason => Obstacle::Refused(reason.into()),
            });
            let is_connected = obstacle != Some(Obstacle::Ended);
            let is_filter = worker != "-";
            survey.streams.push(Surveyed {
                proxy: proxy.into(),
                node: (*node).into(),
                is_filter,
                is_connected,
            });
            if let Some(obstacle) = obstacle.filter(|_| is_filter) {
                survey.pending.entry(0).or_default().insert(number, obstacle);
            }
        }
        survey
    }

    fn progress(surveys: &[Survey]) -> (usize, usize, Vec<String>) {
        told(Progress::of_proxies(surveys, 0, types::SESSION, 1))
    }

    fn told(progress: Progress) -> (usize, usize, Vec<String>) {
        let Progress { enforced, of, pending } = progress;
        (enforced, of, pending.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_proxy_counts_when_all_its_workers_have_answered_wherever_they_are_connected() {
        let here = survey(&[("a/-", None), ("a/1", None), ("b/1", None)]);
        let there = survey(&[("a/2", Some("")), ("b/2", None)]);
        assert_eq!(progress(&[here.clone(), there]), (1, 2, vec!["a".into()]));
        let there = survey(&[("a/2", None), ("b/2", Some("no"))]);
        assert_eq!(progress(&[here, there]), (1, 2, vec!["b: refused: no".into()]));
    }

    #[test]
    fn a_worker_that_moved_is_believed_where_it_is_now() {
        let (left, taken) = (survey(&[("a/1", Some("gone"))]), survey(&[("a/1", None)]));
        assert_eq!(progress(&[left.clone(), taken.clone()]), (1, 1, vec![]));
        assert_eq!(progress(&[taken.clone(), left.clone()]), (1, 1, vec![]));
        assert_eq!(progress(&[left]), (0, 1, vec!["a: stream ended".into()]));
        let lagging = survey(&[("a/1", Some(""))]);
        assert_eq!(progress(&[taken.clone(), lagging.clone()]).0, 0);
        assert_eq!(progress(&[lagging, taken]).0, 0);
    }

    #[test]
    fn a_filter_that_is_connected_nowhere_is_missed_by_number() {
        // As after a control plane was killed, and with it what it knew: two of three are back elsewhere.
        let back = survey(&[("a/-", None), ("a/1", None), ("a/2", None)]);
        let all = |survey: &Survey| told(Progress::of_proxies([survey], 0, types::SESSION, 3));
        assert_eq!(all(&back), (0, 1, vec!["a: only 2 of 3 filters are connected".into()]));
        let whole = survey(&[("a/1", None), ("a/2", None), ("a/3", None)]);
        assert_eq!(all(&whole), (1, 1, vec![]));
        let restarted = survey(&[("a/1", None), ("a/2", None), ("a/3", Some("gone")), ("a/4", Some("no"))]);
        assert_eq!(all(&restarted).2, ["a: stream ended"], "what is known says more");
    }

    #[test]
    fn a_proxy_without_a_filter_enforces_nothing_yet() {
        let envoy = survey(&[("a/-", None)]);
        assert_eq!(progress(&[envoy]), (0, 1, vec!["a: no filter is connected".into()]));
        assert_eq!(progress(&[]), (0, 0, vec![]));
    }

    #[test]
    fn filters_that_are_missing_count_among_the_streams() {
        let back = survey(&[("a/-", None), ("a/1", None)]);
        let of_streams = |survey, type_url| told(Progress::of_streams(survey, 0, type_url, 3));
        let missing = "a: only 1 of 3 filters are connected".to_string();
        assert_eq!(of_streams(&back, types::SESSION), (1, 3, vec![missing.clone(), missing]));
        assert_eq!(of_streams(&back, types::EXTENSION), (1, 1, vec![]));
        assert_eq!(of_streams(&Survey::default(), types::SESSION), (0, 0, vec![]));
    }

    #[test]
    fn a_configuration_is_for_envoy_to_take() {
        let both = survey(&[("a/-", None), ("a/1", Some(""))]);
        let taken = Progress::of_proxies([&both], 0, types::EXTENSION, 3);
        assert_eq!((taken.enforced, taken.of), (1, 1));
        assert_eq!(Progress::of_streams(&both, 0, types::SESSION, 1).pending[0].to_string(), "a/1");
    }
}

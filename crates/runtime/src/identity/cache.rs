//! Verdicts on tokens, remembered. Pure: time is a parameter.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{AuthError, Identity};

/// How long a good verdict counts without asking again.
const GOOD: Duration = Duration::from_secs(60);
/// How long a bad one does: long enough that a flood of one bad token is one question, short enough that a token which was
/// asked for too early is soon accepted.
const BAD: Duration = Duration::from_secs(5);
/// After a question without an answer nothing is asked for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// Most verdicts of each sort that are kept. A cluster has fewer gateway pods.
const MOST: usize = 32_768;

/// SHA-256 of a token; the token itself is never kept.
pub(super) type Key = [u8; 32];

#[derive(Debug)]
struct Good {
    identity: Identity,
    checked: Instant,
    /// The token's own end.
    until: Instant,
}

/// What is known. Good and bad verdicts lie apart: a flood of bad tokens cannot displace a good one.
#[derive(Debug, Default)]
pub(super) struct Cache {
    good: BTreeMap<Key, Good>,
    bad: BTreeMap<Key, Instant>,
    /// Nothing is asked until then, and why.
    pause: Option<(Instant, String)>,
}

impl Cache {
    /// What can be answered without asking; none: ask.
    pub(super) fn answer(&self, key: &Key, now: Instant) -> Option<Result<Identity, AuthError>> {
        if self.bad.get(key).is_some_and(|since| now < *since + BAD) {
            return Some(Err(AuthError::Unknown));
        }
        if let Some(good) = self.good.get(key).filter(|good| now < good.checked + GOOD) {
            return Some(Ok(good.identity.clone()));
        }
        let (_, why) = self.pause.as_ref().filter(|(end, _)| now < *end)?;
        Some(self.last_good(key, now).ok_or_else(|| AuthError::Unavailable(why.clone())))
    }

    fn last_good(&self, key: &Key, now: Instant) -> Option<Identity> {
        self.good.get(key).filter(|good| now < good.until).map(|good| good.identity.clone())
    }

    /// The token is `identity`'s, and counts for `life` from `now` on.
    pub(super) fn accepted(&mut self, key: Key, identity: Identity, life: Duration, now: Instant) {
        self.pause = None;
        self.bad.remove(&key);
        if self.good.len() >= MOST {
            self.good.retain(|_, good| now < good.until || now < good.checked + GOOD);
        }
        if self.good.len() >= MOST {
            let oldest = self.good.iter().min_by_key(|(_, good)| good.checked).map(|(key, _)| *key);
            oldest.map(|key| self.good.remove(&key));
        }
        self.good.insert(key, Good { identity, checked: now, until: now + life });
    }

    /// The token is no proxy's.
    pub(super) fn refused(&mut self, key: Key, now: Instant) {
        self.pause = None;
        self.good.remove(&key);
        if self.bad.len() >= MOST {
            self.bad.retain(|_, since| now < *since + BAD);
        }
        // What finds no room is asked about again; that costs a question, never access.
        if self.bad.len() < MOST {
            self.bad.insert(key, now);
        }
    }

    /// Nobody answered: a token that was good stays good until its own end.
    pub(super) fn unanswered(&mut self, key: &Key, why: String, now: Instant) -> Result<Identity, AuthError> {
        let result = self.last_good(key, now).ok_or_else(|| AuthError::Unavailable(why.clone()));
        self.pause = Some((now + PAUSE, why));
        result
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.good.len() + self.bad.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { proxy: "ns/pod".into(), server: Some("ns/server".into()) }
    }

    fn key(number: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn verdicts_count_for_their_time_and_a_new_one_replaces_the_old() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        assert_eq!(cache.answer(&key(1), start), None);
        cache.accepted(key(1), identity(), HOUR, start);
        assert_eq!(cache.answer(&key(1), start + GOOD - PAUSE), Some(Ok(identity())));
        assert_eq!(cache.answer(&key(1), start + GOOD), None);
        cache.refused(key(1), start + GOOD);
        assert_eq!(cache.answer(&key(1), start + GOOD), Some(Err(AuthError::Unknown)));
        assert_eq!(cache.answer(&key(1), start + GOOD + BAD), None);
        assert!(cache.unanswered(&key(1), "down".into(), start + GOOD + BAD).is_err(), "refused since");
    }

    #[test]
    fn while_nobody_answers_a_good_token_counts_until_its_end_and_others_wait() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.accepted(key(1), identity(), HOUR, start);
        let later = start + HOUR - PAUSE;
        assert_eq!(cache.unanswered(&key(1), "down".into(), later), Ok(identity()));
        assert_eq!(cache.answer(&key(1), later), Some(Ok(identity())), "without asking again at once");
        let unavailable = Some(Err(AuthError::Unavailable("down".into())));
        assert_eq!(cache.answer(&key(2), later), unavailable);
        assert_eq!(cache.answer(&key(2), later + PAUSE), None, "asked again after a pause");
        assert!(cache.unanswered(&key(1), "down".into(), start + HOUR).is_err());
    }

    #[test]
    fn a_flood_of_bad_tokens_displaces_no_good_one_and_takes_bounded_room() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.accepted(key(0), identity(), HOUR, start);
        for number in 1..=MOST + 10 {
            cache.refused(key(number), start);
        }
        assert_eq!(cache.len(), MOST + 1);
        assert_eq!(cache.answer(&key(0), start), Some(Ok(identity())));
        cache.refused(key(MOST + 20), start + BAD);
        assert_eq!(cache.len(), 2, "what is over makes room");
    }
}

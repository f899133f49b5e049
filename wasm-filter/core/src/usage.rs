//! Last uses of sessions, shared by the workers of a process, for `session.idleTimeout`.
//!
//! A worker judges idleness by what it saw itself, and looks here only before it would deny for it. Uses are shared
//! every [`SHARE_EVERY_SECONDS`], so another worker's use is known within a minute. The host never frees a key, so the
//! keys are a fixed number of slots; each holds (hash of the session, time) pairs and forgets those that are too old
//! to matter.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use sallyport_policy::{SessionEntry, Store};

use crate::host::Host;

/// How often a worker tells the others, in seconds.
pub(crate) const SHARE_EVERY_SECONDS: i64 = 20;
const SLOTS: u64 = 1024;
/// Bytes of one pair: the session's hash and a time in seconds since 1970.
const PAIR: usize = 12;

/// Tells the other workers of every session that this one saw used since `since`, in seconds since 1970. Uses older
/// than `keep` seconds are forgotten.
pub(crate) fn share(store: &Store, since: i64, now: i64, keep: u64, host: &impl Host) {
    let mut used: Vec<(u64, i64)> = store
        .all_sessions()
        .filter(|session| session.last_used() >= since)
        .map(|session| (fingerprint(session), session.last_used()))
        .collect();
    used.sort_unstable_by_key(|(hash, _)| (slot(*hash), *hash));
    let oldest = now.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX));
    for group in used.chunk_by(|(a, _), (b, _)| slot(*a) == slot(*b)) {
        merge(group, oldest, host);
    }
}

/// When any worker last saw the session used, as far as it was shared.
pub(crate) fn last_use(session: &SessionEntry, host: &impl Host) -> Option<i64> {
    let hash = fingerprint(session);
    let (pairs, _) = host.shared(&key(slot(hash)))?;
    pairs_of(&pairs).filter(|(known, _)| *known == hash).map(|(_, time)| time).max()
}

fn merge(group: &[(u64, i64)], oldest: i64, host: &impl Host) {
    let Some((first, _)) = group.first() else {
        return;
    };
    let key = key(slot(*first));
    // Another worker may write the slot in between: read again and try once more. What fails twice is shared in the
    // next round, because every later use is newer than `since`.
    for _ in 0..2 {
        let (held, token) = host.shared(&key).unwrap_or_default();
        let mut pairs: Vec<(u64, i64)> = pairs_of(&held).filter(|(_, time)| *time >= oldest).collect();
        for (hash, time) in group {
            match pairs.iter_mut().find(|(known, _)| known == hash) {
                Some((_, known)) => *known = (*known).max(*time),
                None => pairs.push((*hash, *time)),
            }
        }
        let mut bytes = Vec::with_capacity(pairs.len().saturating_mul(PAIR));
        for (hash, time) in pairs {
            bytes.extend(hash.to_le_bytes());
            bytes.extend(u32::try_from(time).unwrap_or(u32::MAX).to_le_bytes());
        }
        if host.share(&key, &bytes, token) {
            return;
        }
    }
}

fn pairs_of(bytes: &[u8]) -> impl Iterator<Item = (u64, i64)> {
    bytes.chunks_exact(PAIR).filter_map(|pair| {
        let (hash, time) = pair.split_first_chunk::<8>()?;
        Some((u64::from_le_bytes(*hash), i64::from(u32::from_le_bytes(*time.first_chunk::<4>()?))))
    })
}

/// FNV-1a: the same in every worker, whose stores hash with seeds of their own.
fn fingerprint(session: &SessionEntry) -> u64 {
    let parts = [session.namespace().as_bytes(), b"/", session.name().as_bytes()];
    parts.into_iter().flatten().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn slot(hash: u64) -> u64 {
    hash % SLOTS
}

fn key(slot: u64) -> String {
    format!("sallyport.use.{slot}")
}

//! Sessions by `namespace/name`, small: one allocation and 64 bytes beside the identifiers.

use alloc::boxed::Box;
use alloc::string::String;
use core::cell::Cell;
use core::fmt;
use core::hash::{BuildHasher, Hasher};

use hashbrown::{DefaultHashBuilder, HashTable};

use super::ServerKey;
use crate::{Identity, Session, Trust};

/// The identifiers of a session are longer than 64 KiB together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentifiersTooLong;

impl fmt::Display for IdentifiersTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("identifiers of the session are longer than 64 KiB together")
    }
}

impl core::error::Error for IdentifiersTooLong {}

/// A session as the store keeps it.
#[derive(Debug)]
pub struct SessionEntry {
    /// Namespace, name, human, agent, team, policy version, one after the other.
    text: Box<str>,
    /// Where the first five of them end.
    ends: [u16; 5],
    server: ServerKey,
    consented_trust: Trust,
    revoked: bool,
    version: u64,
    /// Times are seconds since 1970 in 32 bits, which last until 2106; `u32::MAX`: never.
    expires_at: u32,
    /// When not told: when the proxy first learned of it.
    issued_at: u32,
    last_used: Cell<u32>,
}

impl SessionEntry {
    fn new(
        session: &Session,
        version: u64,
        server: ServerKey,
        learned: u32,
    ) -> Result<Self, IdentifiersTooLong> {
        let parts = [
            &session.id.namespace,
            &session.id.name,
            &session.subject.human_id,
            &session.subject.agent_id,
            &session.subject.team_id,
        ];
        let mut text = String::new();
        let mut ends = [0_u16; 5];
        for (part, end) in parts.into_iter().zip(&mut ends) {
            text.push_str(part);
            *end = u16::try_from(text.len()).map_err(|_| IdentifiersTooLong)?;
        }
        text.push_str(&session.policy_version);
        Ok(Self {
            text: text.into_boxed_str(),
            ends,
            server,
            consented_trust: session.consented_trust,
            revoked: session.revoked,
            version,
            expires_at: session.expires_at.map_or(u32::MAX, seconds),
            issued_at: session.issued_at.map_or(learned, seconds),
            last_used: Cell::new(learned),
        })
    }

    fn part(&self, from: u16, to: u16) -> &str {
        self.text.get(usize::from(from)..usize::from(to)).unwrap_or_default()
    }

    /// Namespace of the object.
    pub fn namespace(&self) -> &str {
        let [end, ..] = self.ends;
        self.part(0, end)
    }

    /// Name of the object: the id on the wire.
    pub fn name(&self) -> &str {
        let [from, to, ..] = self.ends;
        self.part(from, to)
    }

    /// Version of the policy the user consented to; empty: any.
    pub fn policy_version(&self) -> &str {
        let [.., end] = self.ends;
        self.text.get(usize::from(end)..).unwrap_or_default()
    }

    /// Trust the user consented to.
    pub fn consented_trust(&self) -> Trust {
        self.consented_trust
    }

    /// When this proxy last allowed a call of it, or first learned of it; seconds since 1970.
    pub fn last_used(&self) -> i64 {
        i64::from(self.last_used.get())
    }

    /// The version it was stored with.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Records a use at `now`, in seconds since 1970; an earlier one changes nothing.
    pub fn touch(&self, now: i64) {
        self.last_used.set(self.last_used.get().max(seconds(now)));
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked
    }

    pub(crate) fn is_expired(&self, now: i64) -> bool {
        self.expires_at != u32::MAX && now >= i64::from(self.expires_at)
    }

    pub(crate) fn is_older_than(&self, seconds: u64, now: i64) -> bool {
        exceeds(self.issued_at, seconds, now)
    }

    pub(crate) fn is_idle_for(&self, seconds: u64, now: i64) -> bool {
        exceeds(self.last_used.get().max(self.issued_at), seconds, now)
    }

    /// Whether this session is for `server` and for the caller: every non-empty field of its subject equals.
    pub(crate) fn belongs_to(&self, server: ServerKey, identity: &Identity<'_>) -> bool {
        let [_, name, human, agent, team] = self.ends;
        let fits = |wanted: &str, given: &str| wanted.is_empty() || wanted == given;
        self.server == server
            && name != team
            && fits(self.part(name, human), identity.human_id)
            && fits(self.part(human, agent), identity.agent_id)
            && fits(self.part(agent, team), identity.team_id)
    }
}

fn exceeds(since: u32, seconds: u64, now: i64) -> bool {
    now.saturating_sub(i64::from(since)) > i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// A time in the entry's form; before 1970 is 1970, beyond 2106 is never.
fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    table: HashTable<SessionEntry>,
}

impl Sessions {
    pub(super) fn upsert(
        &mut self,
        hasher: &DefaultHashBuilder,
        session: &Session,
        version: u64,
        server: ServerKey,
        now: i64,
    ) -> Result<(), IdentifiersTooLong> {
        let (namespace, name) = (&session.id.namespace, &session.id.name);
        let hash = hash(hasher, namespace, name);
        let entry = SessionEntry::new(session, version, server, seconds(now))?;
        match self.table.find_mut(hash, |e| e.namespace() == namespace && e.name() == name) {
            Some(known) => {
                // A change of the object is neither a use nor a new beginning of it.
                let issued_at = session.issued_at.map_or(known.issued_at, seconds);
                *known = SessionEntry { last_used: known.last_used.clone(), issued_at, ..entry };
            }
            None => {
                self.table.insert_unique(hash, entry, |e| self::hash(hasher, e.namespace(), e.name()));
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, hasher: &DefaultHashBuilder, namespace: &str, name: &str) -> bool {
        let hash = hash(hasher, namespace, name);
        match self.table.find_entry(hash, |e| e.namespace() == namespace && e.name() == name) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn find(
        &self,
        hasher: &DefaultHashBuilder,
        namespace: &str,
        name: &str,
    ) -> Option<&SessionEntry> {
        self.table.find(hash(hasher, namespace, name), |e| e.namespace() == namespace && e.name() == name)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &SessionEntry> {
        self.table.iter()
    }
}

fn hash(hasher: &DefaultHashBuilder, namespace: &str, name: &str) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(namespace.as_bytes());
    state.write_u8(b'/');
    state.write(name.as_bytes());
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_64_bytes_or_less() {
        assert!(size_of::<SessionEntry>() <= 64, "{}", size_of::<SessionEntry>());
    }
}

//! Grants by name, and by the exact subject they are for.
//!
//! A caller has at most three identifiers, so at most seven subjects can match it (each non-empty choice of them).
//! Each is one look-up, whatever the number of grants.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::hash::{BuildHasher, Hasher};

use hashbrown::{DefaultHashBuilder, HashMap};

use super::ServerKey;
use crate::{Grant, Identity, Subject, ToolRule};

/// A grant as the store keeps it.
#[derive(Debug)]
pub struct GrantEntry {
    grant: Grant,
    version: u64,
    server: ServerKey,
}

impl GrantEntry {
    /// The grant; its tool rules are sorted by name.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The version it was stored with.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The rule for a tool.
    pub(crate) fn rule(&self, tool: &str) -> Option<&ToolRule> {
        let rules = &self.grant.tool_rules;
        rules.binary_search_by(|rule| rule.name.as_str().cmp(tool)).ok().and_then(|index| rules.get(index))
    }
}

/// Which of human, agent and team a subject names, one bit each.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mask(u8);

impl Mask {
    const ALL: [Self; 7] = [Self(1), Self(2), Self(3), Self(4), Self(5), Self(6), Self(7)];

    fn of(subject: &Subject) -> Self {
        let bit = |part: &str, bit: u8| if part.is_empty() { 0 } else { bit };
        Self(bit(&subject.human_id, 1) | bit(&subject.agent_id, 2) | bit(&subject.team_id, 4))
    }

    /// The identifiers of `identity` that the mask names; none: one of them is not known.
    fn select<'a>(self, identity: &Identity<'a>) -> Option<[&'a str; 3]> {
        let pick = |part: &'a str, bit: u8| match (self.0 & bit != 0, part.is_empty()) {
            (true, true) => None,
            (true, false) => Some(part),
            (false, _) => Some(""),
        };
        Some([pick(identity.human_id, 1)?, pick(identity.agent_id, 2)?, pick(identity.team_id, 4)?])
    }

    fn bit(self) -> u8 {
        1_u8.checked_shl(u32::from(self.0)).unwrap_or(0)
    }
}

/// The two indexes. Slots of removed grants are used again.
#[derive(Debug, Default)]
pub(super) struct Grants {
    slots: Vec<Option<GrantEntry>>,
    free: Vec<usize>,
    by_name: HashMap<alloc::string::String, usize>,
    /// Slots by a hash of server and subject; what collides is told apart by [`subject_is`].
    by_subject: HashMap<u64, Vec<usize>>,
    /// Bit `m` set: some grant of the server names exactly the identifiers of mask `m`. Never cleared: it only saves
    /// look-ups.
    masks: HashMap<ServerKey, u8>,
}

impl Grants {
    pub(super) fn upsert(
        &mut self,
        hasher: &DefaultHashBuilder,
        mut grant: Grant,
        version: u64,
        server: ServerKey,
    ) {
        let name = grant.id.to_string();
        self.remove(hasher, &name);
        // Of several rules for one tool the strictest counts.
        grant.tool_rules.sort_by(|a, b| {
            a.name.cmp(&b.name).then(b.deny.cmp(&a.deny)).then(b.required_trust.cmp(&a.required_trust))
        });
        grant.tool_rules.dedup_by(|later, first| later.name == first.name);
        let mask = Mask::of(&grant.subject);
        *self.masks.entry(server).or_default() |= mask.bit();
        let hash = subject_hash(hasher, server, subject_parts(&grant.subject));
        let entry = Some(GrantEntry { grant, version, server });
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.slots.get_mut(slot) {
                    *place = entry;
                }
                slot
            }
            None => {
                self.slots.push(entry);
                self.slots.len().saturating_sub(1)
            }
        };
        self.by_name.insert(name, slot);
        self.by_subject.entry(hash).or_default().push(slot);
    }

    pub(super) fn remove(&mut self, hasher: &DefaultHashBuilder, name: &str) -> bool {
        let Some(slot) = self.by_name.remove(name) else {
            return false;
        };
        if let Some(entry) = self.slots.get_mut(slot).and_then(Option::take) {
            let hash = subject_hash(hasher, entry.server, subject_parts(&entry.grant.subject));
            if let Some(slots) = self.by_subject.get_mut(&hash) {
                slots.retain(|s| *s != slot);
                if slots.is_empty() {
                    self.by_subject.remove(&hash);
                }
            }
        }
        self.free.push(slot);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &GrantEntry> {
        self.slots.iter().flatten()
    }

    /// The grants of `server` whose every non-empty subject field equals the caller's.
    pub(super) fn matching<'a, 'c>(
        &'a self,
        hasher: &'a DefaultHashBuilder,
        server: ServerKey,
        identity: Identity<'c>,
    ) -> impl Iterator<Item = &'a GrantEntry> + use<'a, 'c> {
        let present = self.masks.get(&server).copied().unwrap_or(0);
        Mask::ALL
            .into_iter()
            .filter(move |mask| present & mask.bit() != 0)
            .filter_map(move |mask| mask.select(&identity))
            .flat_map(move |parts| {
                let slots = self.by_subject.get(&subject_hash(hasher, server, parts));
                slots
                    .into_iter()
                    .flatten()
                    .filter_map(|slot| self.slots.get(*slot).and_then(Option::as_ref))
                    .filter(move |entry| {
                        entry.server == server && subject_parts(&entry.grant.subject) == parts
                    })
            })
    }
}

fn subject_parts(subject: &Subject) -> [&str; 3] {
    [&subject.human_id, &subject.agent_id, &subject.team_id]
}

fn subject_hash(hasher: &DefaultHashBuilder, server: ServerKey, parts: [&str; 3]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u32(server.0);
    for part in parts {
        state.write(part.as_bytes());
        state.write_u8(0xff);
    }
    state.finish()
}

//! Whose an MCP session is. A legacy server knows a session by the id in `Mcp-Session-Id` alone, so that whoever learns
//! it could speak in it, answer the server's questions in it, or take over its stream (CVE-2026-52869, CVE-2026-33946).
//!
//! The first identified caller that uses an id owns it in this proxy; nobody else may. What one worker learns all workers
//! of the process look up. The host never frees a key, so the keys are a fixed number of slots, and each slot forgets its
//! oldest owners first.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use hashbrown::HashMap;
use sallyport_policy::{Identity, ObjectId};

use crate::host::Host;

const SLOTS: u64 = 1024;
/// Owners that a slot holds: 65,536 sessions of a proxy in all.
const OWNERS_PER_SLOT: usize = 64;
/// Bytes of one owner: hash of the session, hash of its owner.
const OWNER_BYTES: usize = 16;
/// Sessions that a worker remembers by itself.
const REMEMBERED: usize = 8192;

/// What this worker knows of the owners of sessions.
#[derive(Debug, Default)]
pub(crate) struct McpSessions {
    owners: HashMap<u64, u64>,
}

impl McpSessions {
    /// Whether the MCP session `id` of `server` is another's than the caller's. One that nobody owns becomes the
    /// caller's, if it says who it is.
    pub(crate) fn is_of_another(
        &mut self,
        server: &ObjectId,
        id: &str,
        caller: &Identity<'_>,
        host: &impl Host,
    ) -> bool {
        let session = fingerprint(&[&server.namespace, &server.name, id]);
        let caller = if caller.is_anonymous() {
            None
        } else {
            Some(fingerprint(&[caller.human_id, caller.agent_id, caller.team_id]))
        };
        let owner = match self.owners.get(&session) {
            Some(owner) => Some(*owner),
            None => learn(session, caller, host),
        };
        if let Some(owner) = owner {
            if self.owners.len() >= REMEMBERED {
                self.owners.clear();
            }
            self.owners.insert(session, owner);
        }
        owner.is_some_and(|owner| Some(owner) != caller)
    }
}

/// The owner that any worker knows, or else the caller, which all are told of.
fn learn(session: u64, caller: Option<u64>, host: &impl Host) -> Option<u64> {
    let key = slot(session);
    // Another worker may write the slot in between: then read again.
    for _ in 0..8 {
        let (held, token) = host.shared(&key).unwrap_or_default();
        if let Some((_, owner)) = owners_of(&held).find(|(known, _)| *known == session) {
            return Some(owner);
        }
        let caller = caller?;
        let owners: Vec<(u64, u64)> = owners_of(&held).collect();
        let surplus = owners.len().saturating_add(1).saturating_sub(OWNERS_PER_SLOT);
        let kept = owners.into_iter().skip(surplus).chain([(session, caller)]);
        let bytes: Vec<u8> = kept
            .flat_map(|(session, owner)| [session.to_le_bytes(), owner.to_le_bytes()])
            .flatten()
            .collect();
        if host.share(&key, &bytes, token) {
            return Some(caller);
        }
    }
    // Eight workers were faster in a row: this worker knows the owner by itself until it forgets.
    caller
}

fn owners_of(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    bytes.chunks_exact(OWNER_BYTES).filter_map(|pair| {
        let (session, owner) = pair.split_first_chunk::<8>()?;
        Some((u64::from_le_bytes(*session), u64::from_le_bytes(*owner.first_chunk::<8>()?)))
    })
}

/// The same in every worker; each part is told apart from the next by its length.
fn fingerprint(parts: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&part.len().to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn slot(session: u64) -> String {
    format!("sallyport.mcp.{}", session % SLOTS)
}

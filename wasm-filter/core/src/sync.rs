//! The filter as a delta-xDS client: grants and sessions in, acknowledgements out.
//!
//! ```text
//!   closed ──tick, backoff over──▶ open ──responses: apply, ACK or NACK──▶ open, Baseline fits ──▶ complete
//!      ▲                                                                        │
//!      └──────────── stream ends; what is held stays in force ◀────────────────┘
//! ```
//!
//! Guarantees: a response is applied whole or not at all; what does not decode is refused and the state before it
//! stays; a baseline whose counts differ from what is held is answered by forgetting everything and starting anew.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use prost::Message;
use sallyport_policy::{Grant, Session, Store};
use sallyport_policy_proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource, Status,
};
use sallyport_policy_proto::resource::{BASELINE_TYPE, GRANT_TYPE, SESSION_TYPE};
use sallyport_policy_proto::{v1, wire};

/// First and longest pause between attempts to connect, in nanoseconds.
const BACKOFF_NANOS: (u64, u64) = (100_000_000, 5_000_000_000);
/// gRPC code INVALID_ARGUMENT, in a NACK.
const INVALID_ARGUMENT: i32 = 3;

/// What became of a message from the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Applied; send this.
    Applied {
        /// The acknowledgement.
        ack: Vec<u8>,
        /// Grants or sessions changed.
        changed: bool,
    },
    /// Refused; send this, and log why.
    Refused {
        /// The refusal.
        nack: Vec<u8>,
        /// What was wrong with which resource.
        reason: String,
    },
    /// Not a message of this protocol: close the stream; what is held stays in force.
    Unreadable,
    /// What is held and what the control plane holds have parted: close the stream; the store is empty now.
    Diverged,
}

/// State of the stream.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    stream: Option<u32>,
    complete: bool,
    failures: u32,
    not_before: u64,
}

impl Sync {
    /// Whether every grant and session has been learned once.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The open stream.
    pub(crate) fn stream(&self) -> Option<u32> {
        self.stream
    }

    /// Whether it is time to connect.
    pub(crate) fn wants_stream(&self, now_nanos: u64) -> bool {
        self.stream.is_none() && now_nanos >= self.not_before
    }

    /// A stream was opened: the messages to send on it first. They name what is held, so that only what changed in
    /// between is sent.
    pub(crate) fn opened(&mut self, stream: u32, node: &str, store: &Store) -> Vec<Vec<u8>> {
        self.stream = Some(stream);
        let grants =
            store.all_grants().map(|g| (g.grant().id.to_string(), version_text(g.version()))).collect();
        let sessions = store
            .all_sessions()
            .map(|s| (format!("{}/{}", s.namespace(), s.name()), version_text(s.version())))
            .collect();
        let node = wire::introduction(node);
        vec![
            subscription(GRANT_TYPE, Some(node), grants),
            subscription(SESSION_TYPE, None, sessions),
            subscription(BASELINE_TYPE, None, BTreeMap::new()),
        ]
    }

    /// The stream could not be opened, or ended. What is held stays in force.
    pub(crate) fn closed(&mut self, now_nanos: u64) {
        self.stream = None;
        let (first, longest) = BACKOFF_NANOS;
        let pause =
            first.saturating_mul(1_u64.checked_shl(self.failures.min(16)).unwrap_or(u64::MAX)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now_nanos.saturating_add(pause);
    }

    /// The stream was ended from this side, to be opened again at once.
    pub(crate) fn restart(&mut self) {
        self.stream = None;
        self.not_before = 0;
    }

    /// A message arrived on the stream. `now` is in seconds since 1970.
    pub(crate) fn received(&mut self, message: &[u8], store: &mut Store, now: i64) -> Received {
        let Ok(response) = DeltaDiscoveryResponse::decode(message) else {
            return Received::Unreadable;
        };
        self.failures = 0;
        let nonce = response.nonce.clone();
        let type_url = response.type_url.clone();
        let applied = match type_url.as_str() {
            GRANT_TYPE => apply_grants(response, store),
            SESSION_TYPE => apply_sessions(response, store, now),
            BASELINE_TYPE => match baseline_fits(&response, store) {
                Ok(true) => {
                    self.complete = true;
                    Ok(false)
                }
                Ok(false) => {
                    store.clear_access();
                    self.complete = false;
                    return Received::Diverged;
                }
                Err(reason) => Err(reason),
            },
            other => Err(format!("type `{other}` was not subscribed to")),
        };
        match applied {
            Ok(changed) => Received::Applied { ack: acknowledgement(type_url, nonce, None), changed },
            Err(reason) => {
                let nack = acknowledgement(type_url, nonce, Some(reason.clone()));
                Received::Refused { nack, reason }
            }
        }
    }
}

fn subscription(type_url: &str, node: Option<Node>, held: BTreeMap<String, String>) -> Vec<u8> {
    DeltaDiscoveryRequest {
        node,
        type_url: type_url.to_string(),
        resource_names_subscribe: vec!["*".to_string()],
        initial_resource_versions: held,
        ..Default::default()
    }
    .encode_to_vec()
}

fn acknowledgement(type_url: String, response_nonce: String, refusal: Option<String>) -> Vec<u8> {
    let error_detail = refusal.map(|message| Status { code: INVALID_ARGUMENT, message });
    DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() }.encode_to_vec()
}

/// Versions are 16 hexadecimal digits (`resource::version`); another form is kept as 0, which is never resumed from.
fn version_number(text: &str) -> u64 {
    if text.len() == 16 { u64::from_str_radix(text, 16).unwrap_or(0) } else { 0 }
}

fn version_text(version: u64) -> String {
    format!("{version:016x}")
}

fn value(resource: &Resource) -> Result<&[u8], String> {
    resource
        .resource
        .as_ref()
        .map(|any| any.value.as_slice())
        .ok_or_else(|| format!("`{}` has no body", resource.name))
}

fn check_name(resource: &Resource, id: &sallyport_policy::ObjectId) -> Result<(), String> {
    let inside = id.to_string();
    if inside == resource.name {
        Ok(())
    } else {
        Err(format!("`{}` is named `{inside}` inside", resource.name))
    }
}

fn apply_grants(response: DeltaDiscoveryResponse, store: &mut Store) -> Result<bool, String> {
    let mut grants: Vec<(Grant, u64)> = Vec::with_capacity(response.resources.len());
    for resource in &response.resources {
        let message = v1::Grant::decode(value(resource)?).map_err(|e| format!("`{}`: {e}", resource.name))?;
        let grant = Grant::from(message);
        check_name(resource, &grant.id)?;
        grants.push((grant, version_number(&resource.version)));
    }
    let changed = !grants.is_empty() || !response.removed_resources.is_empty();
    for (grant, version) in grants {
        store.upsert_grant(grant, version);
    }
    for name in &response.removed_resources {
        store.remove_grant(name);
    }
    Ok(changed)
}

fn apply_sessions(response: DeltaDiscoveryResponse, store: &mut Store, now: i64) -> Result<bool, String> {
    let mut sessions: Vec<(Session, u64)> = Vec::with_capacity(response.resources.len());
    for resource in &response.resources {
        let message =
            v1::Session::decode(value(resource)?).map_err(|e| format!("`{}`: {e}", resource.name))?;
        let session = Session::from(message);
        check_name(resource, &session.id)?;
        if session.identifier_bytes() > usize::from(u16::MAX) {
            return Err(format!("`{}`: its identifiers are longer than 64 KiB together", resource.name));
        }
        sessions.push((session, version_number(&resource.version)));
    }
    let changed = !sessions.is_empty() || !response.removed_resources.is_empty();
    for (session, version) in sessions {
        store.upsert_session(&session, version, now).map_err(|e| e.to_string())?;
    }
    for name in &response.removed_resources {
        store.remove_session(name);
    }
    Ok(changed)
}

fn baseline_fits(response: &DeltaDiscoveryResponse, store: &Store) -> Result<bool, String> {
    let Some(resource) = response.resources.first() else {
        return Ok(true);
    };
    let baseline = v1::Baseline::decode(value(resource)?).map_err(|e| format!("baseline: {e}"))?;
    let held = (u64::try_from(store.grants()), u64::try_from(store.sessions()));
    Ok(held == (Ok(baseline.grants), Ok(baseline.sessions)))
}

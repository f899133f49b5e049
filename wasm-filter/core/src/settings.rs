//! The filter's configuration, as ECDS delivers it.

use alloc::string::String;
use alloc::vec::Vec;

use core::fmt;

use prost::{DecodeError, Message};
use sallyport_mcp_wire::Pointers;
use sallyport_policy::{AuditArguments, ServerPolicy};
use sallyport_policy_proto::{servers, v1, wire};

use crate::digest::DigestKey;
use crate::host::Node;

const DEFAULT_RING_BYTES: u32 = 4 << 20;
const DEFAULT_TICK_MILLIS: u32 = 50;
/// A shorter tick would cost more than it gains.
const LEAST_TICK_MILLIS: u32 = 5;

/// What concerns the worker as a whole.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    /// Digest of the configuration; empty: none was received yet.
    pub(crate) revision: String,
    /// Cluster of the control plane; empty: no grants and sessions will come.
    pub(crate) xds_cluster: String,
    /// Cluster of the audit ingest; empty: nothing is recorded.
    pub(crate) audit_cluster: String,
    /// Name of this proxy.
    pub(crate) proxy: String,
    /// The part of a rollout that it belongs to; empty: none.
    pub(crate) track: String,
    /// Key of the argument digests.
    pub(crate) digest: Option<DigestKey>,
    /// What the record must not keep of arguments, by the index of the server; none: there are no such rules, or they cannot be
    /// read.
    pub(crate) redact: Vec<Option<Pointers>>,
    /// Capacity of the audit ring.
    pub(crate) ring_bytes: usize,
    /// Period of the tick.
    pub(crate) tick_millis: u32,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFault {
    /// It is not a `sallyport.policy.v1.FilterConfig`.
    Unreadable(DecodeError),
    /// It says something that a filter of this version would overlook.
    Newer {
        /// The wire version that it needs.
        needs: u32,
    },
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "it cannot be read: {error}"),
            Self::Newer { needs } => write!(
                f,
                "it needs wire version {needs}, and this filter has {}; use the gateway image of the control plane's version",
                wire::VERSION
            ),
        }
    }
}

impl core::error::Error for ConfigFault {}

/// Reads a configuration for the proxy `node`; no bytes at all are the configuration that denies everything.
///
/// # Errors
/// It cannot be read, or is for newer filters.
pub(crate) fn read(bytes: &[u8], node: Node) -> Result<(Settings, Vec<ServerPolicy>), ConfigFault> {
    let mut config = v1::FilterConfig::decode(bytes).map_err(ConfigFault::Unreadable)?;
    if config.needs > wire::VERSION {
        return Err(ConfigFault::Newer { needs: config.needs });
    }
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    let mut settings = Settings {
        revision: core::mem::take(&mut config.revision),
        xds_cluster: core::mem::take(&mut config.xds_cluster),
        audit_cluster: core::mem::take(&mut config.audit_cluster),
        track: track(&node.cluster).into(),
        proxy: Some(core::mem::take(&mut config.proxy)).filter(|name| !name.is_empty()).unwrap_or(node.id),
        digest: DigestKey::new(&config.digest_key),
        redact: Vec::new(),
        ring_bytes: usize::try_from(or(config.audit_ring_bytes, DEFAULT_RING_BYTES)).unwrap_or(usize::MAX),
        tick_millis: or(config.tick_millis, DEFAULT_TICK_MILLIS).max(LEAST_TICK_MILLIS),
    };
    let servers = servers(config);
    settings.redact = servers.iter().map(redact).collect();
    Ok((settings, servers))
}

fn redact(server: &ServerPolicy) -> Option<Pointers> {
    let wanted = server.audit_arguments == AuditArguments::Redacted;
    wanted.then(|| Pointers::parse(&server.audit_redact)).flatten()
}

/// The track in `server:track`, which is what a gateway beside a server is told as its cluster.
fn track(cluster: &str) -> &str {
    match cluster.rsplit_once(':') {
        Some((_, track @ ("stable" | "canary"))) => track,
        Some(_) | None => "",
    }
}

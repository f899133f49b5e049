//! The filter's configuration, as ECDS delivers it.

use alloc::string::String;
use alloc::vec::Vec;

use prost::{DecodeError, Message};
use sallyport_policy::ServerPolicy;
use sallyport_policy_proto::{servers, v1};

use crate::digest::DigestKey;

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
    /// Key of the argument digests.
    pub(crate) digest: Option<DigestKey>,
    /// Capacity of the audit ring.
    pub(crate) ring_bytes: usize,
    /// Period of the tick.
    pub(crate) tick_millis: u32,
}

/// Reads a configuration; no bytes at all are the configuration that denies everything.
///
/// # Errors
/// It is not a `sallyport.policy.v1.FilterConfig`.
pub(crate) fn read(bytes: &[u8]) -> Result<(Settings, Vec<ServerPolicy>), DecodeError> {
    let mut config = v1::FilterConfig::decode(bytes)?;
    let or = |given: u32, default: u32| if given == 0 { default } else { given };
    let settings = Settings {
        revision: core::mem::take(&mut config.revision),
        xds_cluster: core::mem::take(&mut config.xds_cluster),
        audit_cluster: core::mem::take(&mut config.audit_cluster),
        proxy: core::mem::take(&mut config.proxy),
        digest: DigestKey::new(&config.digest_key),
        ring_bytes: usize::try_from(or(config.audit_ring_bytes, DEFAULT_RING_BYTES)).unwrap_or(usize::MAX),
        tick_millis: or(config.tick_millis, DEFAULT_TICK_MILLIS).max(LEAST_TICK_MILLIS),
    };
    Ok((settings, servers(config)))
}

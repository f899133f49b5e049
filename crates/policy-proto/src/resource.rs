//! Names, versions and type URLs of the resources on the filter's own xDS stream.

use alloc::string::String;
use alloc::vec::Vec;

use prost::Message;
use sallyport_policy::{Grant, ServerPolicy, Session};
use sha2::{Digest, Sha256};

use crate::v1;

/// Type URL of [`v1::Grant`].
pub const GRANT_TYPE: &str = "type.googleapis.com/sallyport.policy.v1.Grant";
/// Type URL of [`v1::Session`].
pub const SESSION_TYPE: &str = "type.googleapis.com/sallyport.policy.v1.Session";
/// Type URL of [`v1::Baseline`].
pub const BASELINE_TYPE: &str = "type.googleapis.com/sallyport.policy.v1.Baseline";
/// Name of the one baseline resource of a stream.
pub const BASELINE_NAME: &str = "baseline";
/// Path of the gRPC method that carries them.
pub const DELTA_SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
/// Method of [`DELTA_SERVICE`].
pub const DELTA_METHOD: &str = "DeltaAggregatedResources";

/// Version of a resource: the first 8 bytes of its encoding's SHA-256, in hexadecimal. The same content has the same
/// version wherever it is computed, so a writer can ask whether exactly its change is enforced.
pub fn version(encoded: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(encoded);
    digest
        .iter()
        .take(8)
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|nibble| HEX.get(usize::from(nibble)))
        .map(|digit| char::from(*digit))
        .collect()
}

/// Encoding of a server's policy and its version.
pub fn server(server: &ServerPolicy) -> (Vec<u8>, String) {
    encoded(&v1::Server::from(server))
}

/// Encoding of a grant and its version.
pub fn grant(grant: &Grant) -> (Vec<u8>, String) {
    encoded(&v1::Grant::from(grant))
}

/// Encoding of a session and its version.
pub fn session(session: &Session) -> (Vec<u8>, String) {
    encoded(&v1::Session::from(session))
}

fn encoded(message: &impl Message) -> (Vec<u8>, String) {
    let bytes = message.encode_to_vec();
    let version = version(&bytes);
    (bytes, version)
}

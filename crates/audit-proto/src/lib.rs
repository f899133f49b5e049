//! Protobuf of audit events, their sequence and hash chain; the `.proto` file describes the wire.
//!
//! The filter writes an event in pieces with [`writer`] and hashes its final bytes with [`chain`]; whoever receives it
//! checks with [`chain::Verifier`] that nothing is missing, altered or told twice, and reads it in place with [`view`].
#![cfg_attr(not(feature = "grpc"), no_std)]
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod chain;
pub mod event_id;
pub mod hex;
pub mod view;
pub mod writer;

#[expect(missing_docs, reason = "generated; the .proto file documents it")]
#[cfg_attr(feature = "grpc", expect(clippy::too_many_lines, reason = "generated"))]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/sallyport.audit.v1.rs"));
}

/// The messages, and with feature `grpc` the service.
pub mod v1 {
    pub use super::generated::*;
}

/// The service's description for gRPC reflection, an encoded `google.protobuf.FileDescriptorSet`.
#[cfg(feature = "grpc")]
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

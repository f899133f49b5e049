//! Protobuf of what the control plane tells a filter, and its conversion to the types of `sallyport-policy`.
//!
//! The filter's configuration travels as ECDS bytes ([`v1::FilterConfig`]); each grant and each session is one xDS
//! resource of its own, so that a revocation among many costs one small message. [`discovery`] is the part of Envoy's
//! delta protocol that the filter speaks as a client.
#![no_std]
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

extern crate alloc;

mod convert;
pub mod resource;
pub mod wire;

#[expect(missing_docs, reason = "generated; the .proto file documents it")]
#[expect(clippy::doc_markdown, reason = "generated")]
mod generated {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/sallyport.policy.v1.rs"));
    }
    pub mod discovery {
        include!(concat!(env!("OUT_DIR"), "/envoy.service.discovery.v3.rs"));
    }
}

pub use convert::servers;
pub use generated::{discovery, v1};

//! Audit events on Kafka: what a record holds, topics, the producer, the settings of clients.
//!
//! Records follow the CloudEvents 1.0 Kafka binding in binary mode: attributes are headers, and the value is the event, as
//! protobuf or as the original's JSON envelope. Either holds the exact bytes that the chain hashes, so nothing is lost on
//! the way: [`Encoder`] and [`decode`] are inverse.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

mod admin;
mod checkpoint;
mod decode;
mod encode;
mod failure;
mod flight;
mod producer;
mod record;
mod settings;
mod trouble;

pub use admin::{NewTopics, TopicMaker, TopicsError};
pub use checkpoint::{encode_checkpoint, stored_checkpoint};
pub use decode::{DecodeError, decode, read};
pub use encode::Encoder;
pub use failure::{Class, classify};
pub use flight::{Failed, Flight};
pub use producer::{Fatal, Observed, PLACE, Producer, REASON, TOPIC, log};
pub use record::{Entry, Format, Record, Told, Topics, chain_key};
pub use settings::{MAX_RECORD_BYTES, Settings, SettingsError};
pub use trouble::Trouble;

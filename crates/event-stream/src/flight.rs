//! Records that are under way together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::Notify;

use crate::decode::{DecodeError, decode};
use crate::failure::{Class, classify, is_topic_missing};
use crate::record::Entry;

/// A record that did not arrive.
#[derive(Debug)]
pub struct Failed {
    pub(crate) message: OwnedMessage,
    code: RDKafkaErrorCode,
}

impl Failed {
    pub(crate) fn new(message: OwnedMessage, code: RDKafkaErrorCode) -> Self {
        Self { message, code }
    }

    /// What is to be done.
    pub fn class(&self) -> Class {
        classify(self.code)
    }

    /// In words, without anything of the record.
    pub fn reason(&self) -> String {
        self.code.to_string()
    }

    /// Which one it is: its key and its `ce_id`.
    pub fn name(&self) -> String {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        format!("{} {}", text(self.message.key()), text(self.header("ce_id")))
    }

    /// What it tells.
    ///
    /// # Errors
    /// It is no record of an event.
    pub fn entry(&self) -> Result<Entry, DecodeError> {
        decode(|| self.header("content-type"), self.message.payload().unwrap_or_default())
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.message.headers()?.iter().find(|header| header.key == name)?.value
    }

    /// Whether its topic is missing.
    pub fn lacks_topic(&self) -> bool {
        is_topic_missing(self.code)
    }
}

/// Records that are under way together: counted down by the client's thread, awaited by whoever sent them.
#[derive(Debug, Default)]
pub struct Flight {
    outstanding: AtomicUsize,
    failed: Mutex<Vec<Failed>>,
    landed: Notify,
}

impl Flight {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn depart(&self) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn arrive(&self) {
        // Releases what was noted of failures to whoever sees the last arrival.
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.landed.notify_one();
        }
    }

    pub(crate) fn fail(&self, failed: Failed) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
        self.arrive();
    }

    /// Waits until there is an answer for each. Call it when all are sent; it may be given up and called again.
    pub async fn land(&self) {
        while self.outstanding.load(Ordering::Acquire) > 0 {
            self.landed.notified().await;
        }
    }

    /// Takes what did not arrive, in the order in which it failed.
    pub fn take_failed(&self) -> Vec<Failed> {
        std::mem::take(&mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

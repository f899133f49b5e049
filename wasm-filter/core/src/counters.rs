//! Verdict counters: kept here, flushed to the proxy's statistics on the tick, so that a request pays an addition.
//!
//! Labels are bounded: servers of the configuration, method classes and reasons. They travel in the counter's name,
//! `sallyport_verdicts;server=<namespace/name>;class=<class>;decision=<decision>;reason=<reason>`, from which the
//! proxy's `stats_tags` take them apart.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::host::Host;

/// Family of methods, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// `tools/call`.
    Tool,
    /// Prompts, and completion of their arguments.
    Prompt,
    /// Resources, subscriptions, and completion of their URIs.
    Resource,
    /// Tasks.
    Task,
    /// Lists.
    List,
    /// Connection matters.
    Control,
    /// Notifications.
    Notification,
    /// Streams and the end of a session: no JSON-RPC message.
    Stream,
    /// A method that is not known.
    Unknown,
    /// No call could be read.
    Malformed,
}

impl Class {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Task => "task",
            Self::List => "list",
            Self::Control => "control",
            Self::Notification => "notification",
            Self::Stream => "stream",
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
        }
    }
}

/// What is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Label {
    /// Index in the configuration; none: no server.
    server: Option<usize>,
    class: Class,
    allowed: bool,
    reason: &'static str,
}

/// Counts since the last flush.
#[derive(Debug, Default)]
pub struct Counters {
    verdicts: HashMap<Label, u64>,
    others: HashMap<&'static str, u64>,
    names: Vec<String>,
}

impl Counters {
    /// New servers, by index; what was counted for the old ones must have been flushed.
    pub fn set_servers(&mut self, names: Vec<String>) {
        self.names = names;
    }

    /// One verdict.
    pub fn verdict(&mut self, server: Option<usize>, class: Class, allowed: bool, reason: &'static str) {
        let count = self.verdicts.entry(Label { server, class, allowed, reason }).or_default();
        *count = count.saturating_add(1);
    }

    /// One more of something that has no labels.
    pub fn add(&mut self, name: &'static str, count: u64) {
        let sum = self.others.entry(name).or_default();
        *sum = sum.saturating_add(count);
    }

    /// Hands everything to the host. What it refuses stays for the next time.
    pub fn flush(&mut self, host: &impl Host) {
        let names = &self.names;
        self.verdicts.retain(|label, count| host.count(&verdict_name(names, label), *count).is_err());
        self.others.retain(|name, count| host.count(name, *count).is_err());
    }
}

fn verdict_name(names: &[String], label: &Label) -> String {
    let server =
        label.server.and_then(|index| names.get(index)).map_or_else(|| "none".to_string(), Clone::clone);
    let decision = if label.allowed { "allow" } else { "deny" };
    let (class, reason) = (label.class.as_str(), label.reason);
    format!("sallyport_verdicts;server={server};class={class};decision={decision};reason={reason}")
}

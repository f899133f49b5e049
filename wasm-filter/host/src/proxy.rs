//! The proxy as the module sees it: what it may read, and what it has done.

use std::collections::{BTreeMap, BTreeSet};

use crate::profile::Profile;

/// An answer that the module gave in place of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u32,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// A gRPC stream that the module opened.
#[derive(Clone, Debug)]
pub struct GrpcStream {
    /// Its token.
    pub token: u32,
    /// Root context that opened it.
    pub owner: u32,
    /// Cluster, service and method, with slashes between.
    pub method: String,
    /// Messages that the module sent on it.
    pub sent: Vec<Vec<u8>>,
    /// Neither side has ended it.
    pub open: bool,
}

/// A unary gRPC call that the module made.
#[derive(Clone, Debug)]
pub struct GrpcCall {
    /// Its token.
    pub token: u32,
    /// Root context that made it.
    pub owner: u32,
    /// Cluster, service and method, with slashes between.
    pub method: String,
    /// Its request.
    pub message: Vec<u8>,
}

/// Everything that the module's host calls read and change.
#[derive(Debug, Default)]
pub struct Proxy {
    /// Nanoseconds since 1970; moves only when it is set.
    pub now_nanos: u64,
    /// Headers of the request that is being handled.
    pub request_headers: Vec<(String, String)>,
    /// Its buffered body.
    pub request_body: Vec<u8>,
    /// The configuration that is being handed over.
    pub configuration: Vec<u8>,
    /// The gRPC message that is being handed over.
    pub grpc_message: Vec<u8>,
    /// Properties by path, whose parts are separated by NUL.
    pub properties: BTreeMap<String, Vec<u8>>,
    /// Data that the workers of the process share, each value with its number.
    pub shared: BTreeMap<String, (Vec<u8>, u32)>,
    /// Contexts that exist.
    pub contexts: BTreeSet<u32>,
    /// The context that host calls are about.
    pub effective_context: u32,
    /// Period of the tick, in milliseconds.
    pub tick_millis: Option<u32>,
    /// The answer given during the event that is being handled.
    pub answer: Option<Answer>,
    /// Streams, from the first that was opened.
    pub streams: Vec<GrpcStream>,
    /// Unary calls, from the first that was made.
    pub calls: Vec<GrpcCall>,
    /// Contexts whose request was reset.
    pub resets: Vec<u32>,
    /// Values of counters and gauges.
    pub metrics: BTreeMap<String, u64>,
    /// Names of metrics in the order of their definition.
    pub metric_names: Vec<String>,
    /// Lines of the log.
    pub log: Vec<String>,
    /// Host calls that fail, by name, with the status they fail with.
    pub faults: BTreeMap<&'static str, u32>,
    /// How often each host call was made.
    pub host_calls: BTreeMap<&'static str, u64>,
    /// Instructions by function, if the module was loaded to count them.
    pub profile: Profile,
    tokens: u32,
}

impl Proxy {
    /// A proxy that knows and has done nothing.
    pub(crate) fn new(now_nanos: u64) -> Self {
        Self { now_nanos, ..Self::default() }
    }

    /// The open stream, if there is one: the last that was opened.
    pub fn open_stream(&self) -> Option<&GrpcStream> {
        self.streams.iter().rev().find(|stream| stream.open)
    }

    /// The sum of all counters and gauges whose name begins with `prefix`.
    pub fn metric(&self, prefix: &str) -> u64 {
        self.metrics.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum()
    }

    /// Notes that the module called `name`; a status: the call is to fail with it.
    pub(crate) fn called(&mut self, name: &'static str) -> Option<u32> {
        let count = self.host_calls.entry(name).or_default();
        *count = count.saturating_add(1);
        self.faults.get(name).copied()
    }

    /// A token that no stream and no call has had.
    pub(crate) fn next_token(&mut self) -> u32 {
        self.tokens = self.tokens.saturating_add(1);
        self.tokens
    }
}

//! What the state machine asks of whoever runs it: Envoy's host calls, or a fake in tests.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A host call did not do what was asked. The number is proxy-wasm's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFault(pub u32);

impl fmt::Display for HostFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host call failed with status {}", self.0)
    }
}

impl core::error::Error for HostFault {}

/// An answer that the filter gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// Body; empty: none.
    pub body: Vec<u8>,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A state change.
    Info,
    /// Unexpected, and handled.
    Warn,
}

/// Name of a gRPC method and the proxy's cluster that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method<'a> {
    /// Cluster.
    pub cluster: &'a str,
    /// Full name of the service.
    pub service: &'a str,
    /// Method of it.
    pub method: &'a str,
}

/// What the proxy is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `node.id`.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
}

/// The proxy. Calls about an exchange concern the one whose event is being handled.
pub trait Host {
    /// Nanoseconds since 1970.
    fn now_nanos(&self) -> u64;
    /// What the proxy is called; what it does not tell is empty.
    fn node(&self) -> Node;

    /// All request headers of the exchange, as proxy-wasm serialises a map ([`crate::pairs`]).
    ///
    /// # Errors
    /// They cannot be had: the request must not pass.
    fn request_headers(&self) -> Result<Vec<u8>, HostFault>;
    /// The buffered request body of the exchange, whose size is `size` bytes.
    ///
    /// # Errors
    /// It cannot be had: the request must not pass.
    fn request_body(&self, size: usize) -> Result<Vec<u8>, HostFault>;
    /// Name of the route that the request matched; empty: none.
    fn route(&self) -> String;
    /// Removes a request header.
    ///
    /// # Errors
    /// It is still there: the request must not pass.
    fn remove_request_header(&self, name: &str) -> Result<(), HostFault>;
    /// Answers in place of the upstream.
    ///
    /// # Errors
    /// The caller gets no answer; the request must not pass all the same.
    fn answer(&self, answer: &Answer) -> Result<(), HostFault>;
    /// Status of the answer that the caller got; 0: none.
    fn response_code(&self) -> u32;
    /// Bytes of the answer's body.
    fn response_bytes(&self) -> u64;

    /// What some worker of the process shared under `key`, and the token that replaces it.
    fn shared(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Shares `value` under `key` if nobody did since `token` was read (0: whatever there is); false: somebody did.
    fn share(&self, key: &str, value: &[u8], token: u32) -> bool;

    /// Opens a bidirectional gRPC stream; answers with its token.
    ///
    /// # Errors
    /// The cluster is not known, or the stream ended at once.
    fn open_stream(&self, method: Method<'_>) -> Result<u32, HostFault>;
    /// Sends one message on it.
    ///
    /// # Errors
    /// The stream is gone.
    fn send(&self, stream: u32, message: &[u8]) -> Result<(), HostFault>;
    /// Ends a stream that the worker's context `owner` opened; one that is gone already is fine.
    fn close_stream(&self, owner: u32, stream: u32);
    /// Makes a unary gRPC call; answers with its token.
    ///
    /// # Errors
    /// The cluster is not known, or the call failed at once.
    fn call(&self, method: Method<'_>, message: &[u8]) -> Result<u32, HostFault>;
    /// Ends another exchange of this worker at once.
    ///
    /// # Errors
    /// There is no such exchange.
    fn reset_exchange(&self, exchange: u32) -> Result<(), HostFault>;

    /// Adds to a counter of the proxy's statistics.
    ///
    /// # Errors
    /// Nothing was counted.
    fn count(&self, name: &str, add: u64) -> Result<(), HostFault>;
    /// Sets a gauge of the proxy's statistics.
    ///
    /// # Errors
    /// Nothing was set.
    fn gauge(&self, name: &str, value: u64) -> Result<(), HostFault>;
    /// Writes to the proxy's log.
    fn log(&self, level: Level, line: &str);
}

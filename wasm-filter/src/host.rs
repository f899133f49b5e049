//! Envoy as the state machine's host.

use std::cell::RefCell;
use std::collections::HashMap;

use sallyport_filter_core::host::{Answer, Host, HostFault, Level, Method, Node};
use sallyport_filter_core::pairs;

use crate::imports;

/// How long a unary call may take, beyond which it counts as failed.
const CALL_TIMEOUT_MILLIS: u32 = 5_000;

thread_local! {
    /// Metrics defined so far; a name keeps its id for the life of the VM.
    static METRICS: RefCell<HashMap<String, u32>> = RefCell::new(HashMap::new());
}

/// The proxy around this VM, while it handles an event of `context`.
#[derive(Debug)]
pub(crate) struct EnvoyHost {
    /// Root or exchange whose event is being handled; calls about another one switch and come back.
    pub(crate) context: u32,
}

impl EnvoyHost {
    fn within<T>(&self, context: u32, call: impl FnOnce() -> Result<T, HostFault>) -> Result<T, HostFault> {
        imports::set_effective_context(context)?;
        let result = call();
        imports::set_effective_context(self.context)?;
        result
    }
}

impl Host for EnvoyHost {
    fn now_nanos(&self) -> u64 {
        imports::now_nanos()
    }

    fn node(&self) -> Node {
        Node { id: text("xds\0node\0id"), cluster: text("xds\0node\0cluster") }
    }

    fn request_headers(&self) -> Result<Vec<u8>, HostFault> {
        imports::request_headers()
    }

    fn request_body(&self, size: usize) -> Result<Vec<u8>, HostFault> {
        imports::request_body(size)
    }

    fn route(&self) -> String {
        text("xds\0route_name")
    }

    fn remove_request_header(&self, name: &str) -> Result<(), HostFault> {
        imports::remove_request_header(name)
    }

    fn answer(&self, answer: &Answer) -> Result<(), HostFault> {
        let headers: Vec<(&str, &str)> =
            answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        imports::respond(answer.status, "sallyport", &pairs::serialize(&headers), &answer.body)
    }

    fn response_code(&self) -> u32 {
        integer("response\0code").and_then(|code| u32::try_from(code).ok()).unwrap_or(0)
    }

    fn response_bytes(&self) -> u64 {
        integer("response\0size").unwrap_or(0)
    }

    fn shared(&self, key: &str) -> Option<(Vec<u8>, u32)> {
        imports::shared(key).ok()
    }

    fn share(&self, key: &str, value: &[u8], token: u32) -> bool {
        imports::share(key, value, token).is_ok()
    }

    fn open_stream(&self, method: Method<'_>) -> Result<u32, HostFault> {
        imports::grpc_stream(method)
    }

    fn send(&self, stream: u32, message: &[u8]) -> Result<(), HostFault> {
        imports::grpc_send(stream, message)
    }

    fn close_stream(&self, owner: u32, stream: u32) {
        // A stream belongs to the root context that opened it, which may have been replaced since. What is gone
        // already needs no closing, so the answer does not matter.
        let _ = self.within(owner, || imports::grpc_cancel(stream));
    }

    fn call(&self, method: Method<'_>, message: &[u8]) -> Result<u32, HostFault> {
        imports::grpc_call(method, message, CALL_TIMEOUT_MILLIS)
    }

    fn reset_exchange(&self, exchange: u32) -> Result<(), HostFault> {
        self.within(exchange, imports::reset_http_request)
    }

    fn count(&self, name: &str, add: u64) -> Result<(), HostFault> {
        imports::increment_metric(metric(imports::COUNTER, name)?, add)
    }

    fn gauge(&self, name: &str, value: u64) -> Result<(), HostFault> {
        imports::record_metric(metric(imports::GAUGE, name)?, value)
    }

    fn log(&self, level: Level, line: &str) {
        let level = match level {
            Level::Info => 2,
            Level::Warn => 3,
        };
        imports::log(level, line);
    }
}

/// A text property; empty: there is none.
fn text(path: &str) -> String {
    imports::property(path).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// A numeric property; the host hands numbers over as eight bytes, little end first.
fn integer(path: &str) -> Option<u64> {
    let bytes = imports::property(path).ok()?;
    bytes.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
}

fn metric(kind: u32, name: &str) -> Result<u32, HostFault> {
    METRICS.with_borrow_mut(|metrics| match metrics.get(name) {
        Some(id) => Ok(*id),
        None => {
            let id = imports::define_metric(kind, name)?;
            metrics.insert(name.to_owned(), id);
            Ok(id)
        }
    })
}

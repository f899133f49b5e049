//! The callbacks of the ABI (proxy-wasm 0.2.1) that this filter needs, handed on to the worker's state.
//!
//! They are exported directly, not through an SDK's contexts: the proxy enters the VM for every callback that a module
//! exports, and creation, `done` and `delete` of a context have nothing to do here. An exchange is known from its first
//! event on, and forgotten when it is logged.
#![expect(unsafe_code, reason = "names that the host looks for, and memory that it fills")]

use std::alloc::{Layout, alloc};
use std::cell::RefCell;
use std::ptr::null_mut;

use sallyport_filter_core::{Flow, Worker};

use crate::host::EnvoyHost;
use crate::imports;

/// `proxy_action_t`.
const CONTINUE: u32 = 0;
const PAUSE: u32 = 1;

thread_local! {
    static WORKER: RefCell<Worker> = RefCell::new(begin());
}

fn begin() -> Worker {
    // No code of ours panics; should any other, the proxy's log says where before the VM is replaced.
    std::panic::set_hook(Box::new(|panic| imports::log(imports::CRITICAL, &panic.to_string())));
    Worker::new(imports::now_nanos())
}

/// Runs `event` on the worker's state. While another event of this worker is being handled nothing runs: the host
/// does not nest events, and where a future one would, a request is refused rather than let through.
fn with_worker<T>(context: u32, event: impl FnOnce(&mut Worker, &EnvoyHost) -> T) -> Option<T> {
    WORKER.with(|worker| {
        worker.try_borrow_mut().ok().map(|mut worker| event(&mut worker, &EnvoyHost { context }))
    })
}

/// The revision of the ABI that this module speaks; the host looks for the name alone.
// SAFETY (here and below): the name is the ABI's own, and no other item of this module has it.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_abi_version_0_2_1() {}

/// Memory that the host fills before a host call returns, or null: the host call fails.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        // SAFETY: the layout is not empty. `imports::take` gives the memory back with the same layout.
        Ok(layout) if size > 0 => unsafe { alloc(layout) },
        Ok(_) | Err(_) => null_mut(),
    }
}

/// A configuration for the root context `root`; false: it is refused, and the one before stays in force.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_configure(root: u32, size: usize) -> u32 {
    let Ok(bytes) = imports::plugin_configuration(size) else {
        return 0;
    };
    let configured = with_worker(root, |worker, host| worker.configure(root, &bytes, host));
    u32::from(matches!(configured, Some(Ok(tick_millis)) if imports::set_tick(tick_millis).is_ok()))
}

/// The period that the configuration asks for has passed.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_tick(root: u32) {
    with_worker(root, |worker, host| worker.on_tick(root, host));
}

/// The headers of a request, which is whole with them if `end_of_stream`.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_headers(exchange: u32, _count: u32, end_of_stream: u32) -> u32 {
    if end_of_stream == 0 { PAUSE } else { judge(exchange, 0) }
}

/// More of a request's body, `size` bytes with all that was held back before.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_body(exchange: u32, size: usize, end_of_stream: u32) -> u32 {
    if end_of_stream == 0 { PAUSE } else { judge(exchange, size) }
}

fn judge(exchange: u32, body_size: usize) -> u32 {
    match with_worker(exchange, |worker, host| worker.on_request(exchange, body_size, host)) {
        Some(Flow::Forward) => CONTINUE,
        // Answered, or undecidable: nothing goes on to the upstream.
        Some(Flow::Stop) | None => PAUSE,
    }
}

/// Trailers of a request, which has not been judged when they come. Without this callback the proxy continues a request
/// that waits for its verdict as soon as its trailers arrive.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_request_trailers(exchange: u32, _count: u32) -> u32 {
    // INVARIANT (no state, no access): nothing is continued here, whatever becomes of the refusal.
    with_worker(exchange, |worker, host| worker.on_trailers(exchange, host));
    PAUSE
}

/// An exchange has ended.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_log(exchange: u32) {
    with_worker(exchange, |worker, host| worker.on_log(exchange, host));
}

/// A message of a stream, or the answer to a call.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_grpc_receive(root: u32, token: u32, size: usize) {
    let Ok(message) = imports::grpc_message(size) else {
        return;
    };
    with_worker(root, |worker, host| {
        worker.on_stream_message(token, &message, host);
        worker.on_call_ended(token, true, host);
    });
}

/// A stream has ended, or a call has failed.
#[unsafe(no_mangle)]
pub extern "C" fn proxy_on_grpc_close(root: u32, token: u32, _status: u32) {
    with_worker(root, |worker, host| {
        worker.on_stream_closed(token, host);
        worker.on_call_ended(token, false, host);
    });
}

//! Raw proxy-wasm imports (ABI 0.2.1) behind functions that return what the host says.
//!
//! The wrappers of the Rust SDK (proxy-wasm) panic on a status they do not expect, and a panic takes the worker's whole
//! VM down; here every status is a value. The `unsafe` blocks here hand the host pointers to live
//! memory of the stated length, or takes over a buffer that the host allocated through `proxy_on_memory_allocate`.
#![expect(unsafe_code, reason = "host calls; see the module's documentation")]

use std::ptr::null_mut;

use sallyport_filter_core::host::{HostFault, Method};

/// Maps and buffers of the ABI.
const REQUEST_HEADERS: u32 = 0;
const REQUEST_BODY: u32 = 0;
/// Also what gRPC callbacks read their message from.
const GRPC_RECEIVE_BUFFER: u32 = 5;
const PLUGIN_CONFIGURATION: u32 = 7;
const HTTP_REQUEST_STREAM: u32 = 0;
/// Level of a log line.
pub(crate) const CRITICAL: u32 = 5;
/// Kinds of metrics.
pub(crate) const COUNTER: u32 = 0;
pub(crate) const GAUGE: u32 = 1;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> u32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_remove_header_map_value(map: u32, key: *const u8, key_size: usize) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        key_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(
        key: *const u8,
        key_size: usize,
        value: *const u8,
        value_size: usize,
        cas: u32,
    ) -> u32;
    fn proxy_grpc_call(
        cluster: *const u8,
        cluster_size: usize,
        service: *const u8,
        service_size: usize,
        method: *const u8,
        method_size: usize,
        metadata: *const u8,
        metadata_size: usize,
        message: *const u8,
        message_size: usize,
        timeout_millis: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_grpc_stream(
        cluster: *const u8,
        cluster_size: usize,
        service: *const u8,
        service_size: usize,
        method: *const u8,
        method_size: usize,
        metadata: *const u8,
        metadata_size: usize,
        token: *mut u32,
    ) -> u32;
    fn proxy_grpc_send(token: u32, message: *const u8, size: usize, end: u32) -> u32;
    fn proxy_grpc_cancel(token: u32) -> u32;
    fn proxy_set_effective_context(context: u32) -> u32;
    fn proxy_close_stream(stream: u32) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
}

fn check(status: u32) -> Result<(), HostFault> {
    if status == 0 { Ok(()) } else { Err(HostFault(status)) }
}

/// Takes over a buffer that the host filled.
fn take(data: *mut u8, size: usize) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: the host allocated `size` bytes through this module's allocator and has no further use of them.
    unsafe { Vec::from_raw_parts(data, size, size) }
}

fn read(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, HostFault> {
    let (mut data, mut size) = (null_mut(), 0);
    check(call(&raw mut data, &raw mut size))?;
    Ok(take(data, size))
}

pub(crate) fn now_nanos() -> u64 {
    let mut time = 0;
    // SAFETY: the host writes eight bytes.
    match check(unsafe { proxy_get_current_time_nanoseconds(&raw mut time) }) {
        Ok(()) => time,
        // The end of time: everything that can expire has.
        Err(_) => u64::MAX,
    }
}

pub(crate) fn set_tick(millis: u32) -> Result<(), HostFault> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_set_tick_period_milliseconds(millis) })
}

pub(crate) fn log(level: u32, line: &str) {
    // SAFETY: `line` lives through the call. A line that cannot be written is lost.
    let _ = unsafe { proxy_log(level, line.as_ptr(), line.len()) };
}

pub(crate) fn request_headers() -> Result<Vec<u8>, HostFault> {
    // SAFETY: the host writes a pointer and a size.
    read(|data, size| unsafe { proxy_get_header_map_pairs(REQUEST_HEADERS, data, size) })
}

fn buffer(kind: u32, size: usize) -> Result<Vec<u8>, HostFault> {
    // SAFETY: the host writes a pointer and a size.
    let bytes = read(|data, length| unsafe { proxy_get_buffer_bytes(kind, 0, size, data, length) })?;
    if bytes.len() == size { Ok(bytes) } else { Err(HostFault(u32::MAX)) }
}

pub(crate) fn request_body(size: usize) -> Result<Vec<u8>, HostFault> {
    if size == 0 { Ok(Vec::new()) } else { buffer(REQUEST_BODY, size) }
}

pub(crate) fn grpc_message(size: usize) -> Result<Vec<u8>, HostFault> {
    if size == 0 { Ok(Vec::new()) } else { buffer(GRPC_RECEIVE_BUFFER, size) }
}

pub(crate) fn plugin_configuration(size: usize) -> Result<Vec<u8>, HostFault> {
    if size == 0 { Ok(Vec::new()) } else { buffer(PLUGIN_CONFIGURATION, size) }
}

/// A property by its path, whose parts are separated by NUL.
pub(crate) fn property(path: &str) -> Result<Vec<u8>, HostFault> {
    // SAFETY: `path` lives through the call; the host writes a pointer and a size.
    read(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

pub(crate) fn remove_request_header(name: &str) -> Result<(), HostFault> {
    // SAFETY: `name` lives through the call.
    check(unsafe { proxy_remove_header_map_value(REQUEST_HEADERS, name.as_ptr(), name.len()) })
}

pub(crate) fn respond(status: u16, details: &str, headers: &[u8], body: &[u8]) -> Result<(), HostFault> {
    // SAFETY: all slices live through the call.
    check(unsafe {
        proxy_send_local_response(
            u32::from(status),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            -1,
        )
    })
}

pub(crate) fn shared(key: &str) -> Result<(Vec<u8>, u32), HostFault> {
    let mut cas = 0;
    // SAFETY: `key` lives through the call; the host writes a pointer, a size and a number.
    let value = read(|data, size| unsafe {
        proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &raw mut cas)
    })?;
    Ok((value, cas))
}

pub(crate) fn share(key: &str, value: &[u8], cas: u32) -> Result<(), HostFault> {
    // SAFETY: both slices live through the call.
    check(unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

/// A serialised map without pairs.
const NO_METADATA: [u8; 4] = [0; 4];

/// Begins a unary call; its answer or failure comes under the token.
pub(crate) fn grpc_call(to: Method<'_>, message: &[u8], timeout_millis: u32) -> Result<u32, HostFault> {
    let mut token = 0;
    // SAFETY: all slices live through the call; the host writes a number.
    check(unsafe {
        proxy_grpc_call(
            to.cluster.as_ptr(),
            to.cluster.len(),
            to.service.as_ptr(),
            to.service.len(),
            to.method.as_ptr(),
            to.method.len(),
            NO_METADATA.as_ptr(),
            NO_METADATA.len(),
            message.as_ptr(),
            message.len(),
            timeout_millis,
            &raw mut token,
        )
    })?;
    Ok(token)
}

/// Opens a stream; its messages and its end come under the token.
pub(crate) fn grpc_stream(to: Method<'_>) -> Result<u32, HostFault> {
    let mut token = 0;
    // SAFETY: all slices live through the call; the host writes a number.
    check(unsafe {
        proxy_grpc_stream(
            to.cluster.as_ptr(),
            to.cluster.len(),
            to.service.as_ptr(),
            to.service.len(),
            to.method.as_ptr(),
            to.method.len(),
            NO_METADATA.as_ptr(),
            NO_METADATA.len(),
            &raw mut token,
        )
    })?;
    Ok(token)
}

pub(crate) fn grpc_send(stream: u32, message: &[u8]) -> Result<(), HostFault> {
    // SAFETY: `message` lives through the call.
    check(unsafe { proxy_grpc_send(stream, message.as_ptr(), message.len(), 0) })
}

pub(crate) fn grpc_cancel(token: u32) -> Result<(), HostFault> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_grpc_cancel(token) })
}

pub(crate) fn set_effective_context(context: u32) -> Result<(), HostFault> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_set_effective_context(context) })
}

pub(crate) fn reset_http_request() -> Result<(), HostFault> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_close_stream(HTTP_REQUEST_STREAM) })
}

pub(crate) fn define_metric(kind: u32, name: &str) -> Result<u32, HostFault> {
    let mut id = 0;
    // SAFETY: `name` lives through the call; the host writes a number.
    check(unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &raw mut id) })?;
    Ok(id)
}

pub(crate) fn increment_metric(id: u32, by: u64) -> Result<(), HostFault> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_increment_metric(id, i64::try_from(by).unwrap_or(i64::MAX)) })
}

pub(crate) fn record_metric(id: u32, value: u64) -> Result<(), HostFault> {
    // SAFETY: no memory is passed.
    check(unsafe { proxy_record_metric(id, value) })
}

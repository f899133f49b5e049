//! The host calls that the module makes, after proxy-wasm ABI 0.2.1.

use sallyport_filter_core::pairs::{Pairs, serialize};
use wasmtime::{Caller, Extern, Linker, Memory, Result, format_err};

use crate::proxy::{Answer, GrpcCall, GrpcStream, Proxy};

const OK: u32 = 0;
const NOT_FOUND: u32 = 1;
const BAD_ARGUMENT: u32 = 2;
const CAS_MISMATCH: u32 = 8;

const REQUEST_HEADERS: u32 = 0;
const REQUEST_BODY: u32 = 0;
const GRPC_RECEIVE_BUFFER: u32 = 5;
const PLUGIN_CONFIGURATION: u32 = 7;

type Host<'a> = Caller<'a, Proxy>;

/// Ends the host call here if it was told to fail.
macro_rules! note {
    ($host:ident, $name:literal) => {
        if let Some(status) = $host.data_mut().called($name) {
            return Ok(status);
        }
    };
}

/// Tells `linker` of all host calls that the module makes.
pub(crate) fn link(linker: &mut Linker<Proxy>) -> Result<()> {
    link_basics(linker)?;
    link_requests(linker)?;
    link_shared(linker)?;
    link_metrics(linker)?;
    link_streams(linker)
}

fn link_basics(linker: &mut Linker<Proxy>) -> Result<()> {
    linker.func_wrap("env", "proxy_log", |mut host: Host, _: u32, line: u32, size: u32| {
        note!(host, "proxy_log");
        let line = text(&mut host, line, size)?;
        host.data_mut().log.push(line);
        Ok(OK)
    })?;
    linker.func_wrap("env", "proxy_get_current_time_nanoseconds", |mut host: Host, to: u32| {
        note!(host, "proxy_get_current_time_nanoseconds");
        let now = host.data().now_nanos;
        write(&mut host, to, &now.to_le_bytes())?;
        Ok(OK)
    })?;
    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", |mut host: Host, period: u32| {
        note!(host, "proxy_set_tick_period_milliseconds");
        host.data_mut().tick_millis = Some(period);
        Ok::<_, wasmtime::Error>(OK)
    })?;
    linker.func_wrap("env", "proxy_set_effective_context", |mut host: Host, context: u32| {
        note!(host, "proxy_set_effective_context");
        let proxy = host.data_mut();
        if !proxy.contexts.contains(&context) {
            return Ok(BAD_ARGUMENT);
        }
        proxy.effective_context = context;
        Ok::<_, wasmtime::Error>(OK)
    })?;
    let property = |mut host: Host, path: u32, path_size: u32, data: u32, size: u32| {
        note!(host, "proxy_get_property");
        let path = text(&mut host, path, path_size)?;
        let Some(value) = host.data().properties.get(&path).cloned() else {
            return Ok(NOT_FOUND);
        };
        give(&mut host, &value, data, size)
    };
    linker.func_wrap("env", "proxy_get_property", property)?;
    Ok(())
}

fn link_requests(linker: &mut Linker<Proxy>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_header_map_pairs",
        |mut host: Host, map: u32, data: u32, size: u32| {
            note!(host, "proxy_get_header_map_pairs");
            if map != REQUEST_HEADERS {
                return Ok(BAD_ARGUMENT);
            }
            let headers = &host.data().request_headers;
            let pairs: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let map = serialize(&pairs);
            give(&mut host, &map, data, size)
        },
    )?;
    let buffer = |mut host: Host, kind: u32, start: u32, most: u32, data: u32, size: u32| {
        note!(host, "proxy_get_buffer_bytes");
        let proxy = host.data();
        let bytes = match kind {
            REQUEST_BODY => &proxy.request_body,
            GRPC_RECEIVE_BUFFER => &proxy.grpc_message,
            PLUGIN_CONFIGURATION => &proxy.configuration,
            _ => return Ok(BAD_ARGUMENT),
        };
        let bytes: Vec<u8> = bytes.iter().skip(index(start)?).take(index(most)?).copied().collect();
        give(&mut host, &bytes, data, size)
    };
    linker.func_wrap("env", "proxy_get_buffer_bytes", buffer)?;
    let remove = |mut host: Host, _map: u32, name: u32, size: u32| {
        note!(host, "proxy_remove_header_map_value");
        let name = text(&mut host, name, size)?;
        host.data_mut().request_headers.retain(|(known, _)| *known != name);
        Ok(OK)
    };
    linker.func_wrap("env", "proxy_remove_header_map_value", remove)?;
    linker.func_wrap("env", "proxy_close_stream", |mut host: Host, _stream: u32| {
        note!(host, "proxy_close_stream");
        let proxy = host.data_mut();
        proxy.resets.push(proxy.effective_context);
        Ok::<_, wasmtime::Error>(OK)
    })?;
    linker.func_wrap("env", "proxy_send_local_response", send_local_response)?;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
fn send_local_response(
    mut host: Host,
    status: u32,
    _details: u32,
    _details_size: u32,
    body: u32,
    body_size: u32,
    headers: u32,
    headers_size: u32,
    _grpc_status: i32,
) -> Result<u32> {
    note!(host, "proxy_send_local_response");
    let body = read(&mut host, body, body_size)?;
    let map = read(&mut host, headers, headers_size)?;
    let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = Pairs::new(&map).map(|(name, value)| (owned(name), owned(value))).collect();
    host.data_mut().answer = Some(Answer { status, headers, body });
    Ok(OK)
}

fn link_shared(linker: &mut Linker<Proxy>) -> Result<()> {
    let get = |mut host: Host, key: u32, key_size: u32, data: u32, size: u32, cas: u32| {
        note!(host, "proxy_get_shared_data");
        let key = text(&mut host, key, key_size)?;
        let Some((value, number)) = host.data().shared.get(&key).cloned() else {
            return Ok(NOT_FOUND);
        };
        write(&mut host, cas, &number.to_le_bytes())?;
        give(&mut host, &value, data, size)
    };
    linker.func_wrap("env", "proxy_get_shared_data", get)?;
    let set = |mut host: Host, key: u32, key_size: u32, data: u32, size: u32, cas: u32| {
        note!(host, "proxy_set_shared_data");
        let key = text(&mut host, key, key_size)?;
        let value = read(&mut host, data, size)?;
        let proxy = host.data_mut();
        let held = proxy.shared.get(&key).map(|(_, number)| *number);
        if cas != 0 && held.is_some_and(|number| number != cas) {
            return Ok(CAS_MISMATCH);
        }
        proxy.shared.insert(key, (value, held.unwrap_or(0).saturating_add(1)));
        Ok(OK)
    };
    linker.func_wrap("env", "proxy_set_shared_data", set)?;
    Ok(())
}

fn link_metrics(linker: &mut Linker<Proxy>) -> Result<()> {
    let define = |mut host: Host, _kind: u32, name: u32, size: u32, id: u32| {
        note!(host, "proxy_define_metric");
        let name = text(&mut host, name, size)?;
        let names = &mut host.data_mut().metric_names;
        let number = u32::try_from(names.len())?;
        names.push(name);
        write(&mut host, id, &number.to_le_bytes())?;
        Ok(OK)
    };
    linker.func_wrap("env", "proxy_define_metric", define)?;
    linker.func_wrap("env", "proxy_increment_metric", |mut host: Host, id: u32, by: u64| {
        note!(host, "proxy_increment_metric");
        change_metric(host.data_mut(), id, |value| value.saturating_add(by))
    })?;
    linker.func_wrap("env", "proxy_record_metric", |mut host: Host, id: u32, value: u64| {
        note!(host, "proxy_record_metric");
        change_metric(host.data_mut(), id, |_| value)
    })?;
    Ok(())
}

fn change_metric(proxy: &mut Proxy, id: u32, change: impl FnOnce(u64) -> u64) -> Result<u32> {
    let Some(name) = proxy.metric_names.get(index(id)?) else {
        return Ok(BAD_ARGUMENT);
    };
    let value = proxy.metrics.entry(name.clone()).or_default();
    *value = change(*value);
    Ok(OK)
}

fn link_streams(linker: &mut Linker<Proxy>) -> Result<()> {
    linker.func_wrap("env", "proxy_grpc_stream", grpc_stream)?;
    linker.func_wrap("env", "proxy_grpc_call", grpc_call)?;
    let send = |mut host: Host, token: u32, message: u32, size: u32, _end: u32| {
        note!(host, "proxy_grpc_send");
        let message = read(&mut host, message, size)?;
        let stream = host.data_mut().streams.iter_mut().find(|stream| stream.token == token && stream.open);
        Ok(stream.map_or(NOT_FOUND, |stream| {
            stream.sent.push(message);
            OK
        }))
    };
    linker.func_wrap("env", "proxy_grpc_send", send)?;
    linker.func_wrap("env", "proxy_grpc_cancel", |mut host: Host, token: u32| {
        note!(host, "proxy_grpc_cancel");
        let proxy = host.data_mut();
        // A context sees the streams that it opened, and no others.
        let owner = proxy.effective_context;
        let stream = proxy.streams.iter_mut().find(|stream| stream.token == token && stream.owner == owner);
        Ok::<_, wasmtime::Error>(stream.map_or(NOT_FOUND, |stream| {
            stream.open = false;
            OK
        }))
    })?;
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
fn grpc_stream(
    mut host: Host,
    cluster: u32,
    cluster_size: u32,
    service: u32,
    service_size: u32,
    method: u32,
    method_size: u32,
    _metadata: u32,
    _metadata_size: u32,
    token: u32,
) -> Result<u32> {
    note!(host, "proxy_grpc_stream");
    let names = [(cluster, cluster_size), (service, service_size), (method, method_size)];
    let method = joined(&mut host, names)?;
    let proxy = host.data_mut();
    let number = proxy.next_token();
    let owner = proxy.effective_context;
    proxy.streams.push(GrpcStream { token: number, owner, method, sent: Vec::new(), open: true });
    write(&mut host, token, &number.to_le_bytes())?;
    Ok(OK)
}

#[expect(clippy::too_many_arguments, reason = "the ABI's signature")]
fn grpc_call(
    mut host: Host,
    cluster: u32,
    cluster_size: u32,
    service: u32,
    service_size: u32,
    method: u32,
    method_size: u32,
    _metadata: u32,
    _metadata_size: u32,
    message: u32,
    message_size: u32,
    _timeout: u32,
    token: u32,
) -> Result<u32> {
    note!(host, "proxy_grpc_call");
    let names = [(cluster, cluster_size), (service, service_size), (method, method_size)];
    let method = joined(&mut host, names)?;
    let message = read(&mut host, message, message_size)?;
    let proxy = host.data_mut();
    let number = proxy.next_token();
    let owner = proxy.effective_context;
    proxy.calls.push(GrpcCall { token: number, owner, method, message });
    write(&mut host, token, &number.to_le_bytes())?;
    Ok(OK)
}

fn joined(host: &mut Host, names: [(u32, u32); 3]) -> Result<String> {
    let names = names.map(|(at, size)| text(host, at, size)).into_iter().collect::<Result<Vec<_>>>()?;
    Ok(names.join("/"))
}

fn memory(host: &mut Host) -> Result<Memory> {
    host.get_export("memory").and_then(Extern::into_memory).ok_or_else(|| format_err!("no memory"))
}

fn index(number: u32) -> Result<usize> {
    Ok(usize::try_from(number)?)
}

fn read(host: &mut Host, at: u32, size: u32) -> Result<Vec<u8>> {
    let mut bytes = vec![0; index(size)?];
    memory(host)?.read(&*host, index(at)?, &mut bytes)?;
    Ok(bytes)
}

fn text(host: &mut Host, at: u32, size: u32) -> Result<String> {
    Ok(String::from_utf8(read(host, at, size)?)?)
}

fn write(host: &mut Host, at: u32, bytes: &[u8]) -> Result<()> {
    Ok(memory(host)?.write(host, index(at)?, bytes)?)
}

/// Hands `bytes` over in memory of the module's own making, and writes where they are.
fn give(host: &mut Host, bytes: &[u8], data: u32, size: u32) -> Result<u32> {
    let length = u32::try_from(bytes.len())?;
    let at = if length == 0 { 0 } else { allocate(host, length)? };
    write(host, at, bytes)?;
    write(host, data, &at.to_le_bytes())?;
    write(host, size, &length.to_le_bytes())?;
    Ok(OK)
}

fn allocate(host: &mut Host, size: u32) -> Result<u32> {
    let names = ["proxy_on_memory_allocate", "malloc"];
    let found = names.into_iter().find_map(|name| host.get_export(name)).and_then(Extern::into_func);
    let function = found.ok_or_else(|| format_err!("no allocator"))?;
    function.typed::<u32, u32>(&*host)?.call(host, size)
}

//! HTTP method, media types, encodings and origin.

use crate::fault::Fault;
use crate::headers::RequestHeaders;

/// Checks what must hold before a body is read.
///
/// # Errors
/// The method is none of MCP's, the page has another origin, the body is not plain JSON in UTF-8, or the caller does
/// not take what MCP answers with.
pub fn check_media(headers: &RequestHeaders<'_>) -> Result<(), Fault> {
    let is_modern = headers.protocol_version().is_some_and(|version| version == crate::agree::MODERN);
    let is_post = headers.method() == b"POST";
    let is_stream = headers.method() == b"GET";
    if !(is_post || (!is_modern && (is_stream || headers.method() == b"DELETE")))
        || headers.overrides_method()
    {
        return Err(Fault::HttpMethod);
    }
    if headers.origin().is_some_and(|origin| !is_same_host(origin, headers.authority())) {
        return Err(Fault::Origin);
    }
    if headers
        .content_encoding()
        .is_some_and(|encoding| !encoding.trim_ascii().eq_ignore_ascii_case(b"identity"))
    {
        return Err(Fault::ContentEncoding);
    }
    if is_post && !headers.content_type().is_some_and(is_plain_json) {
        return Err(Fault::ContentType);
    }
    let acceptable = match (is_post, is_stream) {
        (true, _) => headers.accepts_json && headers.accepts_stream,
        (false, true) => headers.accepts_stream,
        (false, false) => true,
    };
    if acceptable { Ok(()) } else { Err(Fault::NotAcceptable) }
}

/// `application/json`, at most with `charset=utf-8`.
fn is_plain_json(value: &[u8]) -> bool {
    let mut parts = value.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    parts.next().is_some_and(|media| media.eq_ignore_ascii_case(b"application/json"))
        && parts.all(|parameter| {
            parameter.is_empty()
                || parameter.eq_ignore_ascii_case(b"charset=utf-8")
                || parameter.eq_ignore_ascii_case(b"charset=\"utf-8\"")
        })
}

/// Whether a page's origin is the host it calls (DNS rebinding: MCP's transport demands the check).
fn is_same_host(origin: &[u8], authority: &[u8]) -> bool {
    let Some(at) = origin.windows(3).position(|window| window == b"://") else {
        return false;
    };
    let host = origin.get(at.saturating_add(3)..).unwrap_or_default();
    host.eq_ignore_ascii_case(authority) || (is_loopback(host) && is_loopback(authority))
}

fn is_loopback(host: &[u8]) -> bool {
    let end = if host.first() == Some(&b'[') {
        host.iter().position(|b| *b == b']').map(|at| at.saturating_add(1))
    } else {
        host.iter().position(|b| *b == b':')
    };
    let name = end.and_then(|end| host.get(..end)).unwrap_or(host);
    name.eq_ignore_ascii_case(b"localhost") || name == b"127.0.0.1" || name == b"[::1]"
}

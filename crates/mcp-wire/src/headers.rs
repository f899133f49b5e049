//! The request headers that matter, collected in one pass.

use crate::fault::Fault;

/// Most `Mcp-Param-…` headers, and most bytes of one of their values.
const MAX_PARAMS: usize = 64;
const MAX_PARAM_BYTES: usize = 8 * 1024;
/// Most bytes of an `Mcp-Session-Id`.
const MAX_SESSION_ID: usize = 1024;

/// What the headers say. Names are compared as they come: lower case, as HTTP/2 and Envoy have them.
#[derive(Clone, Debug, Default)]
pub struct RequestHeaders<'a> {
    method: &'a [u8],
    path: &'a [u8],
    authority: &'a [u8],
    content_type: Option<&'a [u8]>,
    content_encoding: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    protocol_version: Option<&'a str>,
    mcp_method: Option<&'a str>,
    mcp_name: Option<&'a str>,
    mcp_session_id: Option<&'a str>,
    traceparent: Option<&'a str>,
    overrides_method: bool,
    pub(crate) accepts_json: bool,
    pub(crate) accepts_stream: bool,
}

impl<'a> RequestHeaders<'a> {
    /// Reads all pairs of a request, pseudo-headers among them.
    ///
    /// # Errors
    /// One that matters is repeated, malformed, too large or hidden behind a look-alike name.
    pub fn collect(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Result<Self, Fault> {
        let mut headers = Self::default();
        let mut params = 0_usize;
        for (name, value) in pairs {
            match name {
                b":method" => headers.method = value,
                b":path" => headers.path = value,
                b":authority" => headers.authority = value,
                b"accept" => headers.accept(value),
                b"content-type" => once(&mut headers.content_type, value, Fault::ContentType)?,
                b"content-encoding" => once(&mut headers.content_encoding, value, Fault::ContentEncoding)?,
                b"origin" => once(&mut headers.origin, value, Fault::Origin)?,
                b"mcp-protocol-version" => text(&mut headers.protocol_version, value, Fault::HeaderMismatch)?,
                b"mcp-method" => text(&mut headers.mcp_method, value, Fault::HeaderMismatch)?,
                b"mcp-name" => text(&mut headers.mcp_name, value, Fault::HeaderMismatch)?,
                b"mcp-session-id" => {
                    text(&mut headers.mcp_session_id, value, Fault::RepeatedHeader)?;
                    if !(1..=MAX_SESSION_ID).contains(&value.len()) || !value.iter().all(u8::is_ascii_graphic)
                    {
                        return Err(Fault::InvalidHeader);
                    }
                }
                b"traceparent" => headers.traceparent = core::str::from_utf8(value).ok(),
                b"x-http-method-override" | b"x-method-override" | b"x-http-method" => {
                    headers.overrides_method = true;
                }
                _ if name.starts_with(b"mcp") => {
                    check_other(name, value)?;
                    params = params.saturating_add(1);
                    if params > MAX_PARAMS {
                        return Err(Fault::HeadersTooLarge);
                    }
                }
                _ => {}
            }
        }
        Ok(headers)
    }

    fn accept(&mut self, value: &[u8]) {
        for range in value.split(|b| *b == b',') {
            let mut parts = range.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let media = parts.next().unwrap_or_default();
            let refused = parts
                .any(|p| p.strip_prefix(b"q=").is_some_and(|q| q.iter().all(|b| matches!(b, b'0' | b'.'))));
            if !refused {
                self.accepts_json |= media.eq_ignore_ascii_case(b"application/json");
                self.accepts_stream |= media.eq_ignore_ascii_case(b"text/event-stream");
            }
        }
    }

    /// The HTTP method.
    pub fn method(&self) -> &'a [u8] {
        self.method
    }

    /// The path, with its query.
    pub fn path(&self) -> &'a [u8] {
        self.path
    }

    /// The authority (`Host`).
    pub fn authority(&self) -> &'a [u8] {
        self.authority
    }

    /// `MCP-Protocol-Version`.
    pub fn protocol_version(&self) -> Option<&'a str> {
        self.protocol_version
    }

    /// `Mcp-Method`.
    pub fn mcp_method(&self) -> Option<&'a str> {
        self.mcp_method
    }

    /// `Mcp-Name`, as sent.
    pub fn mcp_name(&self) -> Option<&'a str> {
        self.mcp_name
    }

    /// `Mcp-Session-Id`.
    pub fn mcp_session_id(&self) -> Option<&'a str> {
        self.mcp_session_id
    }

    /// The trace id of `traceparent` (W3C Trace Context), if it has its form.
    pub fn trace_id(&self) -> Option<&'a str> {
        let mut parts = self.traceparent?.split('-');
        let (_version, id) = (parts.next()?, parts.next()?);
        let fits = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        fits.then_some(id).filter(|id| id.bytes().any(|b| b != b'0'))
    }

    pub(crate) fn content_type(&self) -> Option<&'a [u8]> {
        self.content_type
    }

    pub(crate) fn content_encoding(&self) -> Option<&'a [u8]> {
        self.content_encoding
    }

    pub(crate) fn origin(&self) -> Option<&'a [u8]> {
        self.origin
    }

    pub(crate) fn overrides_method(&self) -> bool {
        self.overrides_method
    }
}

fn once<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8], repeated: Fault) -> Result<(), Fault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(repeated),
    }
}

fn text<'a>(place: &mut Option<&'a str>, value: &'a [u8], repeated: Fault) -> Result<(), Fault> {
    let value = core::str::from_utf8(value.trim_ascii()).map_err(|_| Fault::InvalidHeader)?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(repeated),
    }
}

/// A name that begins like MCP's own. Servers behind CGI-like interfaces read `mcp_name` and `mcp.name` as `mcp-name`.
fn check_other(name: &[u8], value: &[u8]) -> Result<(), Fault> {
    const MIRRORED: [&[u8]; 4] = [b"mcp-name", b"mcp-method", b"mcp-protocol-version", b"mcp-session-id"];
    let plain = name.iter().map(|b| if matches!(b, b'_' | b'.') { b'-' } else { *b });
    if MIRRORED.iter().any(|known| plain.clone().eq(known.iter().copied())) {
        return Err(Fault::InvalidHeader);
    }
    if value.len() > MAX_PARAM_BYTES { Err(Fault::HeadersTooLarge) } else { Ok(()) }
}

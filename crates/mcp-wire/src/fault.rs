//! Why a request cannot be understood for sure.

/// A request that cannot be judged, with what is needed to say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection<'a> {
    /// Why.
    pub fault: Fault,
    /// The request's id as JSON text, if it was read before the fault.
    pub id: Option<&'a str>,
    /// Offset in the body at which reading stopped, in bytes.
    pub at: usize,
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $status:literal, $code:literal, $message:literal;)+) => {
        /// Why a request cannot be understood for sure. The names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault { $($(#[doc = $doc])+ $variant,)+ }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// HTTP status of the answer.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// JSON-RPC error code of the answer.
            pub const fn json_rpc_code(self) -> i32 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// What is wrong and how to mend it.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)+ }
            }
        }
    };
}

faults! {
    /// Not UTF-8, or it begins with a byte order mark.
    BodyNotUtf8 = "body_not_utf8", 400, -32700, "the body must be UTF-8 without a byte order mark";
    /// Not one JSON value.
    JsonSyntax = "json_syntax", 400, -32700, "the body must be exactly one JSON value (RFC 8259)";
    /// A surrogate without its partner.
    LoneSurrogate = "lone_surrogate", 400, -32700, "a string holds half of a surrogate pair";
    /// A number that readers round differently.
    NumberRange = "number_range", 400, -32700, "a number is too large or has too many digits";
    /// An array at the top.
    Batch = "batch", 400, -32600, "send one JSON-RPC message per request; batches are not accepted";
    /// Something else than an object at the top.
    NotAnObject = "not_an_object", 400, -32600, "a JSON-RPC message is an object";
    /// A key that stands twice in one object.
    DuplicateKey = "duplicate_key", 400, -32600, "an object names a key twice";
    /// A key that a lax reader takes for a reserved one.
    LookalikeKey = "lookalike_key", 400, -32600, "a key differs from a reserved one only in case, width or invisible characters";
    /// A member that JSON-RPC does not know.
    UnknownMember = "unknown_member", 400, -32600, "a JSON-RPC message has jsonrpc, id, method, params, result and error only";
    /// Members that do not make a request, notification or response.
    InvalidShape = "invalid_shape", 400, -32600, "the members make neither a request, a notification nor a response";
    /// `jsonrpc` is not "2.0".
    InvalidVersionMember = "invalid_jsonrpc", 400, -32600, "jsonrpc must be the string \"2.0\"";
    /// An id that is neither a string nor an integer, or too long.
    InvalidId = "invalid_id", 400, -32600, "an id is a string or an integer of at most 256 bytes";
    /// Wrong type, or missing, or too long, where the method needs it.
    InvalidParams = "invalid_params", 400, -32600, "params do not have the form that the method needs";
    /// A method that must be a request came without an id.
    NotANotification = "not_a_notification", 400, -32600, "this method is a request and needs an id";
    /// Nested too deeply.
    TooDeep = "too_deep", 400, -32600, "the body is nested deeper than 64 levels";
    /// A string is too long.
    StringTooLong = "string_too_long", 413, -32600, "the body holds a string that is too long";
    /// Too many keys.
    TooManyKeys = "too_many_keys", 413, -32600, "the body has too many keys";
    /// The body is larger than the server accepts.
    BodyTooLarge = "body_too_large", 413, -32600, "the body is larger than this server accepts";
    /// The request ended before it was whole.
    Incomplete = "incomplete", 408, -32600, "the request ended before its body was complete";
    /// Headers after the body.
    Trailers = "trailers", 400, -32600, "a request ends with its body; trailers are not accepted";
    /// Headers and body, or headers among each other, disagree on the call.
    HeaderMismatch = "header_mismatch", 400, -32020, "MCP headers and body do not agree";
    /// A revision that is not known.
    UnsupportedVersion = "unsupported_version", 400, -32022, "this protocol revision is not supported";
    /// `_meta` lacks what the revision requires.
    MissingMeta = "missing_meta", 400, -32602, "params._meta must name protocolVersion and clientCapabilities";
    /// A method that the revision no longer has.
    MethodRemoved = "method_removed", 404, -32601, "this method does not exist in this protocol revision";
    /// Not JSON.
    ContentType = "content_type", 415, -32600, "content-type must be application/json, in UTF-8";
    /// Encoded, or labelled so.
    ContentEncoding = "content_encoding", 415, -32600, "send the body without a content-encoding";
    /// The caller does not take what MCP answers with.
    NotAcceptable = "not_acceptable", 406, -32600, "accept must list application/json and text/event-stream (GET: text/event-stream)";
    /// A method of HTTP that MCP does not use, or not in this revision, or not with a body.
    HttpMethod = "http_method", 405, -32600, "use POST, or GET and DELETE without a body in a legacy session";
    /// A page of another origin.
    Origin = "origin", 403, -32600, "requests of this origin are not accepted";
    /// A header that matters stands twice.
    RepeatedHeader = "repeated_header", 400, -32600, "a header that matters here is repeated";
    /// A header that matters cannot be what it claims.
    InvalidHeader = "invalid_header", 400, -32600, "a header that matters here has a value it cannot have";
    /// Too many or too large mirrored parameters.
    HeadersTooLarge = "headers_too_large", 431, -32600, "too many or too large Mcp-Param headers";
}

"""Group H: media types and HTTP; and of group M what concerns headers of tokens."""

from vectors.request import DANGER, HEADERS, SAFE, Request, call, row

CALL = call().encode()


def raw(head, body=CALL):
    return Request(raw=head.replace("\n", "\r\n").encode() + body)


def with_headers(**headers):
    return Request(CALL, {name.replace("_", "-"): value for name, value in headers.items()})


def plain(*lines, start="POST /payments/mcp HTTP/1.1"):
    """The head of a call with `lines` for its framing."""
    usual = [f"{name}: {value}" for name, value in HEADERS.items()]
    return "\n".join([start, *usual, *lines]) + "\n\n"


CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CALL), CALL)
DANGEROUS = call(name=DANGER).encode()
# Other spellings of the server's path, and of one beside it.
PATHS = [
    "/payments/mcp/", "//payments/mcp", "/payments//mcp", "/x/../payments/mcp", "/payments/./mcp", "/%70ayments/mcp", "/payments/mcp?token=x",
    "/payments/mcp#x", "/payments/mcp/more", "/PAYMENTS/mcp", "/payments/MCP", "/payments/mcp;a", "/payments%2fmcp", "/payments\\mcp", "/payments/mcp%2f", "/payments/mcp%00",
    "/payments/%2e%2e/payments/mcp", "/payments/mcp%3b", "/payments/sse", "/payments/messages",
]

SPELLINGS = [Request(DANGEROUS, path=path) for path in PATHS]

# H70: headers that only a gateway says.
INTERNAL = [
    "x-mcp-verified-spiffe-id", "x-mcp-decision", "x-sallyport-reason", "x-envoy-original-path", "x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-decorator-operation", "x-envoy-expected-rq-timeout-ms", "authorization",
]

MEDIA = [
    row("H60", "T", "content_type", *(with_headers(content_type=media) for media in (
        "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json-patch+json", "application/vnd.x+json",
        "text/plain; a=application/json", "", "application/json; profile=x", "*/*",
    ))),
    row("H60", "T", "content_type", with_headers(content_type=None)),
    row("H61", "T", "content_type", with_headers(content_type="application/json, text/plain"), Request(CALL, also=[("content-type", "text/plain")]), Request(CALL, also=[("content-type", "application/json")])),
    row("H62", "F", None, with_headers(content_type="APPLICATION/JSON")),
    row("H63", "A", "not_acceptable", *(with_headers(accept=media) for media in (
        None, "*/*", "application/json", "text/event-stream", "application/json, text/event-stream;q=0", "application/json;q=0.0, text/event-stream", "application/*, text/*",
    ))),
    row("H63", "F", None, with_headers(accept="text/event-stream;q=0.5 , application/json")),
    row("H64", "N", "http_method", *(Request(CALL, method=method) for method in ("PUT", "PATCH", "HEAD"))),
    row("H64", "N", "http_method", *(Request(CALL, method=method) for method in ("GET", "DELETE"))),
    row("H64", "N", "http_method", *(Request(CALL, {name: "POST"}) for name in ("x-http-method-override", "x-method-override", "x-http-method"))),
]

FRAMING = [
    row("H65", "E", None,
        raw(plain(f"content-length: {len(CALL)}", "transfer-encoding: chunked"), CHUNKED),
        raw(plain(f"content-length: {len(CALL)}", f"content-length: {len(CALL) + 1}")),
        raw(plain(f"content-length: {len(CALL)}", f"content-length: {len(CALL)}")),
        raw(plain("content-length: +5")),
        raw(plain("transfer-encoding: gzip, chunked"), CHUNKED),
        raw(plain("transfer-encoding: chunked, identity"), CHUNKED),
        raw(plain(f"content-length: {len(CALL)}", "x-bad\x01: a")),
        raw(plain(f"content-length : {len(CALL)}")),
        raw(plain("transfer-encoding: chunked"), b"zz\r\n" + CHUNKED),
        raw(plain(start="post /payments/mcp HTTP/1.1 x"))),
    row("H65", "P", "json_syntax", raw(plain("content-length: 20", "connection: close"), CALL[:20])),
    row("H65", "F", None, Request(CALL, chunks=[CALL[:7], CALL[7:]]), Request(CALL, chunks=[bytes([byte]) for byte in CALL])),
    # Unfolded before it is judged.
    row("H65", "I", "invalid_header", Request(CALL, {"mcp-session-id": "a\r\n b"})),
    row("H65", "F", None, Request(CALL, {"x-folded": "a\r\n b"})),
    row("H66", "F", None, Request(CALL, chunks=[CALL], trailers=[("mcp-name", DANGER), ("x-mcp-human-id", "root")])),
    row("H68", "E", None, raw(plain("connection: upgrade", "upgrade: websocket", "content-length: 0", start="GET /payments/mcp HTTP/1.1"), b"")),
]

ORIGINS = [
    row("H69", "O", "origin", *(with_headers(origin=origin) for origin in ("http://evil.example", "null", "", "https://localhost.evil.example", "http://user@evil.example", "file://"))),
    row("H69", "O", "origin", Request(CALL, also=[("origin", "http://localhost"), ("origin", "http://evil.example")])),
    row("H69", "O", "no_route", with_headers(host="evil.example"), with_headers(host="evil.example", origin="http://evil.example"), with_headers(host="localhost.evil.example:80")),
    row("H69", "O", "no_route", Request(CALL, path="http://evil.example/payments/mcp")),
    row("H69", "F", None, with_headers(origin="http://localhost"), with_headers(x_forwarded_host="evil.example")),
    row("H71", "E", None, Request(CALL, also=[("mcp_name", DANGER)]), Request(CALL, also=[("x_mcp_human_id", "root")])),
    row("H71", "I", "invalid_header", Request(CALL, also=[("mcp.name", DANGER)]), Request(CALL, also=[("mcp.session.id", "x")])),
]

IDENTITY = [
    row("M119", "U", "missing_identity", with_headers(x_mcp_human_id=None, x_mcp_agent_id=None, x_mcp_agent_session=None, authorization="Bearer x")),
    row("M119", "U", "missing_session", with_headers(x_mcp_agent_session=None)),
    row("M119", "U", "session_not_found", with_headers(x_mcp_human_id="somebody"), with_headers(x_mcp_agent_session="sess-report"), with_headers(x_mcp_agent_session="other/sess-ops")),
    row("M119", "I", "repeated_header", *(Request(CALL, also=[(name, "other")]) for name in ("x-mcp-human-id", "X-MCP-Agent-ID", "x-mcp-agent-session"))),
    row("M125", "D", "tool_side_effect_unknown", *(call(name=name) for name in ('a\\"b', "a,b", "a\\r\\nx-injected: 1", "<script>"))),
]

ROWS = MEDIA + FRAMING + ORIGINS + IDENTITY

"""A request as bytes: the clients that libraries offer would not send most of these."""

import dataclasses
import json

HEADERS = {
    "host": "localhost",
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "x-mcp-human-id": "user-123",
    "x-mcp-agent-id": "ops-agent",
    "x-mcp-agent-session": "sess-ops",
}
MODERN = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
# What the caller may call, and what it may not.
SAFE, DANGER = "list_invoices", "refund_invoice"


@dataclasses.dataclass
class Request:
    body: bytes = b""
    headers: dict = dataclasses.field(default_factory=dict)
    also: list = dataclasses.field(default_factory=list)
    method: str = "POST"
    path: str = "/payments/mcp"
    chunks: list | None = None
    trailers: list = dataclasses.field(default_factory=list)
    raw: bytes | None = None

    def bytes(self):
        """`headers` replace the usual ones, or take them away (None); `also` come on top; `chunks` cut the body."""
        if self.raw is not None:
            return self.raw
        pairs = [(name, value) for name, value in {**HEADERS, **self.headers}.items() if value is not None] + self.also
        names = {name.lower() for name, _ in pairs}
        if self.chunks is not None:
            pairs.append(("transfer-encoding", "chunked"))
        elif "content-length" not in names:
            pairs.append(("content-length", str(len(self.body))))
        lines = [f"{self.method} {self.path} HTTP/1.1".encode()]
        lines += [name.encode("latin-1") + b": " + (value if isinstance(value, bytes) else value.encode("latin-1")) for name, value in pairs]
        return b"\r\n".join(lines) + b"\r\n\r\n" + (self.body if self.chunks is None else self.chunked())

    def chunked(self):
        parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in self.chunks]
        return b"".join(parts) + b"0\r\n" + b"".join(f"{n}: {v}\r\n".encode() for n, v in self.trailers) + b"\r\n"


@dataclasses.dataclass
class Row:
    """`outcome` is the table's code, or one of ours (see `tests/bad_input.py`); `reason` what the gateway must say, if it is the one to answer."""

    number: str
    outcome: str
    reason: str | None
    requests: list


def row(number, outcome, reason, *requests):
    return Row(number, outcome, reason, [as_request(r) for r in requests])


def as_request(what):
    if isinstance(what, Request):
        return what
    return Request(what if isinstance(what, bytes) else what.encode())


def call(params=None, top="", arguments="{}", name=SAFE):
    """A legacy `tools/call` as text: `params` are members in place of the usual ones, `top` more members of the message."""
    params = f'"name":"{name}","arguments":{arguments}' if params is None else params
    return f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params}}}{top}}}'


def message(method, params=None, number=1):
    told = {"jsonrpc": "2.0", "id": number, "method": method}
    return json.dumps({**told, "params": params} if params is not None else told)


def modern(name=SAFE, headers=None, body=None, also=(), **members):
    """A modern `tools/call` whose headers and body agree, but for what is replaced."""
    if body is None:
        body = message("tools/call", {"name": name, "arguments": {}, "_meta": META, **members})
    usual = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": name}
    return Request(body.encode(), {**usual, **(headers or {})}, list(also))


def modern_of(method, params=None, headers=None, meta=META):
    """Any modern request; `headers` come on top of version and method."""
    body = message(method, {**(params or {}), **({"_meta": meta} if meta is not None else {})})
    return Request(body.encode(), {"mcp-protocol-version": MODERN, "mcp-method": method, **(headers or {})})


def legacy(body, version="2025-11-25", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(body.encode(), {"mcp-protocol-version": version, **named})

"""Groups I to K: protocol eras and mirrored headers, sessions, and calls that mean something else than they look."""

import base64

from vectors.request import DANGER, META, MODERN, SAFE, Request, call, legacy, message, modern, modern_of, row


def encoded(name):
    return f"=?base64?{base64.b64encode(name.encode()).decode()}?="


PROPOSAL = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
LEGACY_META = {**META, "io.modelcontextprotocol/protocolVersion": "2025-11-25"}


def read(uri):
    return message("resources/read", {"uri": uri})


def completion(kind, **ref):
    return message("completion/complete", {"ref": {"type": kind, **ref}, "argument": {"name": "a", "value": "b"}})


def listen(*uris):
    return modern_of("subscriptions/listen", {"notifications": {"resourceSubscriptions": list(uris)}})


HEADERS = [
    row("I72", "H", "header_mismatch", modern(DANGER, {"mcp-name": SAFE}), modern(SAFE, {"mcp-name": DANGER}), modern(SAFE, {"mcp-name": SAFE.upper()})),
    row("I73", "H", "header_mismatch", legacy(call(name=DANGER), mcp_name=SAFE), Request(call(name=DANGER).encode(), {"mcp-name": SAFE}), Request(call(name=DANGER).encode(), {"mcp-method": "ping"})),
    row("I74", "H", "header_mismatch", modern(SAFE, {"mcp-protocol-version": "2025-11-25"})),
    row("I75", "H", "header_mismatch", modern(SAFE, {"mcp-protocol-version": None}), modern(SAFE, {"mcp-protocol-version": None, "mcp-method": None, "mcp-name": None})),
    row("I76", "M4", "missing_meta", modern(body=call()), modern(_meta={}), modern(_meta={"io.modelcontextprotocol/protocolVersion": MODERN}), modern_of("tools/list", meta=None)),
    row("I77", "H", "header_mismatch", modern(also=[("mcp-protocol-version", "2025-11-25")]), modern(SAFE, {"mcp-protocol-version": "2025-11-25"}, also=[("mcp-protocol-version", MODERN)]), modern(also=[("mcp-protocol-version", MODERN)])),
    row("I78", "V", "unsupported_version", *(legacy(call(), version) for version in ("9999-01-01", "", f"{MODERN}, 2025-11-25", "2024-10-07", "2.0", "latest", "DRAFT-2026-v1"))),
    row("I78", "F", None, modern(SAFE, {"mcp-protocol-version": f"  {MODERN} ", "mcp-name": f" {SAFE}\t"})),
    row("I79", "H", "header_mismatch", *(modern(SAFE, {"mcp-method": method}) for method in (None, "tools/list", "TOOLS/CALL", "", encoded("tools/call")))),
    row("I80", "H", "header_mismatch", modern(SAFE, {"mcp-name": None}), modern_of("resources/read", {"uri": "invoice://7"}), modern_of("prompts/get", {"name": "summarise_invoice"})),
    row("I81", "H", "header_mismatch", modern(also=[("mcp-name", DANGER)]), modern(SAFE, {"mcp-name": DANGER}, also=[("mcp-name", SAFE)]), modern(SAFE, {"mcp-name": f"{SAFE}, {DANGER}"})),
    row("I82", "F", None, modern(SAFE, {"mcp-name": encoded(SAFE)})),
    row("I82", "H", "header_mismatch", *(modern(SAFE, {"mcp-name": value}) for value in (
        encoded(SAFE).replace("base64", "BASE64"), encoded(SAFE).replace("==", ""), encoded(SAFE).replace("==", "="), encoded(SAFE).replace("?=", " ?="),
        encoded(encoded(SAFE)), "=?base64?_-8=?=", "=?base64?/w==?=", encoded(SAFE)[:-2], encoded(SAFE)[9:], "=?base64??=",
    ))),
    row("I83", "H", "header_mismatch", modern(SAFE, {"mcp-name": encoded(SAFE).replace("w==", "x==")})),
    row("I84", "H", "header_mismatch", modern("=?base64?plain?="), modern("=?base64?Zg==?=")),
    row("I85", "H", "header_mismatch", *(modern_of(method, None, {"mcp-name": SAFE}) for method in ("tools/list", "server/discover", "prompts/list")), Request(message("ping").encode(), {"mcp-name": SAFE})),
    # Which arguments headers mirror is not known here: they pass, and decide nothing.
    row("I86", "F", None, modern(SAFE, {"mcp-param-region": "eu"})),
    row("I88", "L", "headers_too_large", modern(also=[(f"mcp-param-{n}", "x") for n in range(70)]), modern(SAFE, {"mcp-param-a": "x" * 9000})),
    row("I88", "E", None, modern(also=[(f"mcp-param-{n}", "x") for n in range(200)]), modern(SAFE, {"mcp-param-a": "x" * 65536})),
    # Refused as the suite for conformance wants it: the modern era has no such method.
    row("I89", "R", "method_removed", modern_of("initialize", PROPOSAL), modern_of("ping"), modern_of("resources/subscribe"), modern_of("tasks/list")),
    row("I89", "F", None, modern(SAFE, {"mcp-session-id": "abc", "last-event-id": "1"})),
    row("I90", "I", "not_a_notification", modern(body=modern().body.decode().replace('"id": 1, ', ""))),
    row("I90", "H", "header_mismatch", Request(b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}', {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": DANGER})),
    row("I91", "D", "trust_too_low", modern(DANGER), call(name=DANGER), message("tools/call", {"name": DANGER, "arguments": {}})),
    row("I91", "J", "trust_too_low", *(legacy(call(name=DANGER), version) for version in ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"))),
]

SESSIONS = [
    row("J93", "F", None, Request(message("initialize", PROPOSAL).encode(), {"mcp-session-id": "chosen-by-the-caller"})),
    row("J94", "I", "invalid_header", *(legacy(call(), mcp_session_id=value) for value in ("a b", "x" * 8192, "", "\x80", "a\tb"))),
    row("J94", "I", "repeated_header", Request(call().encode(), also=[("mcp-session-id", "a"), ("mcp-session-id", "b")])),
]

STATE = {"requestState": "made-for-another-call", "inputResponses": {"confirm": {"action": "accept"}}}
ODD_URIS = [
    "invoice://7/../8", "invoice://%2e%2e", "invoice://%252e", "INVOICE://7", "invoice://7\\8", "invoice://7#x", "invoice://7\u0000", "invoice://\u2025",
    "invoice://{id}", "invoice://%37", "invoice://7%2f8", "7", "", "//7", "invoice://a b",
]

MEANING = [
    row("K100", "D", "trust_too_low", modern(DANGER, **STATE), message("tools/call", {"name": DANGER, "arguments": {}, **STATE})),
    row("K100", "F", None, modern(SAFE, **STATE)),
    row("K100", "L", "body_too_large", modern(SAFE, requestState="x" * (1 << 20))),
    row("K103", "D", "task_not_declared", modern_of("tasks/get", {"taskId": "1"}), modern_of("tasks/update", {"taskId": "1"}), message("tools/call", {"name": SAFE, "task": {"ttl": 1}})),
    row("K103", "H", "header_mismatch", modern_of("tasks/get", {"taskId": "1"}, {"mcp-name": "2"})),
    row("K104", "D", "prompt_not_declared", completion("ref/prompt", name="other")),
    row("K104", "D", "resource_not_declared", completion("ref/resource", uri="file:///etc/passwd")),
    row("K104", "I", "invalid_params", completion("ref/other", name="summarise_invoice"), message("completion/complete", {})),
    row("K105", "D", "resource_not_declared", listen("invoice://7", "invoice://8", "file:///etc/passwd")),
    row("K106", "D", "resource_uri_not_normal", *(read(uri) for uri in ODD_URIS)),
    row("K106", "D", "resource_not_declared", read("file:///etc/passwd"), read("invoice://7/lines"), read("invoice:///7"), read("invoice://"), read("x-invoice://7")),
    row("K108", "D", "trust_too_low", message("tools/call", {"name": DANGER, "arguments": {}, "_meta": {"clientInfo": {"name": "trusted"}, "traceparent": "forged"}})),
    row("K108", "F", None, Request(call().encode(), {"traceparent": "forged", "baggage": "role=admin"})),
]

ROWS = HEADERS + SESSIONS + MEANING

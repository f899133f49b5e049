"""Requests that only HTTP/2 can carry."""

import json

from fixtures import http2
from harness import IDENTITY, MEDIA, test, until


def call(stack, tool, trailers=(), body=None):
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
    headers = [(":method", "POST"), (":scheme", "http"), (":path", "/payments/mcp"), (":authority", "127.0.0.1")]
    headers += [*MEDIA.items(), *IDENTITY.items()]
    body = json.dumps(message).encode() if body is None else body
    return json.loads(http2.exchange(stack.ports["listen"], headers, body, trailers))


@test
def calls_over_http_2_are_governed_as_those_over_http_1(stack):
    answer = call(stack, "list_invoices")
    assert "result" in answer, answer
    assert call(stack, "refund_invoice")["error"]["data"]["reason"] == "trust_too_low"


@test
def a_request_with_trailers_is_refused_and_reaches_no_server(stack):
    before = len(stack.upstream.seen)
    # Without a verdict of the filter Envoy would let them go on as soon as the trailers arrive.
    for tool in ["refund_invoice", "list_invoices"]:
        answer = call(stack, tool, [("x-after", "1")])
        assert answer["error"]["data"]["reason"] == "trailers", answer
    answer = call(stack, "list_invoices", [("x-after", "1")], body=b"")
    assert answer["error"]["data"]["reason"] == "trailers", answer
    assert len(stack.upstream.seen) == before
    until(lambda: len(stack.events(reason="trailers")) == 3, what="events of the refusals")

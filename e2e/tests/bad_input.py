"""The table of bad inputs against the real thing: what must be refused is refused with its status, code and reason, reaches
no server and leaves an event; what must pass arrives byte for byte."""

import collections
import http.client
import json
import socket

from harness import IDENTITY, MEDIA, test, until
from vectors import bodies, eras, shapes, transport

# Outcome -> HTTP status and JSON-RPC code that it may show as. Beside them: F, forwarded as it is; E, refused by Envoy itself.
OUTCOMES = {
    "P": {(400, -32700)},
    "I": {(400, -32600)},
    "H": {(400, -32020)},
    "V": {(400, -32022)},
    "M4": {(400, -32602)},
    "R": {(404, -32601)},
    "T": {(415, -32600)},
    "A": {(406, -32600)},
    "L": {(413, -32600), (431, -32600)},
    "L-": {(413, None)},
    "O": {(403, -32600), (404, -31403)},
    "N": {(405, -32600)},
    "U": {(401, -31401)},
    "D": {(403, -31403), (404, -32601)},
    # A denial within a legacy session: as result of the call.
    "J": {(200, -31403)},
}


def exchange(stack, request):
    """Status and body of the answer; None: the connection was closed without one. Fails if nothing happens."""
    with socket.create_connection(("127.0.0.1", stack.ports["listen"]), timeout=10) as connection:
        try:
            connection.sendall(request.bytes())
        except OSError:
            pass  # refused before it was all sent; the answer may be there
        answer = http.client.HTTPResponse(connection, method=request.method)
        try:
            answer.begin()
            return answer.status, answer.read()
        except (http.client.HTTPException, ConnectionError):
            return None


def complaint(stack, row, request):
    """What is wrong with how a request was treated; none: nothing."""
    before = len(stack.upstream.seen)
    try:
        answer = exchange(stack, request)
    except TimeoutError:
        return f"no answer; {len(stack.upstream.seen) - before} at the server"
    seen = stack.upstream.seen[before:]
    if row.outcome == "F":
        body = b"".join(request.chunks) if request.chunks is not None else request.body
        passed = answer is not None and answer[0] == 200 and [message["body"] for message in seen] == [body]
        return None if passed else f"not passed as it is: {answer}, {len(seen)} at the server"
    if seen:
        return f"the server saw it: {seen[0]['body'][:200]}"
    if row.outcome == "E":
        # Envoy itself refuses; it may only close.
        return None if answer is None or 400 <= answer[0] <= 501 and answer[0] != 500 else f"not refused: {answer}"
    if answer is None:
        return "closed without an answer"
    if request.method == "HEAD" or row.outcome == "L-":
        return None if answer[0] in {status for status, _ in OUTCOMES[row.outcome]} else f"told {answer}"
    try:
        error = json.loads(answer[1])["error"]
        told = (answer[0], error["code"]), error["data"]["reason"]
    except (ValueError, KeyError):
        return f"told {answer}"
    return None if told[0] in OUTCOMES[row.outcome] and told[1] == row.reason else f"told {told}"


def check(stack, rows):
    wrong, reasons = [], collections.Counter()
    counted = events_by_reason(stack, {row.reason for row in rows})
    for row in rows:
        for number, request in enumerate(row.requests):
            fault = complaint(stack, row, request)
            if fault:
                wrong.append(f"{row.number}[{number}] wants {row.outcome} {row.reason or ''}: {fault}\n      {request.bytes()[:300]}")
            reasons[row.reason] += row.reason is not None
    assert not wrong, f"{len(wrong)} are treated wrongly:\n" + "\n".join(wrong)
    del reasons[None]
    expected = counted + reasons
    until(lambda: events_by_reason(stack, reasons) == expected, what=f"an event for each: {expected}")
    print(f"    {len({row.number for row in rows})} rows, {sum(len(row.requests) for row in rows)} requests")


def events_by_reason(stack, reasons):
    """How many events there are for each reason."""
    counted = collections.Counter()
    for reason in reasons - {None} if isinstance(reasons, set) else reasons:
        cursor = None
        while True:
            query = f"events/filter?limit=1000&reason={reason}" + (f"&cursor={cursor}" if cursor else "")
            page = stack.api("GET", query)[1]
            counted[reason] += len(page["events"])
            cursor = page["next"]
            if not cursor:
                break
    return counted


@test
def keys_that_stand_twice_or_look_like_others_are_refused(stack):
    check(stack, bodies.KEYS)


@test
def strings_mean_what_they_decode_to_or_are_refused(stack):
    check(stack, bodies.STRINGS)


@test
def bodies_that_are_not_plain_json_in_utf_8_are_refused(stack):
    check(stack, bodies.ENCODINGS)


@test
def numbers_and_types_that_readers_take_differently_are_refused(stack):
    check(stack, bodies.NUMBERS)


@test
def what_is_no_request_of_json_rpc_is_refused(stack):
    check(stack, shapes.SHAPES)


@test
def batches_are_refused_in_every_revision(stack):
    check(stack, shapes.BATCHES)


@test
def size_and_depth_have_limits_and_up_to_them_all_is_judged(stack):
    check(stack, shapes.SIZES)


@test
def media_types_and_methods_of_http_that_mcp_does_not_use_are_refused(stack):
    check(stack, transport.MEDIA)


@test
def framing_that_two_parsers_read_differently_is_refused(stack):
    check(stack, transport.FRAMING)


@test
def other_origins_and_hosts_are_refused(stack):
    check(stack, transport.ORIGINS)


@test
def identity_that_is_missing_doubled_or_somebody_elses_is_refused(stack):
    check(stack, transport.IDENTITY)


@test
def headers_and_body_must_tell_one_story(stack):
    check(stack, eras.HEADERS)


@test
def session_ids_are_well_formed_and_not_the_callers_choice(stack):
    check(stack, eras.SESSIONS)
    assert "mcp-session-id" not in stack.upstream.seen[-1]["headers"]


@test
def calls_that_mean_something_else_than_they_look_are_judged_by_what_they_mean(stack):
    check(stack, eras.MEANING)


@test
def no_spelling_of_a_path_leads_around_the_verdict(stack):
    before = len(stack.upstream.seen)
    for request in transport.SPELLINGS:
        answer = exchange(stack, request)
        assert answer is None or answer[0] in (400, 403, 404), (request.path, answer)
    assert len(stack.upstream.seen) == before


@test
def nothing_below_the_endpoints_path_reaches_the_server(stack):
    before = len(stack.upstream.seen)
    for method in ["GET", "DELETE", "POST"]:
        status, _ = stack.request(method, "/payments/mcp/admin", headers={**MEDIA, **IDENTITY, "accept": "text/event-stream"})
        assert status == 404, (method, status)
    assert len(stack.upstream.seen) == before


@test
def what_a_client_says_about_the_gateway_or_of_its_token_reaches_no_server(stack):
    forged = {name: "forged" for name in transport.INTERNAL}
    assert stack.call("list_invoices", {**MEDIA, **IDENTITY, **forged})[0] == 200
    seen = stack.upstream.seen[-1]["headers"]
    assert not forged.keys() & seen.keys(), forged.keys() & seen.keys()


@test
def a_request_that_ends_early_reaches_no_server_and_is_recorded(stack):
    before = len(stack.upstream.seen)
    start = "POST /payments/mcp/ends-early HTTP/1.1"
    for head in (transport.plain("content-length: 500", start=start), transport.plain("transfer-encoding: chunked", start=start)):
        with socket.create_connection(("127.0.0.1", stack.ports["listen"]), timeout=10) as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + (b"" if "500" not in head else transport.CALL[:40]))

    def recorded():
        return sum("ends-early" in json.dumps(event) for event in stack.events(reason="incomplete")) == 2

    until(recorded, what="events of the two")
    assert len(stack.upstream.seen) == before


@test
def a_client_that_waits_for_leave_to_send_its_body_is_given_it(stack):
    head = transport.plain(f"content-length: {len(transport.CALL)}", "expect: 100-continue", "connection: close")
    with socket.create_connection(("127.0.0.1", stack.ports["listen"]), timeout=10) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(transport.CALL)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
    assert stack.upstream.seen[-1]["body"] == transport.CALL

"""What is let through, what is refused and why."""

import json

from harness import IDENTITY, MEDIA, until, test


@test
def an_allowed_call_reaches_the_server_byte_for_byte(stack):
    body = b'{ "jsonrpc":"2.0","id":"a\\u0062","method":"tools/call","params":{"name":"list_invoices","arguments":{"n":1.50}} }'
    status, answer = stack.post(body)
    assert status == 200, answer
    assert stack.upstream.seen[-1]["body"] == body
    assert stack.upstream.seen[-1]["path"] == "/mcp"


@test
def every_kind_of_denial_has_its_reason_and_reaches_no_server(stack):
    report = {"x-mcp-human-id": "user-123", "x-mcp-agent-id": "report-agent", "x-mcp-agent-session": "sess-report"}
    cases = [
        ("refund_invoice", IDENTITY, 403, "trust_too_low"),
        ("add_note", report, 403, "side_effect_not_allowed"),
        ("refund_invoice", report, 403, "tool_not_granted"),
        ("drop_tables", IDENTITY, 403, "tool_side_effect_unknown"),
        ("list_invoices", {}, 401, "missing_identity"),
        ("list_invoices", {k: v for k, v in IDENTITY.items() if "session" not in k}, 401, "missing_session"),
        ("list_invoices", {**IDENTITY, "x-mcp-agent-session": "sess-report"}, 401, "session_not_found"),
        ("list_invoices", {**IDENTITY, "x-mcp-agent-id": "intruder"}, 401, "session_not_found"),
    ]
    before = len(stack.upstream.seen)
    for tool, identity, status, reason in cases:
        answer = stack.call(tool, {**MEDIA, **identity})
        assert (answer[0], stack.reason(answer)) == (status, reason), (tool, identity, answer)
        assert json.loads(answer[1])["id"] == 7
    assert len(stack.upstream.seen) == before


@test
def inside_a_legacy_session_a_denial_is_a_json_rpc_error(stack):
    answer = stack.call("refund_invoice", {**MEDIA, **IDENTITY, "mcp-protocol-version": "2025-11-25"})
    assert (answer[0], stack.reason(answer)) == (200, "trust_too_low"), answer


@test
def the_modern_era_is_governed_alike_and_its_headers_must_agree(stack):
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}

    def call(tool, name):
        headers = {**MEDIA, **IDENTITY, "mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": name}
        return stack.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}, "_meta": meta}}, headers)

    assert call("list_invoices", "list_invoices")[0] == 200
    assert call("list_invoices", "=?base64?bGlzdF9pbnZvaWNlcw==?=")[0] == 200
    before = len(stack.upstream.seen)
    denied, lying = call("refund_invoice", "refund_invoice"), call("refund_invoice", "list_invoices")
    assert (denied[0], stack.reason(denied)) == (403, "trust_too_low")
    assert (lying[0], stack.reason(lying), json.loads(lying[1])["error"]["code"]) == (400, "header_mismatch", -32020)
    assert len(stack.upstream.seen) == before


@test
def what_cannot_be_read_for_sure_is_refused_before_any_server_sees_it(stack):
    call = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_invoices","arguments":{}%s}%s}'
    bodies = [
        (call % (',"name":"refund_invoice"', ""), "duplicate_key"),
        (call % (',"n\\u0061me":"refund_invoice"', ""), "duplicate_key"),
        (call % (',"Name":"refund_invoice"', ""), "lookalike_key"),
        (call % (',"name\\u0000":"refund_invoice"', ""), "lookalike_key"),
        (call % ("", ',"method":"ping"'), "duplicate_key"),
        (call % ("", ',"Method":"ping"'), "unknown_member"),
        ("[" + call % ("", "") + "]", "batch"),
        (call % ("", "") + "{}", "json_syntax"),
        ("\ufeff" + call % ("", ""), "body_not_utf8"),
        (call.replace('"id":1', '"id":1.5') % ("", ""), "invalid_id"),
        (call.replace('"id":1,', "") % ("", ""), "not_a_notification"),
        (call.replace("{}%s", "[]%s") % ("", ""), "invalid_params"),
        (call.replace("{}%s", '{"a":' + "[" * 70 + "]" * 70 + "}%s") % ("", ""), "too_deep"),
        ("nonsense", "json_syntax"),
        ("", "json_syntax"),
    ]
    before = len(stack.upstream.seen)
    for body, reason in bodies:
        status, answer = stack.post(body.encode())
        assert (status, json.loads(answer)["error"]["data"]["reason"]) == (400, reason), (body, status, answer)
    good = (call % ("", "")).encode()
    headers = [
        ({"content-type": "text/plain"}, 415, "content_type"),
        ({"content-encoding": "gzip"}, 415, "content_encoding"),
        ({"accept": "application/json"}, 406, "not_acceptable"),
        ({"origin": "http://evil.example"}, 403, "origin"),
        ({"mcp-protocol-version": "9999-01-01"}, 400, "unsupported_version"),
        ({"mcp-name": "refund_invoice"}, 400, "header_mismatch"),
        ({"mcp-session-id": "a b"}, 400, "invalid_header"),
    ]
    for changed, status, reason in headers:
        answer = stack.post(good, {**MEDIA, **IDENTITY, **changed})
        assert (answer[0], stack.reason(answer)) == (status, reason), (changed, answer)
    twice = [*MEDIA.items(), *IDENTITY.items(), ("x-mcp-agent-id", "other")]
    assert stack.post(good, twice)[0] == 400
    large = stack.call("list_invoices", pad="x" * (1 << 20))
    assert (large[0], stack.reason(large)) == (413, "body_too_large")
    assert len(stack.upstream.seen) == before


@test
def the_server_sees_no_internal_headers_and_no_token_of_the_caller(stack):
    stack.call("list_invoices", {**MEDIA, **IDENTITY, "x-mcp-verified-spiffe-id": "forged", "authorization": "Bearer mine"})
    headers = stack.upstream.seen[-1]["headers"]
    assert "x-mcp-verified-spiffe-id" not in headers and "authorization" not in headers, headers
    assert headers["x-mcp-human-id"] == "user-123"


@test
def a_path_that_leads_nowhere_is_not_found_and_recorded(stack):
    status, _ = stack.request("POST", "/other/mcp", b"{}", {**MEDIA, **IDENTITY})
    assert status == 404
    until(lambda: stack.events(reason="no_route"), what="event of the missing route")


@test
def explain_tells_what_the_proxy_does(stack):
    question = {
        "namespace": "mcp-servers", "server": "payments",
        "identity": {"humanID": "user-123", "agentID": "ops-agent", "sessionID": "sess-ops"},
        "request": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "refund_invoice", "arguments": {}}},
    }
    status, answer = stack.api("POST", "runtime/policy/explain", question)
    assert status == 200 and (answer["decision"], answer["reason"]) == ("deny", "trust_too_low"), answer
    assert [step["step"] for step in answer["steps"]] == ["governed", "identity", "session", "inventory", "grant", "default"]


@test
def counters_appear_with_their_labels_in_the_proxys_statistics(stack):
    def counted():
        _, text = stack.request("GET", "/stats/prometheus?filter=sallyport", port="envoy-admin")
        return b'sallyport_reason="trust_too_low"' in text and b'sallyport_server="mcp-servers/payments"' in text

    until(counted, what="counter")


@test
def an_mcp_session_is_its_first_callers_on_every_worker(stack):
    session = {"mcp-session-id": "mcp-session-of-ops", "mcp-protocol-version": "2025-11-25"}
    thief = {"x-mcp-human-id": "user-123", "x-mcp-agent-id": "report-agent", "x-mcp-agent-session": "sess-report"}
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert stack.post(ping, {**MEDIA, **IDENTITY, **session})[0] == 200
    before = len(stack.upstream.seen)
    # Each connection meets any of the workers.
    for _ in range(20):
        answer = stack.post(ping, {**MEDIA, **thief, **session})
        assert (answer[0], stack.reason(answer)) == (404, "mcp_session_of_another"), answer
    status, _ = stack.request("DELETE", "/payments/mcp", headers={**MEDIA, **thief, **session})
    assert status == 404
    assert len(stack.upstream.seen) == before
    assert stack.post(ping, {**MEDIA, **IDENTITY, **session})[0] == 200

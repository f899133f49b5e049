"""End-to-end tests against the real things. One stack serves them all, in order; each undoes what it changed."""

import http.client
import json
import os
import signal
import sys
import threading
import time
import traceback

from harness import IDENTITY, MEDIA, Stack, until

TESTS = []


def test(function):
    TESTS.append(function)
    return function


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
def more_consent_allows_and_less_denies_again(stack):
    path = stack.config / "access.yaml"
    before = path.read_text()
    path.write_text(before.replace("consentedTrust: medium", "consentedTrust: high"))
    until(lambda: stack.call("refund_invoice")[0] == 200, what="raised consent")
    path.write_text(before)

    def refused():
        try:
            return stack.call("refund_invoice")[0] == 403
        except (OSError, http.client.HTTPException):
            return False  # a call that was under way when it lost its ground was cut

    until(refused, what="lowered consent")


@test
def a_revocation_is_enforced_when_the_command_returns(stack):
    done = stack.cli("session", "revoke", "mcp-servers/sess-ops")
    assert done.returncode == 0, done
    print("   ", done.stdout.strip())
    for _ in range(20):
        answer = stack.call("list_invoices")
        assert (answer[0], stack.reason(answer)) == (401, "session_revoked"), answer
    assert stack.cli("session", "unrevoke", "mcp-servers/sess-ops").returncode == 0
    assert stack.call("list_invoices")[0] == 200


@test
def an_open_stream_of_a_revoked_session_is_cut(stack):
    ended = []

    def listen():
        headers = {"accept": "text/event-stream", **IDENTITY}
        try:
            ended.append(stack.request("GET", "/payments/mcp", None, headers, timeout=20)[0])
        except Exception as error:  # the stream breaks off
            ended.append(type(error).__name__)

    stream = threading.Thread(target=listen, daemon=True)
    stream.start()
    until(lambda: stack.events(decision="allow", session_id="sess-ops", event_type="mcp.request")[0]["payload"]["method"] == "GET", what="stream is told of")
    assert stack.cli("session", "revoke", "mcp-servers/sess-ops").returncode == 0
    began = time.monotonic()
    stream.join(5)
    assert not stream.is_alive(), "stream is still open"
    print(f"    cut {1000 * (time.monotonic() - began):.0f} ms after the command returned")
    assert stack.cli("session", "unrevoke", "mcp-servers/sess-ops").returncode == 0
    until(lambda: any(e["payload"].get("cut") for e in stack.events()), what="event of the cut")


@test
def a_disabled_grant_denies_at_once(stack):
    status, answer = stack.api("POST", "runtime/grants/mcp-servers/payments-ops-agent/disable")
    assert status == 200 and answer["enforced"]["complete"], answer
    denied = stack.call("list_invoices")
    assert (denied[0], stack.reason(denied)) == (403, "grant_disabled")
    assert stack.api("POST", "runtime/grants/mcp-servers/payments-ops-agent/enable")[0] == 200
    assert stack.call("list_invoices")[0] == 200


@test
def a_bad_manifest_is_reported_and_changes_nothing(stack):
    path = stack.config / "access.yaml"
    before = path.read_text()
    path.write_text(before.replace("maxTrust: high", "maxTrust: hihg", 1))
    problems = until(lambda: stack.api("GET", "runtime/components")[1]["problems"]["files"], what="problem is told")
    assert problems[0]["path"] == "spec.maxTrust" and "did you mean `high`?" in problems[0]["message"], problems
    assert stack.call("list_invoices")[0] == 200
    path.write_text(before)
    until(lambda: not stack.api("GET", "runtime/components")[1]["problems"]["files"], what="problem is gone")


@test
def the_api_wants_a_key_and_tells_what_is_wrong(stack):
    assert stack.api("GET", "runtime/grants", key="wrong")[0] == 401
    assert stack.api("GET", "nothing")[0] == 404
    grant = {"name": "g", "namespace": "mcp-servers", "serverRef": {"name": "nobody"}, "subject": {"humanID": "h"}}
    status, answer = stack.api("POST", "runtime/grants", grant)
    assert status == 400 and "unknown serverRef" in answer["message"], answer
    status, answer = stack.api("POST", "runtime/grants", {**grant, "maxTrst": "low"})
    assert status == 400 and "did you mean `maxTrust`?" in answer["message"], answer
    summary = stack.api("GET", "dashboard/summary")[1]
    assert summary["active_grants"] == 2 and summary["total_events"] > 0, summary


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
def a_proxy_without_its_token_gets_no_stream(stack):
    status, _ = stack.request("GET", "/v1/proxies", port="operator-admin")
    proxies = json.loads(_)["proxies"]
    assert status == 200 and all(proxy["proxy"] == "standalone" for proxy in proxies), proxies
    assert sum(proxy["kind"] == "filter" for proxy in proxies) == 3, "two workers and the main thread"


@test
def no_event_is_lost_or_stored_twice_while_the_ingest_is_killed_under_load(stack):
    stop, sent = threading.Event(), []

    def load():
        while not stop.is_set():
            answer = stack.call("list_invoices", {**MEDIA, **IDENTITY, "x-mcp-team-id": "load"})
            sent.append(answer[0])

    workers = [threading.Thread(target=load) for _ in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(3):
        time.sleep(0.7)
        os.kill(stack.run_json()["children"]["ingest"], signal.SIGKILL)
        until(lambda: stack.request_ok("ingest-admin"), what="ingest is back")
    stop.set()
    for worker in workers:
        worker.join()
    assert set(sent) == {200}, set(sent)

    def total():
        cursor, ids = None, []
        while True:
            query = f"events/filter?limit=1000&decision=allow" + (f"&cursor={cursor}" if cursor else "")
            page = stack.api("GET", query)[1]
            ids += [e["payload"]["event_id"] for e in page["events"] if e["payload"].get("subject_team_id") == "load"]
            cursor = page["next"]
            if not cursor:
                return ids

    ids = until(lambda: (lambda ids: len(ids) >= len(sent) and ids)(total()), 30, "every event is stored")
    assert len(ids) == len(set(ids)) == len(sent), (len(ids), len(set(ids)), len(sent))
    assert stack.api("GET", "stats")[1]["missing"] == 0
    print(f"    {len(sent)} calls, {len(ids)} events, 3 kills")


@test
def without_its_control_plane_traffic_goes_on_and_it_heals(stack):
    before = stack.run_json()["children"]["operator"]
    os.kill(before, signal.SIGKILL)
    for _ in range(50):
        assert stack.call("list_invoices")[0] == 200
    until(lambda: stack.run_json()["children"].get("operator") not in (None, before), what="control plane is back")
    until(lambda: sum(p["kind"] == "filter" for p in stack.api("GET", "runtime/components")[1]["proxies"]["proxies"]) >= 3, 20, "filters are back")
    done = stack.cli("session", "revoke", "mcp-servers/sess-ops")
    assert stack.reason(stack.call("list_invoices")) == "session_revoked", done
    assert stack.cli("session", "unrevoke", "mcp-servers/sess-ops").returncode == 0


@test
def counters_appear_with_their_labels_in_the_proxys_statistics(stack):
    def counted():
        _, text = stack.request("GET", "/stats/prometheus?filter=sallyport", port="envoy-admin")
        return b'sallyport_reason="trust_too_low"' in text and b'sallyport_server="mcp-servers/payments"' in text

    until(counted, what="counter")


def main():
    stack = Stack()
    stack.request_ok = lambda port: _ready(stack, port)
    print(f"ready and first verdict after {stack.started_in:.1f} s")
    passed = failed = 0
    wanted = sys.argv[1:]
    for function in TESTS:
        if wanted and function.__name__ not in wanted:
            continue
        try:
            function(stack)
            passed += 1
            print(f"ok      {function.__name__}", flush=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            print(f"FAILED  {function.__name__}", flush=True)
    if failed:
        print((stack.folder / "log").read_text()[-6000:])
    stack.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def _ready(stack, port):
    try:
        return stack.request("GET", "/readyz", port=port, timeout=2)[0] == 200
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())

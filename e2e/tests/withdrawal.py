"""Consent that grows and shrinks, and what is withdrawn while it is in use."""

import http.client
import threading
import time

from harness import IDENTITY, until, test


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

"""The demonstration: a payments server behind Sallyport, and what grants and sessions do to calls. Leaves it running."""

import json
import sys

from harness import IDENTITY, MEDIA, Stack, until

REPORT = {"x-mcp-human-id": "user-123", "x-mcp-agent-id": "report-agent", "x-mcp-agent-session": "sess-report"}


def show(what, answer):
    status, body = answer
    message = json.loads(body)
    verdict = message["error"]["data"]["reason"] if "error" in message else "allowed: " + message["result"]["content"][0]["text"]
    print(f"  {what:<58} HTTP {status}  {verdict}")


def main():
    stack = Stack()
    try:
        walk(stack)
        if "--once" not in sys.argv:
            ports = stack.ports
            print("\nIt goes on running; Ctrl-C stops it. Try next:")
            print(f"  curl -s http://127.0.0.1:{ports['listen']}/payments/mcp -H 'content-type: application/json' \\")
            print("    -H 'accept: application/json, text/event-stream' -H 'x-mcp-human-id: user-123' -H 'x-mcp-agent-id: ops-agent' \\")
            print("    -H 'x-mcp-agent-session: sess-ops' -d '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"list_invoices\"}}'")
            print(f"  curl -s http://127.0.0.1:{ports['api']}/api/v1/runtime/sessions -H \"x-api-key: $(cat {stack.folder}/data/api-key)\"")
            print(f"  target/debug/sallyport session revoke mcp-servers/sess-ops --data {stack.folder}/data")
            print(f"  edit {stack.config}/access.yaml and call again")
            stack.process.wait()
    except KeyboardInterrupt:
        pass
    finally:
        stack.stop()


def walk(stack):
    print(f"Control plane, Envoy, ingest and API are up; first verdict after {stack.started_in:.1f} s.\n")
    show("ops-agent lists invoices", stack.call("list_invoices"))
    show("report-agent calls a tool it was not granted", stack.call("refund_invoice", {**MEDIA, **REPORT}))
    show("ops-agent refunds; the user consented to medium trust", stack.call("refund_invoice"))
    session = {
        "name": "sess-ops", "namespace": "mcp-servers", "serverRef": {"name": "payments"}, "consentedTrust": "high",
        "subject": {"humanID": "user-123", "agentID": "ops-agent"}, "expiresAt": "2099-12-31T23:59:00Z",
    }
    stack.api("POST", "runtime/sessions", session)
    answer = until(lambda: (lambda a: a if a[0] == 200 else None)(stack.call("refund_invoice")), what="raised consent")
    show("the same, after the user consents to high", answer)
    show("report-agent writes; its grant allows reading only", stack.call("add_note", {**MEDIA, **REPORT}))
    show("a call without a session", stack.call("list_invoices", {**MEDIA, **{k: v for k, v in IDENTITY.items() if "session" not in k}}))
    print("  $ sallyport session revoke mcp-servers/sess-ops")
    print("    " + stack.cli("session", "revoke", "mcp-servers/sess-ops").stdout.strip())
    show("ops-agent lists invoices again", stack.call("list_invoices"))
    until(lambda: stack.events(reason="session_revoked"), what="the last event")
    print("\nThe record, newest first:")
    print(stack.cli("events", "--limit", "8").stdout)


if __name__ == "__main__":
    main()

"""Official Python SDK clients through the gateway: what their users see. Every test runs for the last release of the first major
version, whose session ends on an HTTP error, and for the second one in both eras."""

import functools
import json
import select
import subprocess

from harness import ROOT, python, test
from samples import LEGACY, MODERN, OPS, REPORT, Samples

CLIENTS = {"v1_legacy": (1, "legacy", LEGACY), "v2_legacy": (2, "legacy", LEGACY), "v2_modern": (2, "auto", MODERN)}


class SdkClient:
    """A process with one SDK client: see python/client.py."""

    def __init__(self, major, mode, url, headers):
        command = [python(major), ROOT / "e2e/python/client.py", url, mode, json.dumps(headers)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        self.opened = self.hear()

    def hear(self, seconds=30):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        assert line, "the client says nothing" if ready else f"the client is silent for {seconds} s"
        return json.loads(line)

    def ask(self, method, **arguments):
        self.process.stdin.write(json.dumps({"do": method, "with": arguments}) + "\n")
        self.process.stdin.flush()
        return self.hear()

    def tool(self, name, **arguments):
        return self.ask("call_tool", name=name, arguments=arguments)

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def start():
    return Samples()


def for_each_client(function):
    """Registers a test for each kind of client; it takes what connects one, and clients are stopped after it."""
    for name, (major, mode, version) in CLIENTS.items():

        @functools.wraps(function)
        def one(stack, major=major, mode=mode, version=version):
            clients = []

            def connect(identity):
                clients.append(SdkClient(major, mode, stack.url("payments"), identity))
                assert clients[-1].opened["version"] == version, clients[-1].opened
                return clients[-1]

            try:
                function(stack, connect)
            finally:
                for client in clients:
                    client.stop()

        one.__name__ = f"{function.__name__}__{name}"
        test(one)
    return function


def check_denied(answer, reason):
    assert "error" in answer, f"not refused: {answer}"
    error = answer["error"]
    assert error["data"]["reason"] == reason and reason in error["message"], error


def check_allowed(client):
    answer = client.tool("list_invoices")
    assert answer.get("result", {}).get("structuredContent", {}).get("invoices"), answer


@for_each_client
def a_client_connects_lists_and_calls(stack, connect):
    client = connect(OPS)
    assert client.opened["server"] == "payments", client.opened
    names = {tool["name"] for tool in client.ask("list_tools")["result"]["tools"]}
    assert names == {"list_invoices", "add_note", "refund_invoice"}, names
    check_allowed(client)


@for_each_client
def a_denied_call_raises_our_reason_and_the_session_goes_on(stack, connect):
    ops, report = connect(OPS), connect(REPORT)
    cases = [
        (ops, "refund_invoice", "trust_too_low"),
        (ops, "drop_tables", "tool_side_effect_unknown"),
        (report, "refund_invoice", "tool_not_granted"),
        (report, "add_note", "side_effect_not_allowed"),
    ]
    for client, tool, reason in cases:
        check_denied(client.tool(tool, invoice_id="inv-1001", note="denied"), reason)
        check_allowed(client)


@for_each_client
def a_session_revoked_in_the_middle_stops_the_client_until_it_is_lifted(stack, connect):
    client = connect(OPS)
    check_allowed(client)
    assert stack.cli("session", "revoke", "mcp-servers/sess-ops").returncode == 0
    try:
        for _ in range(3):
            check_denied(client.tool("list_invoices"), "session_revoked")
        check_denied(client.ask("read_resource", uri="invoice://inv-1001"), "session_revoked")
    finally:
        assert stack.cli("session", "unrevoke", "mcp-servers/sess-ops").returncode == 0
    check_allowed(client)


@for_each_client
def progress_arrives_while_the_call_goes_on(stack, connect):
    client = connect(OPS)
    stack.consent("sess-ops", "high")
    try:
        answer = client.tool("refund_invoice", invoice_id="inv-1003", amount_cents=100)
        assert answer["result"]["structuredContent"]["refunded_cents"] >= 100, answer
        assert [step["message"] for step in answer["progress"]] == ["refund requested", "refund decided"], answer
    finally:
        stack.consent("sess-ops", "medium")
    check_denied(client.tool("refund_invoice", invoice_id="inv-1003"), "trust_too_low")


@for_each_client
def prompts_and_resources_are_governed_by_their_inventories(stack, connect):
    client = connect(OPS)
    prompt = client.ask("get_prompt", name="summarise_invoice", arguments={"invoice_id": "inv-1001"})["result"]
    assert prompt["messages"][1]["content"]["resource"]["uri"] == "invoice://inv-1001", prompt
    read = client.ask("read_resource", uri="invoice://inv-1001")["result"]["contents"][0]
    assert json.loads(read["text"])["customer"] == "Harbour Freight Co-op", read
    check_denied(client.ask("get_prompt", name="other"), "prompt_not_declared")
    check_denied(client.ask("read_resource", uri="file:///etc/passwd"), "resource_not_declared")
    check_allowed(client)

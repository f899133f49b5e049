"""Official TypeScript SDK clients through the gateway: what their users see. Every test runs for the v1 client, and for the
v2 client in both eras."""

import contextlib
import functools
import json

from harness import test, until
from samples import EVERYTHING, LEGACY, MODERN, OPS, REPORT, Samples, reason_of
from typescript import SdkError

CLIENTS = [("v1", LEGACY), ("v2", LEGACY), ("v2", MODERN)]
SIDE_EFFECTS = {"list_invoices": "read", "add_note": "write", "refund_invoice": "destructive"}


def start():
    return Samples()


def for_clients(*clients):
    """Registers a test once for each of `clients`; it takes what connects such a client."""

    def register(function):
        for sdk, era in clients:
            @functools.wraps(function)
            def one(stack, sdk=sdk, era=era):
                function(stack, functools.partial(stack.connect, sdk, era))

            one.__name__ = f"{function.__name__}__{sdk}_{era}"
            test(one)
        return function

    return register


for_each_client = for_clients(*CLIENTS)


def refusal(call, *arguments, **keywords):
    """What the SDK throws at a call that must not succeed."""
    try:
        result = call(*arguments, **keywords)
    except SdkError as error:
        return error
    raise AssertionError(f"not refused: {result}")


@contextlib.contextmanager
def edited(stack, file, old, new):
    """A manifest with `old` replaced by `new` for a while."""
    path = stack.config / file
    before = path.read_text()
    path.write_text(before.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(before)


@for_each_client
def a_client_connects_and_finds_what_the_manifest_declares(stack, connect):
    client = connect(OPS)
    assert client.opened["server"]["name"] == "payments", client.opened
    assert (client.opened["version"] == MODERN) == ("session" not in client.opened), client.opened
    tools = client.ask("listTools")["tools"]
    assert {tool["name"] for tool in tools} == set(SIDE_EFFECTS)
    for tool in tools:
        hints = tool["annotations"]
        assert hints["readOnlyHint"] == (SIDE_EFFECTS[tool["name"]] == "read"), tool
        assert hints.get("destructiveHint", False) == (SIDE_EFFECTS[tool["name"]] == "destructive"), tool
        assert tool["inputSchema"]["type"] == tool["outputSchema"]["type"] == "object", tool
    assert [prompt["name"] for prompt in client.ask("listPrompts")["prompts"]] == ["summarise_invoice"]
    assert client.ask("listResourceTemplates")["resourceTemplates"][0]["uriTemplate"] == "invoice://{id}"


@for_each_client
def an_allowed_call_is_answered_by_the_server_under_the_judged_identity(stack, connect):
    client = connect(OPS)
    open_ones = client.tool("list_invoices", status="open")["structuredContent"]["invoices"]
    assert [invoice["id"] for invoice in open_ones] == ["inv-1002"]
    noted = client.tool("add_note", invoice_id="inv-1002", note="Grüße, 請求書, \U0001f9fe")["structuredContent"]["notes"][-1]
    assert noted == {"author": "ops-agent for user-123", "text": "Grüße, 請求書, \U0001f9fe"}


@for_each_client
def a_refusal_of_the_server_itself_passes_unchanged(stack, connect):
    answer = connect(OPS).tool("add_note", invoice_id="inv-9", note="lost")
    assert answer["isError"] and answer["content"][0]["text"] == "no invoice `inv-9`", answer


@for_each_client
def a_denied_call_tells_the_reason_and_the_client_goes_on(stack, connect):
    ops, report = connect(OPS), connect(REPORT)
    before = ops.tool("list_invoices")["structuredContent"]
    cases = [
        (ops, "refund_invoice", "trust_too_low"),
        (ops, "drop_tables", "tool_side_effect_unknown"),
        (report, "refund_invoice", "tool_not_granted"),
        (report, "add_note", "side_effect_not_allowed"),
    ]
    for client, tool, reason in cases:
        error = refusal(client.tool, tool, invoice_id="inv-1001", note="denied")
        assert reason_of(error) == reason, error
        if client.opened["version"] == LEGACY:
            assert error.code == -31403 and reason in error.message, error
        assert client.tool("list_invoices")["structuredContent"] == before


@for_each_client
def without_a_session_nothing_can_be_called(stack, connect):
    client = connect({name: value for name, value in OPS.items() if "session" not in name})
    assert client.ask("listTools")["tools"], "lists need no session"
    assert reason_of(refusal(client.tool, "list_invoices")) == "missing_session"


@for_each_client
def progress_arrives_while_the_call_goes_on(stack, connect):
    client = connect(OPS)
    stack.consent("sess-ops", "high")
    try:
        steps = []
        refund = {"name": "refund_invoice", "arguments": {"invoice_id": "inv-1003", "amount_cents": 100}}
        answer = client.begin("callTool", refund, on_progress=steps.append).result(20)
        assert answer["structuredContent"]["refunded_cents"] >= 100, answer
        assert [step["message"] for step in steps] == ["refund requested", "refund decided"], steps
    finally:
        stack.consent("sess-ops", "medium")
    assert reason_of(refusal(client.tool, "refund_invoice", invoice_id="inv-1003")) == "trust_too_low"


@for_each_client
def a_session_revoked_in_the_middle_stops_the_client_until_it_is_lifted(stack, connect):
    client = connect(OPS)
    assert client.tool("list_invoices")["structuredContent"]
    assert stack.cli("session", "revoke", "mcp-servers/sess-ops").returncode == 0
    try:
        for _ in range(5):
            assert reason_of(refusal(client.tool, "list_invoices")) == "session_revoked"
        assert reason_of(refusal(client.ask, "readResource", {"uri": "invoice://inv-1001"})) == "session_revoked"
    finally:
        assert stack.cli("session", "unrevoke", "mcp-servers/sess-ops").returncode == 0
    assert client.tool("list_invoices")["structuredContent"], "the same client, the same MCP session"


@for_each_client
def prompts_and_resources_are_governed_by_their_inventories(stack, connect):
    client = connect(OPS)
    prompt = client.ask("getPrompt", {"name": "summarise_invoice", "arguments": {"invoice_id": "inv-1001"}})
    assert prompt["messages"][1]["content"]["resource"]["uri"] == "invoice://inv-1001", prompt
    read = client.ask("readResource", {"uri": "invoice://inv-1001"})["contents"][0]
    assert json.loads(read["text"])["customer"] == "Harbour Freight Co-op", read
    undeclared = [("getPrompt", {"name": "other"}), ("readResource", {"uri": "invoice://inv-1001/lines"}), ("readResource", {"uri": "file:///etc/passwd"})]
    for method, asked in undeclared:
        assert reason_of(refusal(client.ask, method, asked)) in ("prompt_not_declared", "resource_not_declared"), asked
    missing = refusal(client.ask, "readResource", {"uri": "invoice://inv-9"})
    assert "no invoice" in missing.message, missing


@for_clients(("v1", LEGACY), ("v2", LEGACY))
def a_long_call_streams_its_progress_and_breaks_off_when_its_session_is_revoked(stack, connect):
    client = connect(EVERYTHING, "everything")
    short = {"name": "trigger-long-running-operation", "arguments": {"duration": 0.2, "steps": 2}}
    steps = []
    assert "completed" in client.begin("callTool", short, on_progress=steps.append).result(20)["content"][0]["text"]
    assert [step["progress"] for step in steps] == [1, 2]
    long = {"name": "trigger-long-running-operation", "arguments": {"duration": 60, "steps": 600}}
    running = client.begin("callTool", long, on_progress=steps.append)
    until(lambda: len(steps) > 4, what="progress of the long call")
    assert stack.cli("session", "revoke", "mcp-servers/sess-everything").returncode == 0
    try:
        until(lambda: any("disconnected" in error.message for error in client.noticed), 5, "stream breaks off")
        until(lambda: any("Unauthorized" in error.message for error in client.noticed), what="reconnection is refused")
        assert not running.done() and len(steps) < 600
    finally:
        assert stack.cli("session", "unrevoke", "mcp-servers/sess-everything").returncode == 0


@for_clients(("v2", MODERN))
def with_deny_response_jsonrpc_the_modern_client_throws_a_protocol_error(stack, connect):
    client = connect(OPS)
    with edited(stack, "payments/server.yaml", "spec:\n", "spec:\n  denyResponse: jsonrpc\n"):
        error = until(lambda: (lambda e: e if e.kind == "ProtocolError" else None)(refusal(client.tool, "refund_invoice")), what="JSON-RPC denial")
        assert (error.code, error.data["reason"]) == (-31403, "trust_too_low"), error
    until(lambda: refusal(client.tool, "refund_invoice").kind == "SdkHttpError", what="HTTP denial again")


@for_clients(("v2", LEGACY))
def a_configuration_that_comes_back_is_in_force_while_streams_of_its_are_still_open(stack, connect):
    """Each legacy client holds a stream open, and with it the proxy's memory of the configuration under which it began."""
    holding = [connect(OPS) for _ in range(8)]
    modern = stack.connect("v2", MODERN, OPS)
    with edited(stack, "payments/server.yaml", "spec:\n", "spec:\n  denyResponse: jsonrpc\n"):
        until(lambda: refusal(modern.tool, "refund_invoice").kind == "ProtocolError", what="the other configuration")
    until(lambda: refusal(modern.tool, "refund_invoice").kind == "SdkHttpError", what="the first configuration again")
    done = stack.cli("session", "revoke", "mcp-servers/sess-ops")
    try:
        assert "enforced on 3 of 3" in done.stdout, done
        for client in holding:
            assert reason_of(refusal(client.tool, "list_invoices")) == "session_revoked"
            until(lambda: any("disconnected" in error.message for error in client.noticed), what="the stream breaks off")
    finally:
        assert stack.cli("session", "unrevoke", "mcp-servers/sess-ops").returncode == 0

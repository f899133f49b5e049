"""The demonstration: two MCP servers behind Sallyport, official SDK clients that call them, and what grants and consent do to
those calls. Leaves everything running; with `--once` it ends, on ports that are free."""

import contextlib
import signal
import socket
import sys
import time

import walk
from harness import until
from samples import EVERYTHING, LEGACY, MODERN, OPS, Samples
from walk import aside, attempt, heading, line, text

# Where things listen when nothing else does; `sallyport up` has the same defaults.
FRIENDLY = {
    "listen": 8091, "api": 8080, "envoy-admin": 9901, "xds": 18000, "ingest": 18001, "operator-admin": 18002, "ingest-admin": 18003,
}
UPSTREAMS = (8088, 8089)
def everything(demo):
    heading("everything: the MCP project's reference server. Client: TypeScript SDK v1, protocol 2025-11-25")
    ops = demo.connect("v1", LEGACY, EVERYTHING, "everything")
    attempt("ops-agent", "get-sum 19 23", lambda: ops.tool("get-sum", a=19, b=23), text)
    attempt("ops-agent", "get-env", lambda: ops.tool("get-env"), text)
    attempt("ops-agent", "get-tiny-image", lambda: ops.tool("get-tiny-image"), text)
    steps = []
    long = {"name": "trigger-long-running-operation", "arguments": {"duration": 60, "steps": 300}}
    running = ops.begin("callTool", long, on_progress=steps.append)
    until(lambda: len(steps) >= 3 or running.done(), what="progress of the long call")
    seen = ", ".join(str(step["progress"]) for step in steps)
    line("✔", "32", "allowed", "ops-agent", "trigger-long-running-operation", f"a stream of progress, open for a minute: {seen} …")
    aside("$ sallyport session revoke mcp-servers/sess-everything")
    aside(demo.cli("session", "revoke", "mcp-servers/sess-everything").stdout.strip())
    returned = time.monotonic()
    until(lambda: any("disconnected" in error.message for error in ops.noticed), what="the stream is cut")
    after = f"{1000 * (time.monotonic() - returned):.0f} ms after the command returned"
    line("✂", "33", "cut", "ops-agent", "trigger-long-running-operation", f"the open stream broke off {after}")
    attempt("ops-agent", "get-sum 19 23", lambda: ops.tool("get-sum", a=19, b=23), text)


def record(demo):
    until(lambda: demo.events(reason="session_revoked", tool_name="get-sum"), what="the last event")
    until(lambda: any(event["payload"].get("cut") for event in demo.events()), what="the event of the cut")
    walk.record(demo, 24)


def what_next(demo):
    gateway, api, data = demo.ports["listen"], demo.ports["api"], demo.folder / "data"
    payments_url = f"http://127.0.0.1:{gateway}/payments/mcp"
    heading("It goes on running; Ctrl-C stops it. Try next, in another terminal of this folder:")
    identity = [f"{name}: {value}" for name, value in OPS.items()]
    print(f"""
  # the MCP inspector (Node 22.19 or newer, which set-up has put beside the tests)
  export PATH="$PWD/e2e/node/node_modules/.bin:$PATH"
  npx -y @modelcontextprotocol/inspector --cli {payments_url} --transport http --method tools/list \\
    {' '.join(f"--header '{header}'" for header in identity)}
  npx -y @modelcontextprotocol/inspector --cli {payments_url} --transport http --method tools/call \\
    --tool-name refund_invoice --tool-args-json '{{"invoice_id": "inv-1003", "amount_cents": 100}}' \\
    {' '.join(f"--header '{header}'" for header in identity)}

  # curl: a call as it is on the wire; this one is denied
  curl -s {payments_url} {' '.join(f"-H '{header}'" for header in identity)} \\
    -H 'content-type: application/json' -H 'accept: application/json, text/event-stream' \\
    -H 'mcp-protocol-version: {MODERN}' -H 'mcp-method: tools/call' -H 'mcp-name: drop_tables' \\
    -d '{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"drop_tables","arguments":{{}},"_meta":{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}'

  # consent, withdrawal, and why a call would be denied
  curl -s http://127.0.0.1:{api}/api/v1/runtime/sessions -H "x-api-key: $(cat {data}/api-key)"
  export SALLYPORT_DATA={data}
  target/debug/sallyport session unrevoke mcp-servers/sess-everything
  target/debug/sallyport grant disable mcp-servers/payments-ops-agent
  target/debug/sallyport explain mcp-servers/payments --human user-123 --agent report-agent --session sess-report --tool add_note

  # the manifests: edit one and call again
  {demo.config}
""", flush=True)


def free(port):
    with socket.socket() as probe:
        # What a server that just ended leaves behind does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def start(once):
    """On the friendly ports if all of them are free, on any others if not."""
    friendly = not once and all(free(port) for port in [*FRIENDLY.values(), *UPSTREAMS])
    return Samples(FRIENDLY, UPSTREAMS) if friendly else Samples()


def main():
    once = "--once" in sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(start(once)) as demo:
        print("Sallyport: a call passes two gates, the administrator's grant and the user's consent, or it does not pass.")
        aside(f"control plane, Envoy, audit ingest and API up, with a first verdict, after {demo.started_in:.1f} s")
        walk.payments(demo)
        everything(demo)
        record(demo)
        if not once:
            what_next(demo)
            demo.process.wait()


if __name__ == "__main__":
    main()

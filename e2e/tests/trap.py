"""A worker's VM that traps: nothing passes that must not, and the worker comes back by itself."""

import http.client
import json
import pathlib
import shutil
import tempfile
import threading
import time

from fixtures import trapping_module
from harness import ROOT, Stack, test, until

# A request body of this many bytes makes the filter trap.
TRAP_BYTES = 6666


class Trapping(Stack):
    """The payments sample, governed by a copy of the filter that can be made to trap."""

    def __init__(self):
        self.module = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-")) / "trapping.wasm"
        trapping_module.write(ROOT / "target/wasm/sallyport_filter.wasm", self.module, TRAP_BYTES)
        super().__init__(["--wasm", self.module])

    def trap(self, tool):
        """A call of `tool` on which the VM of the worker that gets it traps."""
        call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
        return self.post(json.dumps(call).encode().ljust(TRAP_BYTES))

    def reloads(self):
        """How often a VM was made anew."""
        stats = self.request("GET", "/stats?filter=vm_reload_success", port="envoy-admin")[1].decode()
        return sum(int(line.rsplit(" ", 1)[1]) for line in stats.splitlines())

    def stop(self):
        super().stop()
        shutil.rmtree(self.module.parent)


def start():
    return Trapping()


class Load:
    """Calls one after the other until it is stopped; what became of each, and when."""

    def __init__(self, stack, tool):
        self.stack, self.tool, self.answers, self.stopping = stack, tool, [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopping.is_set():
            try:
                status, body = self.stack.call(self.tool)
                # What the filter did not say itself, Envoy said, without a JSON body.
                reason = json.loads(body).get("error", {}).get("data", {}).get("reason") if body[:1] == b"{" else None
                self.answers.append((time.monotonic(), status, reason))
            except (OSError, http.client.HTTPException) as error:
                self.answers.append((time.monotonic(), 0, type(error).__name__))

    def stop(self):
        self.stopping.set()
        self.thread.join(20)
        return self.answers


@test
def a_trap_lets_nothing_through_and_the_worker_comes_back_by_itself(stack):
    assert stack.reloads() == 0
    seen_before = len(stack.upstream.seen)
    granted, refused = Load(stack, "list_invoices"), Load(stack, "refund_invoice")
    until(lambda: len(granted.answers) > 20 and len(refused.answers) > 20, what="load")
    pauses = []
    for tool in ["list_invoices", "refund_invoice", "list_invoices"]:
        before, began = stack.reloads(), time.monotonic()
        status, body = stack.trap(tool)
        assert status == 503, (status, body)
        until(lambda: stack.reloads() > before, what="VM is made anew")
        # Each connection meets any of the workers, all of which must decide again.
        until(lambda: all(stack.call("list_invoices")[0] == 200 for _ in range(20)), what="allowed calls")
        stumbles = [at - began for at, status, _ in granted.answers if at > began and status != 200]
        pauses.append(max(stumbles, default=0.0))
    calls, denials = granted.stop(), refused.stop()

    # What was in flight on the worker is cut with it (status 0).
    outcomes = {(status, reason) for _, status, reason in calls if status}
    assert outcomes <= {(200, None), (503, "state_syncing"), (503, None)}, outcomes
    assert (200, None) in outcomes
    refusals = {(status, reason) for _, status, reason in denials if status}
    assert refusals <= {(403, "trust_too_low"), (503, "state_syncing"), (503, None)}, refusals
    assert (403, "trust_too_low") in refusals
    seen = [entry["body"] for entry in stack.upstream.seen[seen_before:]]
    assert not [body for body in seen if b"refund_invoice" in body], "a denied call passed"
    assert not [body for body in seen if len(body) == TRAP_BYTES], "the call that trapped passed"
    print(f"    {len(calls)} granted and {len(denials)} refused calls; the last that a trap cost came "
          f"{', '.join(f'{1000 * pause:.0f}' for pause in pauses)} ms after it")


@test
def what_was_withdrawn_before_a_trap_stays_withdrawn_after_it(stack):
    assert stack.cli("session", "revoke", "mcp-servers/sess-ops").returncode == 0
    seen_before, before = len(stack.upstream.seen), stack.reloads()
    assert stack.trap("list_invoices")[0] == 503

    def settled():
        answers = [stack.call("list_invoices") for _ in range(20)]
        assert {status for status, _ in answers} <= {401, 503}, answers
        return {status for status, _ in answers} == {401}

    until(settled, what="the revocation is known again")
    assert stack.reloads() > before
    assert len(stack.upstream.seen) == seen_before
    assert stack.cli("session", "unrevoke", "mcp-servers/sess-ops").returncode == 0
    until(lambda: all(stack.call("list_invoices")[0] == 200 for _ in range(20)), what="allowed calls")

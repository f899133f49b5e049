"""A full ring with `onOverload: drop`: calls go on, and what was not recorded is counted and named soon, though no event follows."""

import os
import signal
import sqlite3
import time

from harness import IDENTITY, MEDIA, Stack, test, until

AUDIT = """
  audit:
    onOverload: drop
    arguments: full
    maxArgumentBytes: 16384
"""
CALLS = 700


class DroppingStack(Stack):
    """The payments sample whose events are large, so that rings fill soon, and may be dropped."""

    def place(self, text):
        return super().place(text).replace("spec:\n  image: registry.example.com/payments-mcp", f"spec:{AUDIT}  image: x")

    def stored(self):
        """How many events there are of this test's calls."""
        file = sqlite3.connect(f"file:{self.folder / 'data/events.db'}?mode=ro", uri=True)
        sql = """SELECT count(*) FROM events WHERE decision = 'allow' AND envelope LIKE '%"subject_team_id":"dropping"%'"""
        return file.execute(sql).fetchone()[0]

    def dropped(self):
        return [event["payload"] for event in self.events(event_type="audit.dropped", limit=100)]


def start():
    return DroppingStack()


@test
def what_a_full_ring_dropped_is_named_within_ten_seconds_though_no_event_follows(stack):
    headers = {**MEDIA, **IDENTITY, "x-mcp-team-id": "dropping"}
    assert stack.call("list_invoices", headers)[0] == 200
    until(lambda: stack.stored() == 1, what="the first event")
    ingest = stack.run_json()["children"]["ingest"]
    os.kill(ingest, signal.SIGSTOP)
    for _ in range(CALLS):
        assert stack.call("list_invoices", headers, note="x" * 15_000)[0] == 200, "a call is not denied for want of room"
    began = time.monotonic()
    os.kill(ingest, signal.SIGCONT)

    def balances():
        return sum(told["missing"] for told in stack.dropped()) == 1 + CALLS - stack.stored() > 0

    until(balances, 10, "what is missing is named")
    took = time.monotonic() - began
    told = stack.dropped()
    assert {found["reason"] for found in told} == {"ring_full"}, told
    assert stack.api("GET", "stats")[1]["missing"] == sum(found["missing"] for found in told)
    # Events that follow tell of it once more, which counts nothing twice.
    before = stack.stored()
    for _ in range(20):
        assert stack.call("list_invoices", headers)[0] == 200
    until(lambda: stack.stored() == before + 20, what="the events that follow")
    assert stack.dropped() == told
    print(f"    {1 + CALLS - before} of {1 + CALLS} events dropped, all of them named {took:.1f} s after the ingest went on")

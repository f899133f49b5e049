"""`make demo-audit`: calls go through a real Envoy while what keeps their record is broken, one part after the other. Ends with a
table of what was sent and what became of it, which must balance."""

import contextlib
import os
import signal
import sys
import threading
import time

from audit_stack import AuditStack
from harness import IDENTITY, MEDIA, until
from walk import aside, heading, styled

CALLERS = 4
# Marks the calls of this demonstration.
TEAM = "demo-audit"
# How long Kafka, and the analytics store, stay away, in seconds.
AWAY = 4


class Traffic:
    """Callers that never stop, and count what they sent."""

    def __init__(self, stack):
        self.stack, self.stopping = stack, threading.Event()
        self.answers = {}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.call) for _ in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def call(self):
        headers = {**MEDIA, **IDENTITY, "x-mcp-team-id": TEAM}
        tools = ["list_invoices", "drop_tables"]
        number = 0
        while not self.stopping.is_set():
            number += 1
            status = self.stack.call(tools[number % 5 == 0], headers)[0]
            with self.lock:
                self.answers[status] = self.answers.get(status, 0) + 1

    def count(self):
        with self.lock:
            return sum(self.answers.values())

    def more(self, calls=60):
        """Waits for so many more answers: calls go on, whatever is broken."""
        wanted = self.count() + calls
        until(lambda: self.count() >= wanted, 30, f"{calls} calls are answered")

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def step(traffic, text, act):
    before, began = traffic.count(), time.monotonic()
    act()
    traffic.more()
    print(f"  {styled('33', '✂')} {text:<62} {traffic.count() - before:>5} calls answered in {time.monotonic() - began:.1f} s", flush=True)


def kill(stack, name):
    def gone_and_back():
        pid = until(lambda: stack.run_json()["children"].get(name), what=f"a {name} to kill")
        os.kill(pid, signal.SIGKILL)
        until(lambda: stack.run_json()["children"].get(name) not in (None, pid), 20, f"{name} is back")
    return gone_and_back


def break_things(stack, traffic):
    heading("Calls go on while these are broken")
    traffic.more()
    step(traffic, "the ingest is killed (-9)", kill(stack, "ingest"))

    def kafka_away():
        stack.kafka.kill()
        time.sleep(AWAY)
        stack.kafka.start()

    step(traffic, f"Kafka is killed, and away for {AWAY} s", kafka_away)
    step(traffic, "the ingest is killed again", kill(stack, "ingest"))
    for text, act in stack.store_faults():
        step(traffic, text, act)


def reckon(stack, traffic):
    """The table, and whether it balances."""
    sent = traffic.count()
    until(lambda: stack.ingest_metric("spool_records") == 0, 60, "the ingest has delivered everything")
    events, gaps, copies = until(lambda: sum((c := stack.in_kafka(TEAM))[:2]) >= sent and c, 60, "Kafka has, or misses by name, every event")
    dead = len(stack.kafka.records("mcp.events.dead"))
    rows = [("sent through Envoy, and answered", sent), ("in Kafka, by event id", events), ("in Kafka once more, after a kill", copies),
            ("refused by Kafka, in the dead topic", dead), ("named as missing", gaps)]
    stored = stack.stored(TEAM, sent)
    if stored is not None:
        rows.append(("stored, by event id", stored))
    heading("What became of them")
    for name, count in rows:
        print(f"  {name:<40} {count:>8}")
    return sent == events + gaps + dead and stored in (None, events)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.closing(AuditStack()) as stack:
        print("Sallyport: every verdict leaves an event, whatever breaks on its way, or a hole that shows.")
        aside(f"Envoy, ingest, Kafka, control plane and API up, with a first verdict, after {stack.started_in:.1f} s")
        traffic = Traffic(stack)
        try:
            break_things(stack, traffic)
        finally:
            traffic.stop()
        aside(f"answers by HTTP status: {dict(sorted(traffic.answers.items()))}")
        balances = reckon(stack, traffic)
        print(styled("32", "\n  It balances.") if balances else styled("31", "\n  It does not balance."))
        return 0 if balances else 1


if __name__ == "__main__":
    sys.exit(main())

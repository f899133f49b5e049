"""`make demo-audit`: calls go through a real Envoy while what keeps their record is broken, one part after the other. Ends with a
table of what was sent and what became of it, which must balance."""

import contextlib
import os
import signal
import sys
import threading
import time

from audit_stack import AWAY, AuditStack
from harness import IDENTITY, MEDIA, until
from walk import aside, heading, styled

CALLERS = 4
# Marks the calls of this demonstration.
TEAM = "demo-audit"


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
    step(traffic, f"Kafka is killed, and away for {AWAY} s", stack.kafka_away)
    step(traffic, "the processor is killed (-9)", kill(stack, "processor"))
    step(traffic, f"ClickHouse answers nobody for {AWAY} s", stack.clickhouse_away)
    step(traffic, "ClickHouse fails halfway through an insert", lambda: stack.clickhouse.behave(fail_inserts="half"))
    step(traffic, "the ingest and the processor are killed", lambda: [kill(stack, name)() for name in ("ingest", "processor")])


def reckon(stack, traffic):
    """The table, and whether it balances."""
    sent = traffic.count()
    until(lambda: stack.ingest_metric("spool_records") == 0, 60, "the ingest has delivered everything")
    explained = lambda: sum(stack.missing().values()) + stack.stored(TEAM)[0] >= sent  # noqa: E731
    # The partitions of a processor that was killed are given away when its time is over.
    until(explained, 120, "ClickHouse has, or misses by name, every event")
    until(lambda: stack.acknowledged()[0] == stack.stored(TEAM)[1], 30, "Envoy knows all that is stored to be safe")
    (kafka, copies), (stored, everything, twice) = stack.in_kafka(TEAM), stack.stored(TEAM)
    (acknowledged, dropped), missing = stack.acknowledged(), stack.missing()
    dead = len(stack.kafka.records("mcp.events.dead"))
    rows = [
        ("calls sent through Envoy, and answered", sent),
        ("  of them with an event in Kafka", kafka),
        ("  of them with an event in ClickHouse", stored),
        ("events acknowledged to Envoy", acknowledged),
        ("  of them in ClickHouse", everything),
        ("rows of an event beyond its first", twice),
        ("records in Kafka once more, after a kill", copies),
        ("records that Kafka refused (dead topic)", dead),
        ("events given up by Envoy", dropped),
        *((f"named as missing: {kind}", count) for kind, count in missing.items()),
    ]
    heading("What became of them")
    for name, count in rows:
        print(f"  {name:<44} {count:>8}")
    lost = sum(missing.values()) + dead
    return sent == stored + lost and kafka == stored and acknowledged == everything and twice == 0


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.closing(AuditStack()) as stack:
        print("Sallyport: every verdict leaves an event, whatever breaks on its way, or a hole that shows.")
        aside(f"Envoy, ingest, Kafka, processor, ClickHouse, control plane and API up, with a first verdict, after {stack.started_in:.1f} s")
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

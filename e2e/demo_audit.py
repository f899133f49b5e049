"""`make demo-audit`: calls go through a real Envoy while what keeps their record is broken, one part after the other. Ends with a
table of what was sent and what became of it, which must balance."""

import contextlib
import os
import signal
import sys
import threading
import time
import types

from audit_stack import AWAY, AuditStack
from harness import IDENTITY, MEDIA, until
from tests.audit_proof import ring_is_empty
from tests.audit_spool import Emitter, field
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
            try:
                status = self.stack.call(tools[number % 5 == 0], headers)[0]
            except OSError:
                # Between two Envoys nobody listens; that is no call.
                time.sleep(0.05)
                continue
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
    result = act()
    traffic.more()
    print(f"  {styled('33', '✂')} {text:<62} {traffic.count() - before:>5} calls answered in {time.monotonic() - began:.1f} s", flush=True)
    return result


def kill(stack, name):
    def gone_and_back():
        pid = until(lambda: stack.run_json()["children"].get(name), what=f"a {name} to kill")
        os.kill(pid, signal.SIGKILL)
        until(lambda: stack.run_json()["children"].get(name) not in (None, pid), 20, f"{name} is back")
    return gone_and_back


def another_envoy(stack):
    """Ends Envoy as a pod is ended: nobody enters any more, what is at work ends, and then it does. Gives what it knew at its end
    (see `AuditStack.acknowledged`), which goes with it."""
    envoy = stack.run_json()["children"]["envoy"]
    stack.request("POST", "/drain_listeners", b"", port="envoy-admin")
    until(lambda: not listens(stack) and ring_is_empty(stack), what="everything is acknowledged")
    knew = stack.acknowledged()
    os.kill(envoy, signal.SIGTERM)
    until(lambda: stack.run_json()["children"].get("envoy") not in (None, envoy) and listens(stack), 30, "another Envoy listens")
    return knew


def listens(stack):
    try:
        return stack.decides()
    except OSError:
        return False


def lie(stack):
    """A client with the proxy's token brings events of another proxy."""
    ports = {"listen": stack.ports["ingest"]}
    emitter = Emitter(types.SimpleNamespace(data=stack.folder / "data", folder=stack.folder, ports=ports))
    until(lambda: stack.answers_ready("ingest-admin"), what="the ingest is ready")
    status = emitter.emit(field(1, b"another"))[0]
    if status != 7:
        raise AssertionError(f"who lied was not refused, but answered with {status}")


def poison(stack):
    """Somebody writes into the topic what is no event."""
    command = ["org.apache.kafka.tools.ConsoleProducer", "--bootstrap-server", stack.kafka.bootstrap, "--topic", "mcp.events"]
    stack.kafka.java(*command, given="poison\n")


def break_things(stack, traffic):
    heading("Calls go on while these are broken")
    traffic.more()
    step(traffic, "the ingest is killed (-9)", kill(stack, "ingest"))
    step(traffic, f"Kafka is killed, and away for {AWAY} s", stack.kafka_away)
    step(traffic, "the processor is killed (-9)", kill(stack, "processor"))
    step(traffic, f"ClickHouse answers nobody for {AWAY} s", stack.clickhouse_away)
    step(traffic, "ClickHouse is slow", lambda: stack.clickhouse.behave(slow=0.5))
    step(traffic, "ClickHouse fails halfway through an insert", lambda: stack.clickhouse.behave(fail_inserts="half"))
    step(traffic, "somebody writes into the topic what is no event", lambda: poison(stack))
    step(traffic, "a client brings events of another proxy, and is refused", lambda: lie(stack))
    knew = step(traffic, "Envoy is ended in order, and another begins", lambda: another_envoy(stack))
    step(traffic, "the ingest and the processor are killed", lambda: [kill(stack, name)() for name in ("ingest", "processor")])
    return knew


def reckon(stack, traffic, before):
    """The table, and whether it balances; `before` is what an Envoy knew that is gone."""
    sent = traffic.count()
    until(lambda: stack.ingest_metric("spool_records") == 0, 60, "the ingest has delivered everything")
    explained = lambda: sum(stack.missing().values()) + stack.stored(TEAM)[0] >= sent  # noqa: E731
    # The partitions of a processor that was killed are given away when its time is over.
    until(explained, 120, "ClickHouse has, or misses by name, every event")
    told = lambda: [sum(counts) for counts in zip(before, stack.acknowledged())]  # noqa: E731
    until(lambda: told()[0] == stack.stored(TEAM)[1], 30, "Envoy knows all that is stored to be safe")
    (kafka, copies), (stored, everything, twice) = stack.in_kafka(TEAM), stack.stored(TEAM)
    (acknowledged, dropped), missing = told(), stack.missing()
    dead = len(stack.kafka.records("mcp.events.dead"))
    poisoned = stack.kafka.count("mcp.events.dead") - dead
    rows = [
        ("calls sent through Envoy, and answered", sent),
        ("  of them with an event in Kafka", kafka),
        ("  of them with an event in ClickHouse", stored),
        ("events acknowledged to Envoy", acknowledged),
        ("  of them in ClickHouse", everything),
        ("rows of an event beyond its first", twice),
        ("records in Kafka once more, after a kill", copies),
        ("records that Kafka refused (dead topic)", dead),
        ("records that hold no event (dead topic)", poisoned),
        ("events given up by Envoy", dropped),
        *((f"named as missing: {kind}", count) for kind, count in missing.items()),
    ]
    heading("What became of them")
    for name, count in rows:
        print(f"  {name:<44} {count:>8}")
    lost = sum(missing.values()) + dead
    return sent == stored + lost and kafka == stored and acknowledged == everything and twice == 0 and poisoned == 1


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.closing(AuditStack()) as stack:
        print("Sallyport: every verdict leaves an event, whatever breaks on its way, or a hole that shows.")
        aside(f"Envoy, ingest, Kafka, processor, ClickHouse, control plane and API up, with a first verdict, after {stack.started_in:.1f} s")
        traffic = Traffic(stack)
        try:
            before = break_things(stack, traffic)
        finally:
            traffic.stop()
        aside(f"answers by HTTP status: {dict(sorted(traffic.answers.items()))}")
        balances = reckon(stack, traffic, before)
        print(styled("32", "\n  It balances.") if balances else styled("31", "\n  It does not balance."))
        return 0 if balances else 1


if __name__ == "__main__":
    sys.exit(main())

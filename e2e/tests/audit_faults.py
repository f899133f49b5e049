"""Kafka breaks while the processor reads it: what was acknowledged is in ClickHouse exactly once all the same."""

import contextlib
import os
import pathlib
import re
import signal
import threading
import time
import types

from harness import soak, test, until
from kafka import Kafka
from tests.audit_processor import Pipeline, balances, from_ingest_to_clickhouse, names, send
from tests.audit_spool import Ingest

# How long Kafka is away, in seconds: in short and at length.
AWAY, LONG = 3, 60
# An outage at a rate, in events a second: what the ingest's memory may have all along, and how soon it has caught up.
OUTAGE, RATE = int(os.environ.get("SALLYPORT_SOAK_OUTAGE", "600")), 5000
MEGABYTES, CAUGHT_UP = 150, 120


def start():
    return Pipeline()


@contextlib.contextmanager
def load(ingest, sent):
    """Events that go on being sent, and are added to `sent`."""
    stop, failed = threading.Event(), []

    def go():
        number = 0
        while not stop.is_set():
            try:
                sent.extend(send(ingest, names(ingest, f"load-{number}", 25)))
            except (OSError, AssertionError) as error:
                failed.append(error)
                return
            number += 1
            time.sleep(0.05)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not failed, failed


def more(sent, count=100):
    """Waits until so many more were acknowledged."""
    wanted = len(sent) + count
    until(lambda: len(sent) >= wanted, 30, f"{count} more events are acknowledged")


@test
def kafka_may_be_away_and_every_event_is_stored_once(pipeline):
    away(pipeline, AWAY)


@soak
def kafka_may_be_away_for_a_minute_and_every_event_is_stored_once(pipeline):
    away(pipeline, LONG)


def away(pipeline, seconds):
    with from_ingest_to_clickhouse(pipeline, "--batch-records=100") as (ingest, processor):
        sent = []
        with load(ingest, sent):
            until(lambda: processor.metric("events_stored_total") > 0, 30, "events are stored")
            pipeline.kafka.kill()
            before = len(sent)
            time.sleep(seconds)
            assert len(sent) > before and ingest.metric("spool_records") > 0
            pipeline.kafka.start()
            more(sent)
        balances(pipeline, ingest, sent)
        print(f"    {len(sent)} events, {len(sent) - before} of them since Kafka went away for {seconds} s")


@test
def kafka_comes_back_empty_and_what_it_had_not_acknowledged_is_stored_once(pipeline):
    with from_ingest_to_clickhouse(pipeline, "--batch-records=100") as (ingest, _processor):
        sent = send(ingest, names(ingest, "before", 300))
        balances(pipeline, ingest, sent)
        pipeline.kafka.kill()
        with load(ingest, sent):
            more(sent, 600)
            pipeline.kafka.format()
            pipeline.kafka.start()
            more(sent)
        balances(pipeline, ingest, sent)


@test
def a_topic_that_is_deleted_is_made_again_and_read_from_its_beginning(pipeline):
    with from_ingest_to_clickhouse(pipeline, "--batch-records=100") as (ingest, processor):
        sent = send(ingest, names(ingest, "before", 300))
        balances(pipeline, ingest, sent)
        # While the processor reads: it stands behind the new topic's end.
        pipeline.kafka.topics("--delete", "--topic", ingest.topic)
        sent += send(ingest, names(ingest, "after", 200))
        balances(pipeline, ingest, sent)
        # While it is away: the new topic has more than the old one had.
        processor.end()
        pipeline.kafka.topics("--delete", "--topic", ingest.topic)
        sent += send(ingest, names(ingest, "later", 900))
        until(lambda: ingest.metric("spool_records") == 0, 30, "the new topic has them")
        processor.start()
        balances(pipeline, ingest, sent)


@soak
def a_new_leader_is_elected_and_every_event_is_stored_once(pipeline):
    kafka = Kafka(brokers=3, heap="256m")
    try:
        three = types.SimpleNamespace(kafka=kafka, clickhouse=pipeline.clickhouse, folder=pipeline.folder)
        with from_ingest_to_clickhouse(three, "--batch-records=100") as (ingest, processor):
            sent = []
            with load(ingest, sent):
                until(lambda: processor.metric("events_stored_total") > 0, 40, "events are stored")
                leader = next(broker for broker in kafka.brokers if broker.number == kafka.leader(ingest.topic))
                leader.end()
                until(lambda: kafka.leader(ingest.topic) != leader.number, 60, "an election")
                more(sent)
                leader.start()
                until(leader.is_up, 60, "the old leader is back")
                more(sent)
            balances(three, ingest, sent, 120)
            print(f"    {len(sent)} events over one election")
    finally:
        kafka.stop()


class Memory:
    """The most that was resident of a process itself, in megabytes, and not of files: these hold the program's own text, which in a
    build for tests is as large as all the rest."""

    def __init__(self, process):
        self.status, self.most = pathlib.Path(f"/proc/{process.pid}/status"), 0

    def look(self):
        self.most = max(self.most, int(re.search(r"RssAnon:\s+(\d+)", self.status.read_text())[1]) / 1024)
        return self.most


@soak
def the_ingest_stays_small_while_kafka_is_away_for_ten_minutes_and_catches_up_within_two(pipeline):
    topic, batch = "outage.events", 1000
    with Ingest(pipeline, "--kafka", pipeline.kafka.bootstrap, "--kafka-topic", topic, "--spool-megabytes=8192") as ingest:
        ingest.topic = topic
        send(ingest, names(ingest, "before", batch))
        until(lambda: ingest.metric("spool_records") == 0, 60, "Kafka has what came before")
        pipeline.kafka.kill()
        memory, began, sent = Memory(ingest.process), time.monotonic(), 0
        while sent < OUTAGE * RATE:
            send(ingest, names(ingest, f"away-{sent}", batch))
            sent += batch
            assert memory.look() < MEGABYTES, (memory.most, sent)
            # What a slow machine owes it makes up for.
            time.sleep(max(0, began + sent / RATE - time.monotonic()))
        took = time.monotonic() - began
        pipeline.kafka.start()
        back = time.monotonic()
        until(lambda: memory.look() and ingest.metric("spool_records") == 0, CAUGHT_UP, "the ingest has caught up")
        print(f"    {sent} events in {took:.0f} s, caught up in {time.monotonic() - back:.0f} s, {memory.most:.0f} MB at most")
        assert memory.most < MEGABYTES, memory.most
        assert took < OUTAGE * 1.1 + 1, "this machine cannot send so much"
        assert pipeline.kafka.count(topic) == sent + batch


@test
def a_topic_that_is_made_again_and_has_more_than_before_is_read_from_its_beginning(pipeline):
    with from_ingest_to_clickhouse(pipeline, "--batch-records=100") as (ingest, processor):
        sent = send(ingest, names(ingest, "before", 300))
        balances(pipeline, ingest, sent)
        # It stands still, and knows the old topic's place when the new topic has been there for a while.
        processor.process.send_signal(signal.SIGSTOP)
        try:
            pipeline.kafka.topics("--delete", "--topic", ingest.topic)
            delivered = ingest.metric("events_delivered_total")
            sent += send(ingest, names(ingest, "after", 900))
            until(lambda: ingest.metric("events_delivered_total") >= delivered + 900, 30, "the new topic has more than the old")
        finally:
            processor.process.send_signal(signal.SIGCONT)
        balances(pipeline, ingest, sent)
        assert processor.metric("topics_remade_total") == 1
        processor.end()
        processor.start()
        sent += send(ingest, names(ingest, "later", 100))
        balances(pipeline, ingest, sent)

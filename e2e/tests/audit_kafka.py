"""Kafka behind the ingest: what was acknowledged is in the topic, whatever happens to either of them."""

import collections
import contextlib
import pathlib
import threading
import time

from cluster.certificates import Authority
from harness import Stack, soak, test, until
from kafka import Kafka
from tests.audit_spool import Ingest, killed_under_load

# How often the ingest is killed while it delivers.
KILLS = 3
# How long Kafka is away in the long form, in seconds.
AWAY = 60
USER, PASSWORD = "sallyport", "of the ingest"


class Audited(Stack):
    """`sallyport up --kafka` with a broker of its own."""

    def __init__(self):
        self.kafka = Kafka(users={USER: PASSWORD})
        try:
            super().__init__(["--kafka", self.kafka.bootstrap])
        except BaseException:
            self.kafka.stop()
            raise

    def stop(self):
        super().stop()
        self.kafka.stop()


def start():
    return Audited()


_topics = (f"audit{number}.events" for number in range(100))


@contextlib.contextmanager
def ingest_of(stack, *options, kafka=None, topic=None, bootstrap=None):
    """An ingest with a topic of its own, as `ingest.topic`; records are JSON."""
    topic = topic or next(_topics)
    bootstrap = bootstrap or (kafka or stack.kafka).bootstrap
    options = ["--kafka", bootstrap, "--kafka-topic", topic, "--kafka-format", "json", *options]
    with Ingest(stack, *options) as ingest:
        ingest.topic = topic
        yield ingest


def delivered(ingest, count, seconds=40):
    """Waits until the brokers acknowledged `count` events to this process, and nothing waits."""
    done = lambda: ingest.metric("events_delivered_total") >= count and ingest.metric("spool_records") == 0  # noqa: E731
    until(done, seconds, f"{count} events are delivered")


def numbers(kafka, topic):
    payloads = [record["value"]["payload"] for record in kafka.records(topic, values=True)]
    return [payload["number"] for payload in payloads if "number" in payload]


def arrived(kafka, topic, sent):
    """Every event is in the topic, once and in order."""
    until(lambda: kafka.count(topic) >= len(sent), 60, lambda: f"{len(sent)} events in {topic}, which has {kafka.counts(topic)} by partition,")
    found = numbers(kafka, topic)
    copies = [name for name, count in collections.Counter(found).items() if count > 1]
    assert found == sent, f"{len(found)} of {len(sent)}; not there: {[n for n in sent if n not in found][:5]}, copies: {copies[:5]}"


def post_all(ingest, names, padding=""):
    for name in names:
        assert ingest.post(name, padding)[0] == 202, name
    return list(names)


@test
def each_call_through_envoy_is_one_cloudevent_under_its_chain(stack):
    sent = 40
    for _ in range(sent):
        assert stack.call("list_invoices")[0] == 200
    # The stack's own first verdicts are there as well.
    records = until(lambda: len(r := stack.kafka.records("mcp.events")) >= sent and r, 30, "the events are in Kafka")
    ids = [record["ce_id"] for record in records]
    assert len(ids) == len(set(ids)), "an event is there twice"
    last = records[-1]
    assert last["ce_specversion"] == "1.0" and last["ce_type"] == "mcp.request", last
    assert last["ce_source"] == "/sallyport/standalone" and last["content-type"] == "application/protobuf", last
    chains = collections.Counter(record["key"] for record in records)
    assert all(key.startswith("standalone/") and key.count("/") == 2 for key in chains), chains
    print(f"    {len(ids)} events in {len(chains)} chains")


@test
def kafka_may_be_away_and_every_event_arrives_once_and_in_order(stack):
    away(stack, 3)


@soak
def kafka_may_be_away_for_a_minute(stack):
    away(stack, AWAY)


def away(stack, seconds):
    with ingest_of(stack) as ingest:
        sent = post_all(ingest, [f"before-{number}" for number in range(20)])
        delivered(ingest, 20)
        stack.kafka.kill()
        ends, number = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            sent += post_all(ingest, [f"away-{number}"])
            number += 1
            time.sleep(0.01)
        assert ingest.is_ready(), "acknowledging needs no Kafka"
        assert ingest.metric("spool_records") > 0
        stack.kafka.start()
        sent += post_all(ingest, [f"after-{number}" for number in range(20)])
        delivered(ingest, len(sent))
        arrived(stack.kafka, ingest.topic, sent)
        print(f"    {len(sent)} events, {number} of them while Kafka was away for {seconds} s")


@test
def a_kafka_that_comes_back_empty_gets_all_that_it_had_not_acknowledged(stack):
    with ingest_of(stack) as ingest:
        gone = post_all(ingest, [f"gone-{number}" for number in range(10)])
        delivered(ingest, len(gone))
        stack.kafka.kill()
        sent = post_all(ingest, [f"kept-{number}" for number in range(200)])
        stack.kafka.format()
        stack.kafka.start()
        delivered(ingest, len(gone) + len(sent))
        arrived(stack.kafka, ingest.topic, sent)


@test
def a_topic_that_is_deleted_is_made_again_and_nothing_is_lost_after_it(stack):
    with ingest_of(stack) as ingest:
        gone = post_all(ingest, ["gone"])
        delivered(ingest, 1)
        stack.kafka.topics("--delete", "--topic", ingest.topic)
        sent = post_all(ingest, [f"kept-{number}" for number in range(200)])
        delivered(ingest, len(gone) + len(sent), 60)
        assert set(numbers(stack.kafka, ingest.topic)) - set(gone) == set(sent)


@test
def records_that_the_broker_refuses_go_to_the_dead_topic_and_their_neighbours_pass(stack):
    topic = "small.events"
    stack.kafka.topics("--create", "--topic", topic, "--partitions", "1", "--config", "max.message.bytes=50000")
    # Small batches, so that several follow a refused one before its answer comes.
    properties = stack.folder / "small-batches.properties"
    properties.write_text("batch.size=16000\nlinger.ms=0\ncompression.type=none\n")
    with ingest_of(stack, "--kafka-config", properties, topic=topic) as ingest:
        sent, huge = [], []
        stack.kafka.kill()
        for when in ("away", "there"):
            for number in range(300):
                # The very first among them: the broker knows nothing yet of this producer.
                is_huge = number % 60 == 0
                name = f"{when}-{number}"
                post_all(ingest, [name], "x" * (200_000 if is_huge else 4_000))
                (huge if is_huge else sent).append(name)
            if when == "away":
                stack.kafka.start()
            delivered(ingest, len(sent) + len(huge), 60)
        assert ingest.metric("kafka_records_dead_total") == len(huge)
        found = until(lambda: len(n := numbers(stack.kafka, topic)) >= len(sent) and n, 30, "the neighbours are there")
        assert sorted(found) == sorted(sent), (set(sent) ^ set(found), len(found))
        dead = until(lambda: len(r := stack.kafka.records(f"{topic}.dead", values=True)) >= len(huge) and r, 30, "the dead records are there")
        assert sorted(record["value"]["payload"]["number"] for record in dead) == sorted(huge)
        assert {record["sallyport_topic"] for record in dead} == {topic}, dead[0].keys()
        assert all("MessageSizeTooLarge" in record["sallyport_reason"] for record in dead), dead[0]["sallyport_reason"]
        # Their places in the chain are named where the others are.
        told = [r["value"]["payload"] for r in stack.kafka.records(topic, values=True) if r["value"]["event_type"] == "audit.refused"]
        places = sorted(found["chain"]["from"] for found in told)
        assert places == sorted(record["value"]["payload"]["chain"]["seq"] for record in dead), places
        assert {(found["reason"], found["missing"]) for found in told} == {("refused_by_brokers", 1)}, told[0]


@test
def no_event_is_missing_from_kafka_though_the_ingest_is_killed_while_it_delivers(stack):
    with ingest_of(stack) as ingest:
        acknowledged, unknown = killed_under_load(ingest, 4, KILLS, (0.5, 1.5))
        delivered(ingest, 0)
        records = stack.kafka.records(ingest.topic, values=True)
        found = [record["ce_id"] for record in records]
        by_number = {}
        for record in records:
            by_number.setdefault(record["value"]["payload"].get("number"), set()).add(record["ce_id"])
        # What the broker had and the spool's cursor did not know yet is there again, under the same id.
        assert all(len(ids) == 1 for ids in by_number.values()), "one event has two ids"
        assert acknowledged <= set(by_number) <= acknowledged | unknown
        assert not any(record["ce_type"].startswith("audit.") for record in records), "a chain has a hole"
        print(f"    {len(acknowledged)} acknowledged, {len(found)} records of {len(set(found))} events, {KILLS} kills")


@test
def a_spool_that_is_full_while_kafka_is_away_pushes_back(stack):
    with ingest_of(stack, "--spool-megabytes=1") as ingest:
        stack.kafka.kill()
        sent = []
        while (answer := ingest.post(f"full-{len(sent)}", "x" * 20_000))[0] == 202:
            sent.append(f"full-{len(sent)}")
        assert answer[0] == 429 and ingest.is_ready(), answer
        stack.kafka.start()
        until(lambda: ingest.post("room")[0] == 202, 30, what="room")
        delivered(ingest, len(sent) + 1)
        arrived(stack.kafka, ingest.topic, [*sent, "room"])


@test
def topics_are_made_as_asked_and_what_cannot_be_is_told(stack):
    with ingest_of(stack, "--kafka-partitions=3", "--kafka-replication=1") as ingest:
        sent = post_all(ingest, ["made"])
        delivered(ingest, 1)
        made = {topic: stack.kafka.topics("--describe", "--topic", topic) for topic in (ingest.topic, f"{ingest.topic}.dead")}
        assert "PartitionCount: 3" in made[ingest.topic] and "ReplicationFactor: 1" in made[ingest.topic], made
        assert "PartitionCount: 1" in made[f"{ingest.topic}.dead"], made
        arrived(stack.kafka, ingest.topic, sent)
    with ingest_of(stack, "--kafka-replication=2") as ingest:
        post_all(ingest, ["waits"])
        # There is one broker.
        until(lambda: "eplication" in (ingest.folder / "log").read_text(), 20, "the log tells of the replicas")
        until(lambda: ingest.metric("spool_records") > 0, what="the event waits")
        assert ingest.metric("events_delivered_total") == 0


@test
def a_setting_that_cannot_be_used_is_told_by_its_line_and_ends_the_ingest(stack):
    folder = pathlib.Path(stack.folder)
    for text, words in [
        ("# mine\nsasl.pasword=hunter2\n", "line 2: `sasl.pasword` is no property"),
        ("acks=1\n", "line 1: `acks` cannot be set"),
        ("security.protocol=ssl\nssl.ca.location=/nowhere/ca.crt\n", "ssl.ca.location failed"),
    ]:
        path = folder / "kafka.properties"
        path.write_text(text)
        ingest = Ingest(stack, "--kafka", stack.kafka.bootstrap, "--kafka-config", path)
        try:
            assert ingest.process.wait(20) == 1
            log = (ingest.folder / "log").read_text()
            assert words in log and "hunter2" not in log, log
        finally:
            ingest.__exit__(None)


@test
def a_broker_that_is_not_trusted_or_does_not_trust_us_is_told_and_what_waits_arrives_once_that_is_mended(stack):
    path, other = stack.folder / "secure.properties", Authority(stack.folder / "other", "other")
    path.write_text(stack.kafka.client(USER, authority=other.folder / "ca.crt"))
    with ingest_of(stack, "--kafka-config", path, bootstrap=stack.kafka.secure) as ingest:
        sent = []

        def restarted(text, posts):
            path.write_text(text)
            ingest.kill()
            ingest.start()
            until(ingest.is_ready, what="the ingest is back")
            return post_all(ingest, posts)

        def told(words, remedy):
            """Readiness and log say so; events are acknowledged and wait."""
            status, answer = until(lambda: words in (a := ingest.request("GET", "/readyz"))[1] and a, 20, f"readiness tells `{words}`")
            assert status == 200 and answer.startswith("ready, but events wait for Kafka: ") and remedy in answer, answer
            log = (ingest.folder / "log").read_text()
            assert words in log and PASSWORD not in log and "hunter2" not in log, log
            assert ingest.metric("spool_records") > 0 and ingest.metric("events_delivered_total") == 0

        sent += post_all(ingest, [f"untrusted-{number}" for number in range(20)])
        told("certificate verify failed", "see the properties `ssl.`")
        sent += restarted(stack.kafka.client(USER, "hunter2"), [f"refused-{number}" for number in range(20)])
        told("invalid credentials", "see user, password")
        sent += restarted(stack.kafka.client(USER), [f"taken-{number}" for number in range(20)])
        delivered(ingest, len(sent))
        # Each run of the ingest has a chain of its own, and there is no order among chains.
        found = until(lambda: len(n := numbers(stack.kafka, ingest.topic)) >= len(sent) and n, 60, "the events are in the topic")
        assert sorted(found) == sorted(sent), found
        until(lambda: ingest.request("GET", "/readyz")[1] == "ready", what="readiness has nothing to add")


@soak
def a_new_leader_is_elected_and_every_event_arrives_once(stack):
    kafka = Kafka(brokers=3, heap="256m")
    try:
        with ingest_of(stack, "--kafka-partitions=1", kafka=kafka) as ingest:
            sent = post_all(ingest, [f"first-{number}" for number in range(50)])
            delivered(ingest, len(sent))
            leader = next(b for b in kafka.brokers if b.number == kafka.leader(ingest.topic))
            stop = threading.Event()

            def load():
                while not stop.is_set():
                    sent.extend(post_all(ingest, [f"load-{len(sent)}"]))

            sender = threading.Thread(target=load)
            sender.start()
            leader.end()
            other = next(b for b in kafka.brokers if b is not leader)
            until(lambda: kafka.leader(ingest.topic) == other.number or kafka.leader(ingest.topic) != leader.number, 60, "an election")
            leader.start()
            until(leader.is_up, 60, "the old leader is back")
            stop.set()
            sender.join()
            delivered(ingest, len(sent), 60)
            arrived(kafka, ingest.topic, sent)
            print(f"    {len(sent)} events over one election")
    finally:
        kafka.stop()

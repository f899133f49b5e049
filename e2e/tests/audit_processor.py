"""From Kafka to ClickHouse: what was acknowledged is stored exactly once, whatever happens on the way."""

import contextlib
import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from clickhouse import READER, WRITER, ClickHouse
from clock import Clock
from cluster.certificates import Authority
from harness import SALLYPORT, Stack, ask, free_port, soak, test, until
from kafka import Kafka
from tests.audit_spool import Ingest

# How often the processor is killed in the middle of a batch, in short and at length.
KILLS, MANY_KILLS = 3, 10


class Pipeline(Stack):
    """A stack, and beside it Kafka and ClickHouse."""

    def __init__(self):
        self.kafka = self.clickhouse = None
        try:
            self.kafka, self.clickhouse = Kafka(), ClickHouse()
            super().__init__()
        except BaseException:
            self.stop_beside()
            raise

    def stop_beside(self):
        for part in (self.kafka, self.clickhouse):
            if part is not None:
                part.stop()

    def stop(self):
        super().stop()
        self.stop_beside()


def start():
    return Pipeline()


class Processor:
    """`sallyport processor`, which may be killed and started again."""

    def __init__(self, pipeline, topic, *options, clickhouse=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-processor-"))
        self.port, self.topic, self.kafka = free_port(), topic, pipeline.kafka
        self.group = f"{topic}-processor"
        self.command = [SALLYPORT, "processor", f"--kafka={self.kafka.bootstrap}", f"--kafka-topic={topic}"]
        self.command += [f"--group={self.group}", f"--admin=127.0.0.1:{self.port}", "--session-seconds=6"]
        self.command += [*(clickhouse or pipeline.clickhouse.flags()), *options]
        self.process = None
        self.start()

    def start(self):
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def metrics(self):
        """Metrics by name, all of one moment; nothing where the process is not there."""
        try:
            lines = ask(("127.0.0.1", self.port), "GET", "/metrics", timeout=2)[1].decode().splitlines()
        except OSError:
            return {}
        found = re.findall(r"^sallyport_processor_(\w+) (\S+)$", "\n".join(lines), re.MULTILINE)
        return {name: float(value) for name, value in found}

    def metric(self, name):
        """A metric's value; 0 where the process is not there."""
        metrics = self.metrics()
        return metrics[name] if metrics else 0

    def is_storing(self):
        """Whether it has read more than is stored. There must be no findings or checkpoints, which are not events of a batch."""
        told = self.metrics()
        return told and told["records_read_total"] > told["events_stored_total"] + told["events_duplicate_total"]

    def is_ready(self):
        try:
            return ask(("127.0.0.1", self.port), "GET", "/readyz", timeout=2)[0] == 200
        except OSError:
            return False

    def end(self, how=signal.SIGKILL):
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(20)

    def rewind(self):
        """Winds the group back to the topic's beginning, while nobody is in it."""
        reset = ["--group", self.group, "--topic", self.topic, "--reset-offsets", "--to-earliest", "--execute"]
        main = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
        done = lambda: "NEW-OFFSET" in self.kafka.java(main, "--bootstrap-server", self.kafka.bootstrap, *reset)  # noqa: E731
        until(done, 30, "the group is wound back")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.end()
        if kind:
            print((self.folder / "log").read_text()[-4000:])
        shutil.rmtree(self.folder)


_numbers = iter(range(100))


@contextlib.contextmanager
def from_ingest_to_clickhouse(pipeline, *options):
    """An ingest and a processor with a topic and a source of their own."""
    topic = f"processor{next(_numbers)}.events"
    with Ingest(pipeline, "--kafka", pipeline.kafka.bootstrap, "--kafka-topic", topic) as ingest:
        with Processor(pipeline, topic, *options) as processor:
            ingest.topic = topic
            try:
                until(processor.is_ready, 30, "the processor is ready")
                yield ingest, processor
            finally:
                pipeline.clickhouse.behave()


def send(ingest, names, **more):
    """Brings events, some at a time, with `more` in their payload; each is known by its tool."""
    names = list(names)
    for begin in range(0, len(names), 250):
        events = [
            {"source": "billing", "event_type": "charge", "payload": {"tool_name": name, "decision": "allow", **more}}
            for name in names[begin:begin + 250]
        ]
        body = "\n".join(json.dumps(event) for event in events)
        status, answer = ingest.request("POST", "/events", body, "events")
        assert status == 202, answer
    return names


def stored(pipeline, topic):
    """Names of stored events, each as often as it is there."""
    return sorted(name for name, in pipeline.clickhouse.rows(
        f"SELECT tool_name FROM mcp.events WHERE startsWith(tool_name, '{topic}/')"))


def balances(pipeline, ingest, sent, seconds=60):
    """Waits until all is stored, and holds that nothing is there twice, neither as an event nor in the rollups."""
    count = f"SELECT count() FROM mcp.events WHERE startsWith(tool_name, '{ingest.topic}/')"
    until(lambda: int(pipeline.clickhouse.rows(count)[0][0]) >= len(sent), seconds, f"{len(sent)} events are stored")
    assert stored(pipeline, ingest.topic) == sorted(sent)
    used = f"SELECT toUInt32(sum(events)) FROM mcp.usage_hourly WHERE startsWith(tool_name, '{ingest.topic}/')"
    assert pipeline.clickhouse.rows(used) == [[len(sent)]], "rollups count otherwise"


def names(ingest, what, count):
    return [f"{ingest.topic}/{what}-{number}" for number in range(count)]


@test
def a_processor_killed_in_the_middle_of_batches_stores_every_event_once(pipeline):
    killed(pipeline, KILLS)


@soak
def a_processor_killed_ten_times_stores_every_event_once(pipeline):
    killed(pipeline, MANY_KILLS)


def killed(pipeline, kills):
    with from_ingest_to_clickhouse(pipeline, "--batch-records=200") as (ingest, processor):
        until(processor.is_ready, 30, "the processor is ready")
        stop, sent = threading.Event(), []

        def load():
            number = 0
            while not stop.is_set():
                sent.extend(send(ingest, [f"{ingest.topic}/{number}-{place}" for place in range(50)]))
                number += 1
                # Less than it can store, so that the last events do not wait for long.
                time.sleep(0.1)

        sender = threading.Thread(target=load)
        sender.start()
        try:
            for _ in range(kills):
                until(lambda: processor.metric("events_stored_total") > 0, 40, "this run has stored something")
                # Longer than it takes to see that an insert is under way; another part of it each time.
                pipeline.clickhouse.behave(slow=0.6)
                until(processor.is_storing, 20, "a batch is under way")
                time.sleep(random.uniform(0, 0.5))
                until(processor.is_storing, 20, "a batch is under way")
                processor.end()
                pipeline.clickhouse.behave()
                processor.start()
        finally:
            stop.set()
            sender.join()
        balances(pipeline, ingest, sent, 120)
        print(f"    {len(sent)} events, {kills} deaths, each in the middle of a batch")


@test
def a_group_that_is_wound_back_stores_nothing_twice(pipeline):
    with from_ingest_to_clickhouse(pipeline) as (ingest, processor):
        sent = send(ingest, names(ingest, "first", 1000))
        balances(pipeline, ingest, sent)
        processor.end(signal.SIGTERM)
        assert processor.process.returncode == 0
        processor.rewind()
        sent += send(ingest, names(ingest, "later", 300))
        # Other batches than before.
        processor.command.append("--batch-records=77")
        processor.start()
        until(lambda: processor.metric("records_read_total") >= len(sent), 40, "all is read again")
        until(lambda: processor.metric("events_duplicate_total") >= 1000, 20, "what is known is passed over")
        balances(pipeline, ingest, sent)


@test
def records_that_hold_no_event_go_to_the_dead_topic_and_their_neighbours_are_stored(pipeline):
    with from_ingest_to_clickhouse(pipeline) as (ingest, processor):
        sent = send(ingest, names(ingest, "before", 100))
        balances(pipeline, ingest, sent)
        main = "org.apache.kafka.tools.ConsoleProducer"
        properties = ["parse.headers=true", "parse.key=true", "headers.delimiter=|", "key.separator=|"]
        options = [f"--reader-property={name}" for name in properties]
        lines = ["content-type:text/plain|poison|one", "content-type:application/protobuf|poison|two", "a:b|poison|three"]
        command = pipeline.kafka.command(
            main, "--bootstrap-server", pipeline.kafka.bootstrap, "--topic", ingest.topic, *options)
        subprocess.run(command, input="\n".join(lines), text=True, check=True, capture_output=True, timeout=60)
        sent += send(ingest, names(ingest, "after", 100))
        balances(pipeline, ingest, sent)
        until(lambda: processor.metric("records_dead_total") == 3, 20, "three records are dead")
        main = "org.apache.kafka.tools.consumer.ConsoleConsumer"
        prints = ["--formatter-property=print.headers=true", "--timeout-ms=4000", "--from-beginning"]
        command = pipeline.kafka.command(
            main, "--bootstrap-server", pipeline.kafka.bootstrap, "--topic", f"{ingest.topic}.dead", *prints)
        dead = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.splitlines()
        assert len(dead) == 3, dead
        for line, value, reason in zip(sorted(dead, key=lambda line: line[-3:]), ("one", "three", "two"),
                                       ("content-type is `text/plain`", "no readable content-type", "EventRecord")):
            assert line.endswith(value) and reason in line and f"sallyport_topic:{ingest.topic}" in line, line
        assert processor.is_ready()


@test
def clickhouse_may_be_down_slow_or_fail_before_within_and_after_a_batch(pipeline):
    with from_ingest_to_clickhouse(pipeline, "--batch-records=100") as (ingest, processor):
        sent = send(ingest, names(ingest, "before", 50))
        balances(pipeline, ingest, sent)
        pipeline.clickhouse.behave(down=True)
        sent += send(ingest, names(ingest, "down", 300))
        until(lambda: not processor.is_ready(), what="the processor says that it cannot store")
        reason = ask(("127.0.0.1", processor.port), "GET", "/readyz")[1].decode()
        assert "ClickHouse" in reason, reason
        time.sleep(2)
        pipeline.clickhouse.behave(slow=0.5)
        sent += send(ingest, names(ingest, "slow", 300))
        balances(pipeline, ingest, sent)
        for how in ("before", "half", "after"):
            pipeline.clickhouse.behave(fail_inserts=how, times=3)
            sent += send(ingest, names(ingest, how, 300))
            balances(pipeline, ingest, sent)
        assert processor.metric("store_failures_total") >= 10, processor.metric("store_failures_total")
        # Longer than an insert may take: given up, tried again.
        pipeline.clickhouse.behave(slow=5)
        sent += send(ingest, names(ingest, "stuck", 20))
        failures = processor.metric("store_failures_total")
        until(lambda: processor.metric("store_failures_total") > failures, 30, "the insert is given up")
        pipeline.clickhouse.behave()
        balances(pipeline, ingest, sent)
        until(processor.is_ready, what="the processor is ready again")


@test
def clocks_that_jump_by_an_hour_neither_lose_nor_double_an_event(pipeline):
    with contextlib.closing(Clock()) as clock, contextlib.ExitStack() as parts:
        with clock.over_what_starts():
            ingest, processor = parts.enter_context(from_ingest_to_clickhouse(pipeline, "--batch-records=100"))
        until(processor.is_ready, 30, "the processor is ready")
        sent = []
        for hours in (0, 1, -1, 0):
            clock.set(hours)
            sent += send(ingest, names(ingest, f"before-{len(sent)}", 200))
            balances(pipeline, ingest, sent)
            for part, end in ((ingest, ingest.kill), (processor, processor.end)):
                end()
                with clock.over_what_starts():
                    part.start()
            until(ingest.is_ready, what="the ingest is back")
            sent += send(ingest, names(ingest, f"after-{len(sent)}", 200))
            # While it connects, librdkafka waits by the wall's clock, and longer if that is set back meanwhile.
            balances(pipeline, ingest, sent)
        hours = pipeline.clickhouse.rows(f"SELECT uniq(toStartOfHour(time)) FROM mcp.events WHERE startsWith(tool_name, '{ingest.topic}/')")
        assert int(hours[0][0]) >= 3, "the clocks did not jump"


@test
def clickhouse_over_tls_is_trusted_by_its_authority_and_refused_by_another_with_the_remedy(pipeline):
    other = Authority(pipeline.folder / "other", "other").folder / "ca.crt"
    with contextlib.ExitStack() as parts:
        clickhouse = ClickHouse(tls=True)
        parts.callback(clickhouse.stop)
        with Processor(pipeline, "tls.events", clickhouse=clickhouse.flags(WRITER, other)) as processor:
            def told():
                try:
                    return ask(("127.0.0.1", processor.port), "GET", "/readyz", timeout=2)[1].decode()
                except OSError:
                    return ""

            until(lambda: "UnknownIssuer" in told(), what="the reason is told")
            assert not processor.is_ready() and "--clickhouse-ca" in told(), told()
        with Processor(pipeline, "tls.events", clickhouse=clickhouse.flags()) as processor:
            until(processor.is_ready, 30, "the processor has made the schema")


@test
def a_user_who_only_reads_is_enough_for_the_api(pipeline):
    with from_ingest_to_clickhouse(pipeline) as (ingest, _processor):
        # Of a team of their own: other tests fill the hour as well.
        sent = send(ingest, names(ingest, "seen", 30), team_id="readers")
        balances(pipeline, ingest, sent)
        port, key = free_port(), "key-of-this-test"
        command = [SALLYPORT, "control-api", f"--listen=127.0.0.1:{port}", f"--config={pipeline.config}"]
        command += [*pipeline.clickhouse.flags(READER), f"--api-keys-file={ingest.folder / 'api-keys'}"]
        (ingest.folder / "api-keys").write_text(key)
        with open(ingest.folder / "api-log", "w") as log:
            api = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            def get(path):
                try:
                    status, body = ask(("127.0.0.1", port), "GET", f"/api/v1/{path}", headers={"x-api-key": key})
                except OSError:
                    return None
                assert status == 200, body
                return json.loads(body)

            until(lambda: get("stats"), what="the API answers")
            page = get(f"events/filter?tool_name={sent[7]}")
            assert [event["payload"]["tool_name"] for event in page["events"]] == [sent[7]]
            assert page["events"][0]["payload"]["chain"]["proxy"] == "source:billing"
            newest = get("events?limit=30")
            assert [event["payload"]["tool_name"] for event in newest["events"]] == sent[::-1]
            usage = [row["tool_name"] for row in get("usage?team_id=readers&limit=1000")["usage"]]
            assert set(sent) <= set(usage)
        finally:
            api.kill()
            api.wait()

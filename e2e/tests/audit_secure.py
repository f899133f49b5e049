"""The whole way of the record with a Kafka that wants TLS and a password, by the one file of settings that ingest and processor
read: what is wrong in it is told, costs no event, and arrives once when it is mended. The processes log at debug level, and what
they tell is searched for the passwords. What is kept of calls is the same as with the embedded store: proven, live, and without
secrets."""

import base64
import json
import os
import pathlib
import re
import signal
import subprocess
from unittest import mock

from audit_stack import AuditStack
from clickhouse import READER
from cluster.certificates import Authority
from harness import IDENTITY, MEDIA, SALLYPORT, test, until
from tests.audit_live import Live, call, delays
from tests.audit_privacy import HEADERS, PLAIN
from tests.audit_privacy import MARK as SECRET
from tests.audit_proof import seal
from tests.audit_spool import Ingest
from tests.operations import PROMISED, samples

# Every password has it; signs and blanks are part of one.
MARK = "m4rk3dP4ss"
USER, PASSWORD, WRONG = "sallyport", f"{MARK} = of #the stack", f"{MARK} of another"
# Known to Kafka, and allowed nothing.
GUEST = "guest"
# How many events are waited for, one after the other.
LOOKS = 12
PARTS = {"ingest": "ingest-admin", "processor": "processor-admin"}
# How librdkafka tells what it does to be let in.
TALK = "debug=security,conf,broker\n"


class SecureStack(AuditStack):
    """With passwords that are marked; `sent` counts the calls."""

    def __init__(self):
        self.sent, self.children = 0, {}
        with mock.patch.dict(os.environ, SALLYPORT_LOG="debug"):
            super().__init__({USER: PASSWORD, GUEST: WRONG})

    def send(self, count=30):
        """Calls that are answered, whatever is with Kafka."""
        for _ in range(count):
            assert self.call("list_invoices", {**MEDIA, **IDENTITY, "x-mcp-team-id": "secure"})[0] == 200
            self.sent += 1

    def restart(self, how, name=USER, **settings):
        """Ends ingest and processor, which come back with other settings."""
        self.settings.write_text(TALK + self.kafka.client(name, **settings))
        before = until(lambda: (c := self.run_json()["children"]).keys() >= PARTS.keys() and c, what="ingest and processor")
        for part in PARTS:
            os.kill(before[part], how)
        for part in PARTS:
            until(lambda: self.run_json()["children"].get(part) not in (None, before[part]), what=f"{part} is back")  # noqa: B023

    def told(self, part):
        """What a part says of its readiness."""
        try:
            status, answer = self.request("GET", "/readyz", port=PARTS[part], timeout=2)
        except OSError:
            return 0, ""
        return status, answer.decode()

    def balances(self):
        """All that was sent is in ClickHouse, once, and nothing waits."""
        until(lambda: self.ingest_metric("spool_records") == 0, 30, "the ingest has delivered everything")
        until(lambda: self.stored("secure")[0] >= self.sent, 40, f"{self.sent} events are stored")
        verdicts, _, twice = self.stored("secure")
        assert (verdicts, twice) == (self.sent, 0), (verdicts, twice, self.sent)
        assert self.missing() == {}


def start():
    return SecureStack()


@test
def what_is_wrong_in_the_settings_is_told_by_ingest_and_processor_and_costs_no_event(stack):
    stack.send()
    stack.balances()
    other, how = Authority(stack.folder / "other", "other").folder / "ca.crt", signal.SIGTERM
    tls, login = "see the properties `ssl.` in the file of --kafka-config", "see user, password and mechanism in the file of --kafka-config"
    right = "allow it to the user of --kafka-config (docs/audit.md has the rights)"
    for settings, words, remedy in [
        ({"authority": other}, "certificate verify failed", tls),
        ({"password": WRONG}, "invalid credentials", login),
        ({"password": WRONG, "mechanism": "PLAIN"}, "Invalid username or password", login),
        ({"name": GUEST}, "authorization failed", right),
    ]:
        began = len((stack.folder / "log").read_text())
        stack.restart(how, **settings)
        stack.send()
        for part, begins in (("ingest", (200, "ready, but events wait for Kafka: ")), ("processor", (503, "not ready: Kafka cannot be read: "))):
            status, answer = until(lambda: words in (t := stack.told(part))[1] and t, 20, f"{part} tells `{words}`")  # noqa: B023
            assert status == begins[0] and answer.startswith(begins[1]) and answer.endswith(remedy), answer
        until(lambda: stack.ingest_metric("spool_records"), what="events wait")
        assert stack.ingest_metric("events_delivered_total") == 0
        assert words in (stack.folder / "log").read_text()[began:]
        # There is nothing to be ended in order.
        how = signal.SIGKILL
    stack.restart(how, mechanism="PLAIN")
    stack.send()
    stack.balances()
    assert stack.in_kafka("secure") == (stack.sent, 0), stack.sent
    for part in PARTS:
        until(lambda: stack.told(part) == (200, "ready"), what=f"{part} has nothing to add")  # noqa: B023
    print(f"    {stack.sent} calls, each with one event in Kafka and in ClickHouse")


@test
def each_stage_tells_how_many_events_wait_in_it(stack):
    def waiting():
        stages = stack.api("GET", "audit/integrity")[1]["ingest"]["stages"]
        return tuple(stages[name]["events"] for name in ("ring", "spool", "kafka", "store"))

    until(lambda: waiting() == (0, 0, 0, 0), 20, lambda: f"nothing waits, but {waiting()}")
    processor = stack.run_json()["children"]["processor"]
    os.kill(processor, signal.SIGSTOP)
    try:
        stack.send()
        # What is delivered is noted a moment later.
        _, _, kafka, store = until(lambda: (w := waiting())[:2] == (0, 0) and w[2] >= 30 and w, 20, lambda: f"30 events wait in Kafka, but {waiting()}")
        assert kafka == store
        stack.kafka.kill()
        stack.send()
        _, spool, kafka, store = until(lambda: (w := waiting())[1] >= 30 and w, 20, lambda: f"30 events wait in the spool, but {waiting()}")
        assert kafka >= 30 and store == spool + kafka, (spool, kafka, store)
        assert re.search(rf"{spool} \(\d+ bytes\) in the spool, .* {kafka} in Kafka, {store} acknowledged", stack.cli("audit", "status").stdout)
    finally:
        os.kill(processor, signal.SIGCONT)
    stack.kafka.start()
    until(lambda: waiting() == (0, 0, 0, 0), 40, lambda: f"nothing waits, but {waiting()}")
    stack.balances()


@test
def a_certificate_for_another_name_is_not_trusted(stack):
    settings = stack.folder / "named.properties"
    settings.write_text(stack.kafka.client(USER))
    brokers = stack.kafka.secure.replace("127.0.0.1", "localhost")
    with Ingest(stack, "--kafka", brokers, "--kafka-config", settings) as ingest:
        assert ingest.post("named")[0] == 202
        words = "certificate verify failed"
        until(lambda: words in ingest.request("GET", "/readyz")[1], 20, f"readiness tells `{words}`")
        until(lambda: ingest.metric("spool_records") == 1, what="the event waits")
        assert ingest.metric("events_delivered_total") == 0


@test
def the_live_view_from_clickhouse_is_within_a_second_of_the_verdict(stack):
    times = delays(stack, LOOKS, ", by Kafka and ClickHouse")
    # Where others use the processor as well, one in many may take longer.
    assert times[LOOKS * 3 // 4] < 1 and times[-1] < 3, times


@test
def the_live_view_from_clickhouse_goes_on_where_it_was(stack):
    live = Live(stack)
    for number in range(4):
        assert call(stack, f"resume-{number}") == 200
    # Workers have ticks of their own: events need not come as calls did.
    came = [(place, event["payload"]["subject_team_id"]) for _, place, event in (live.events.get(timeout=10) for _ in range(4))]
    live.close()
    assert {team for _, team in came} == {f"resume-{number}" for number in range(4)}, came
    again = Live(stack, last=came[0][0])
    assert call(stack, "resume-4") == 200
    teams = [again.events.get(timeout=10)[2]["payload"]["subject_team_id"] for _ in range(4)]
    again.close()
    assert teams == [*(team for _, team in came[1:]), "resume-4"], "neither again, nor passed over"
    command = [SALLYPORT, "audit", "tail", "--follow", "-n", "2", "-o", "json", "--data", stack.folder / "data"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tail:
        try:
            team = lambda: json.loads(tail.stdout.readline())["payload"]["subject_team_id"]  # noqa: E731
            assert [team(), team()] == teams[-2:]
            assert call(stack, "resume-5") == 200
            assert team() == "resume-5"
        finally:
            tail.kill()


@test
def checkpoints_are_in_a_compacted_topic_and_the_same_in_clickhouse(stack):
    stack.send(5)
    seal(stack)
    described = stack.kafka.topics("--describe", "--topic", "mcp.checkpoints")
    assert "cleanup.policy=compact" in described and "PartitionCount: 1" in described, described
    in_topic = {int(key): value.hex() for _, key, value in stack.kafka.values("mcp.checkpoints")}
    assert in_topic, "the ingest has sealed"
    rows = "SELECT sequence, lower(hex(bytes)) FROM mcp.checkpoints FINAL"
    in_store = lambda: {int(sequence): text for sequence, text in stack.clickhouse.rows(rows, READER)}  # noqa: E731
    until(lambda: in_store().keys() >= in_topic.keys(), what="the checkpoints are stored")
    assert {sequence: in_store()[sequence] for sequence in in_topic} == in_topic


@test
def what_ingest_and_processor_tell_is_promised_and_says_what_kafka_does(stack):
    stack.send(5)
    seen = [sample for port in PARTS.values() for sample in samples(stack, port)]
    names = {name for name, _ in seen}
    assert {name for name in PROMISED if name.startswith("sallyport_processor_")} <= names, names
    assert {name for name in PROMISED if name.startswith("sallyport_ingest_kafka_")} <= names, names
    assert all(set(labels) - {"le"} == PROMISED.get(name) for name, labels in seen), seen
    until(lambda: stack.ingest_metric("kafka_brokers_up") == 1, what="a broker is up")
    until(lambda: stack.ingest_metric("kafka_round_trip_seconds") > 0, what="the broker's answers take time")


def decoded(text):
    """A text, and behind it what it has in base64."""
    return text + b"".join(base64.b64decode(found + b"=" * (-len(found) % 4)) for found in re.findall(rb"[A-Za-z0-9+/]{40,}", text))


def all_that_is_kept(stack):
    """What became of the record on its whole way, by name."""
    values = {topic: stack.kafka.values(topic) for topic in ("mcp.events.dead", "mcp.checkpoints")}
    for topic, records in values.items():
        yield topic, repr(records).encode()
    yield "mcp.events", json.dumps(stack.kafka.records("mcp.events", values=True)).encode()
    for table, in stack.clickhouse.rows("SELECT name FROM system.tables WHERE database = 'mcp' AND engine NOT LIKE '%View'", READER):
        yield f"table {table}", stack.clickhouse.post("/", f"SELECT * FROM mcp.`{table}` FORMAT JSONEachRow", READER).encode(errors="surrogateescape")
    for name in ("export.jsonl", "export.parquet"):
        done = stack.cli("audit", "export", stack.folder / name)
        assert done.returncode == 0, done.stderr
        yield name, (stack.folder / name).read_bytes()
    yield "tail", stack.cli("audit", "tail", "-n", "1000", "-o", "json").stdout.encode()
    for port, path in (*((port, "/metrics") for port in (*PARTS.values(), "operator-admin")), ("envoy-admin", "/stats/prometheus")):
        yield f"{port}{path}", stack.request("GET", path, port=port)[1]
    for port in PARTS.values():
        yield f"{port}/readyz", stack.request("GET", "/readyz", port=port)[1]
    yield "log", (stack.folder / "log").read_bytes()


@test
def no_secret_of_a_request_is_in_any_topic_table_export_metric_or_log(stack):
    headers = {**MEDIA, **IDENTITY, **HEADERS, "x-mcp-team-id": PLAIN}
    assert stack.call("list_invoices", headers, note=f"{SECRET}-argument")[0] == 200
    assert stack.call("refund_invoice", headers, reason=f"{SECRET}-denied")[0] == 403
    until(lambda: stack.stored(PLAIN)[0] == 2, 30, "both are stored")
    kept = {name: decoded(content) for name, content in all_that_is_kept(stack)}
    leaks = [name for name, content in kept.items() if SECRET.encode() in content]
    assert not leaks, leaks
    # What may be kept is found by the same search.
    finds = {name for name, content in kept.items() if PLAIN.encode() in content}
    assert finds >= {"mcp.events", "table events", "export.jsonl", "tail"}, finds


@test
def no_password_is_in_any_log_metric_answer_or_command(stack):
    log = (stack.folder / "log").read_text()
    told = {"log": log, **{f"readiness of {part}": stack.told(part)[1] for part in PARTS}}
    for port in (*PARTS.values(), "operator-admin"):
        told[f"metrics at {port}"] = stack.request("GET", "/metrics", port=port)[1].decode()
    for name, pid in stack.run_json()["children"].items():
        for file in ("cmdline", "environ"):
            told[f"{file} of {name}"] = pathlib.Path(f"/proc/{pid}/{file}").read_text()
    encoded = [base64.b64encode(text.encode()).decode().strip("=") for word in (PASSWORD, WRONG) for text in (word, f"\0{USER}\0{word}")]
    leaks = [name for name, text in told.items() for secret in (MARK, *encoded) if secret in text]
    assert not leaks, leaks
    # The search proves something: the client told what it was set to, and how it was let in.
    assert "sasl.password = [redacted]" in log and "DEBUG" in log and "SASL" in log, log[-2000:]

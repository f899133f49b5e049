"""The whole way of the record with a Kafka that wants TLS and a password, by the one file of settings that ingest and processor
read: what is wrong in it is told, costs no event, and arrives once when it is mended. The processes log at debug level, and what
they tell is searched for the passwords."""

import base64
import os
import pathlib
import signal
from unittest import mock

from audit_stack import AuditStack
from cluster.certificates import Authority
from harness import IDENTITY, MEDIA, test, until
from tests.audit_spool import Ingest

# Every password has it; signs and blanks are part of one.
MARK = "m4rk3dP4ss"
USER, PASSWORD, WRONG = "sallyport", f"{MARK} = of #the stack", f"{MARK} of another"
# Known to Kafka, and allowed nothing.
GUEST = "guest"
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
        assert stack.ingest_metric("events_delivered_total") == 0 and stack.ingest_metric("spool_records") > 0
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
def a_certificate_for_another_name_is_not_trusted(stack):
    settings = stack.folder / "named.properties"
    settings.write_text(stack.kafka.client(USER))
    brokers = stack.kafka.secure.replace("127.0.0.1", "localhost")
    with Ingest(stack, "--kafka", brokers, "--kafka-config", settings) as ingest:
        assert ingest.post("named")[0] == 202
        words = "certificate verify failed"
        until(lambda: words in ingest.request("GET", "/readyz")[1], 20, f"readiness tells `{words}`")
        assert ingest.metric("spool_records") == 1 and ingest.metric("events_delivered_total") == 0


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

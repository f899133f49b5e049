"""Everything that the record passes through, real and on free ports: Envoy, ingest, Kafka, the processor, the analytics store and
the control API. As a script: `make audit-stack`, which leaves it running."""

import contextlib
import signal
import sys
import time

from clickhouse import READER, ClickHouse
from harness import Stack, until
from kafka import STRICT, Kafka

# How long what is broken stays away, in seconds.
AWAY = 4
USER = {"sallyport": "of the stack"}
# All that ingest and processor need, as docs/audit.md says.
TOPICS = [part for topic in ("mcp.events", "mcp.events.dead", "mcp.checkpoints") for part in ("--topic", topic)]
RIGHTS = ["--producer", "--consumer", *TOPICS, "--group", "sallyport-processor"]


class AuditStack(Stack):
    """`sallyport up` before Kafka and ClickHouse, which it reaches over TLS, with passwords. The file `settings` says how it reaches
    Kafka, as the first of `users`, passwords by name, who alone may do something there."""

    def __init__(self, users=USER):
        self.kafka = self.clickhouse = None
        try:
            self.kafka, self.clickhouse = Kafka(users=users, **STRICT), ClickHouse(tls=True)
            name = next(iter(users))
            self.kafka.allow(name, *RIGHTS)
            self.settings = self.kafka.folder / "client.properties"
            self.settings.write_text(self.kafka.client(name))
            options = ["--kafka", self.kafka.secure, "--kafka-config", self.settings, "--kafka-format", "json"]
            super().__init__([*options, *self.clickhouse.flags()])
        except BaseException:
            self.stop_beside()
            raise

    def ingest_metric(self, name):
        """A metric of the ingest; None while it is away."""
        try:
            lines = self.request("GET", "/metrics", port="ingest-admin", timeout=2)[1].decode().splitlines()
        except OSError:
            return None
        return next((float(line.split()[1]) for line in lines if line.startswith(f"sallyport_ingest_{name} ")), None)

    def in_kafka(self, team):
        """Of the calls under `team`: how many have an event in Kafka, and how many records there are beyond the first of each."""
        records = self.kafka.records("mcp.events", values=True)
        told = [(record["ce_id"], record["value"]["payload"]) for record in records]
        verdicts = [i for i, payload in told if payload.get("subject_team_id") == team and payload.get("phase") != "outcome"]
        return len(set(verdicts)), len(verdicts) - len(set(verdicts))

    def kafka_away(self):
        self.kafka.kill()
        time.sleep(AWAY)
        self.kafka.start()

    def clickhouse_away(self):
        self.clickhouse.behave(down=True)
        time.sleep(AWAY)
        self.clickhouse.behave()

    def acknowledged(self):
        """How many events the filter in Envoy knows to be safe, and how many it gave up."""
        lines = self.request("GET", "/stats?filter=sallyport_audit_events", port="envoy-admin")[1].decode().splitlines()
        counts = [line.split(": ") for line in lines]
        return tuple(sum(int(count) for name, count in counts if name.endswith(word)) for word in ("acknowledged", "dropped"))

    def stored(self, team):
        """In ClickHouse: how many of the calls under `team` have an event, how many events of Envoy's there are, and how many rows
        an event has beyond its first."""
        verdicts = f"uniqExactIf(event_id, subject_team_id = '{team}' AND phase != 'outcome')"
        sql = f"SELECT {verdicts}, uniqExact(event_id), count() - uniqExact(event_id) FROM mcp.events WHERE NOT finding"
        return [int(count) for count in self.clickhouse.rows(f"{sql} AND proxy = 'standalone'", READER)[0]]

    def missing(self):
        """In ClickHouse: how many events are named as missing, by what was found."""
        sql = "SELECT event_type, sum(missing) FROM mcp.events FINAL WHERE finding GROUP BY event_type"
        return {kind: int(count) for kind, count in self.clickhouse.rows(sql, READER)}

    def stop_beside(self):
        for part in (self.kafka, self.clickhouse):
            if part is not None:
                part.stop()

    def stop(self):
        super().stop()
        self.stop_beside()

    close = stop


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(AuditStack()) as stack:
        print(f"""The record's parts are up; Ctrl-C stops them.

  gateway      http://127.0.0.1:{stack.ports['listen']}/payments/mcp
  control API  http://127.0.0.1:{stack.ports['api']}   key: {stack.folder}/data/api-key
  ingest       http://127.0.0.1:{stack.ports['ingest-admin']}/metrics
  processor    http://127.0.0.1:{stack.ports['processor-admin']}/metrics
  Kafka        {stack.kafka.bootstrap}, topic mcp.events
  ClickHouse   {stack.clickhouse.url}, database mcp, user {READER[0]}, password `{READER[1]}`""", flush=True)
        stack.process.wait()


if __name__ == "__main__":
    main()

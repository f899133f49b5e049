"""Everything that the record passes through, real and on free ports: Envoy, ingest, Kafka, the processor, the analytics store and
the control API. As a script: `make audit-stack`, which leaves it running."""

import contextlib
import signal
import sys

from harness import Stack
from kafka import Kafka


class AuditStack(Stack):
    """`sallyport up` before Kafka. What is behind Kafka joins in `begin`."""

    def __init__(self, options=(), **kafka):
        self.kafka = Kafka(**kafka)
        try:
            super().__init__(["--kafka", self.kafka.bootstrap, "--kafka-format", "json", *options])
        except BaseException:
            self.kafka.stop()
            raise

    def ingest_metric(self, name):
        """A metric of the ingest; None while it is away."""
        try:
            lines = self.request("GET", "/metrics", port="ingest-admin", timeout=2)[1].decode().splitlines()
        except OSError:
            return None
        return next((float(line.split()[1]) for line in lines if line.startswith(f"sallyport_ingest_{name} ")), None)

    def in_kafka(self, team):
        """Of the calls under `team`: how many have an event, how many events are named as missing, and how many are there twice."""
        records = self.kafka.records("mcp.events", values=True)
        told = [(record["ce_id"], record["value"]["payload"]) for record in records]
        verdicts = [i for i, payload in told if payload.get("subject_team_id") == team and payload.get("phase") != "outcome"]
        missing = {i: payload["missing"] for i, payload in told if i.startswith("audit.")}
        return len(set(verdicts)), sum(missing.values()), len(verdicts) - len(set(verdicts))

    def stop(self):
        super().stop()
        self.kafka.stop()

    def store_faults(self):
        """Faults of what is behind Kafka: pairs of a text and what to do."""
        return []

    def stored(self, team, count):
        """How many of the calls under `team` the analytics store has, once it has `count` or gives up; None: there is none."""
        return None

    close = stop


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(AuditStack()) as stack:
        print(f"""The record's parts are up; Ctrl-C stops them.

  gateway      http://127.0.0.1:{stack.ports['listen']}/payments/mcp
  control API  http://127.0.0.1:{stack.ports['api']}   key: {stack.folder}/data/api-key
  ingest       http://127.0.0.1:{stack.ports['ingest-admin']}/metrics
  Kafka        {stack.kafka.bootstrap}, topic mcp.events""", flush=True)
        stack.process.wait()


if __name__ == "__main__":
    main()

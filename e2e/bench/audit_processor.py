"""What an event costs from Kafka to ClickHouse: CPU of the processor, and apart from it of ClickHouse's engine."""

import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from clickhouse import ClickHouse  # noqa: E402
from harness import ROOT, ask, free_port, until  # noqa: E402
from kafka import Kafka  # noqa: E402

EXAMPLES = ROOT / "target/release/examples"
EVENTS, CHAINS = 1_000_000, 16


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main():
    print(subprocess.run([EXAMPLES / "encode"], capture_output=True, text=True, check=True).stdout.strip())
    kafka, clickhouse, processor = Kafka(heap="1g", options=[]), ClickHouse(), None
    try:
        kafka.topics("--create", "--topic", "bench.events", "--partitions", "4")
        filled = [EXAMPLES / "fill", kafka.bootstrap, "bench.events", str(EVENTS), str(CHAINS)]
        print(subprocess.run(filled, capture_output=True, text=True, check=True).stdout.strip())
        admin = free_port()
        command = [ROOT / "target/release/sallyport", "processor", f"--kafka={kafka.bootstrap}", "--kafka-topic=bench.events", *clickhouse.flags()]
        processor = subprocess.Popen([*command, f"--admin=127.0.0.1:{admin}", *sys.argv[1:]])

        def stored():
            try:
                lines = ask(("127.0.0.1", admin), "GET", "/metrics")[1].decode().splitlines()
            except OSError:
                return 0
            return next(float(line.split()[1]) for line in lines if line.startswith("sallyport_processor_events_stored_total "))

        until(lambda: stored() > 0, 60, "the first batch is stored")
        first, began, own, engine = stored(), time.monotonic(), cpu_seconds(processor.pid), clickhouse.cpu_seconds()
        until(lambda: stored() >= EVENTS, 600, "everything is stored")
        count, took = EVENTS - first, time.monotonic() - began
        own, engine = cpu_seconds(processor.pid) - own, clickhouse.cpu_seconds() - engine
        there, distinct = clickhouse.rows("SELECT toUInt32(count()), toUInt32(uniqExact(worker, seq)) FROM mcp.events")[0]
        print(f"{count:,.0f} events in {took:.1f} s, {count / took:,.0f} a second, on this machine with Kafka and ClickHouse beside")
        print(f"processor: {own * 1e6 / count:.2f} us of CPU an event, {count / own:,.0f} events/s and core (goal: 150,000)")
        print(f"ClickHouse's engine and fixture: {engine * 1e6 / count:.2f} us of CPU an event")
        print(f"stored: {there:,}, distinct: {distinct:,}, sent: {EVENTS:,}")
        return 0 if there == distinct == EVENTS else 1
    finally:
        if processor:
            processor.kill()
            processor.wait()
        clickhouse.stop()
        kafka.stop()


if __name__ == "__main__":
    sys.exit(main())

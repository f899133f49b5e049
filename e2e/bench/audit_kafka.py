"""`make bench-audit-kafka`: what an event costs on its way from the spool to Kafka, beside Kafka's own producer benchmark against
the same broker with records of the same content; and the ingest's memory while Kafka is away."""

import argparse
import hashlib
import http.client
import json
import os
import pathlib
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "e2e"))
from harness import free_port, until  # noqa: E402
from kafka import Kafka  # noqa: E402

SALLYPORT = ROOT / "target/release/sallyport"
KEY = "key of the benchmark"
TICKS = os.sysconf("SC_CLK_TCK")
PER_REQUEST = 2000


class Ingest:
    def __init__(self, kafka):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-bench-", dir=ROOT / "target"))
        tls = self.folder / "tls"
        tls.mkdir()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
             "/CN=bench", "-keyout", tls / "tls.key", "-out", tls / "tls.crt"], check=True, capture_output=True)
        (self.folder / "keys.json").write_text(json.dumps({hashlib.sha256(KEY.encode()).hexdigest(): "bench"}))
        (self.folder / "tokens.json").write_text("{}")
        self.ports = {name: free_port() for name in ["listen", "admin", "events"]}
        command = [SALLYPORT, "ingest", "--events-plaintext", "--spool-megabytes=8192", "--kafka", kafka.bootstrap]
        command += [f"--{name}=127.0.0.1:{port}" for name, port in self.ports.items()]
        command += ["--db", self.folder / "events.db", "--tls-dir", tls, "--source-keys", self.folder / "keys.json"]
        command += ["--tokens", self.folder / "tokens.json"]
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        until(self.is_ready, 20, "the ingest is ready")

    def is_ready(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        try:
            return self.request("GET", "/readyz", "admin")[0] == 200
        except OSError:
            return False

    def request(self, method, path, port, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=60)
        try:
            connection.request(method, path, body, {"x-api-key": KEY})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name):
        lines = self.request("GET", "/metrics", "admin")[1].splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"sallyport_ingest_{name} "))

    def fill(self, count):
        for first in range(0, count, PER_REQUEST):
            body = "\n".join(event(number) for number in range(first, first + PER_REQUEST))
            status, answer = self.request("POST", "/events", "events", body)
            assert status == 202, answer

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_megabytes(self):
        return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
        shutil.rmtree(self.folder)


def event(number):
    payload = {
        "server": "payments", "namespace": "mcp-servers", "decision": "allow", "tool_name": "list_invoices", "number": number,
        "session_id": f"sess-{number * 7919 % 100_003}", "human_id": f"user-{number * 104_729 % 10_007}", "note": f"{number * 2_654_435_761 % 2**64:016x}",
    }
    return json.dumps({"source": "bench", "event_type": "charge", "payload": payload})


def ours(kafka, count):
    ingest = Ingest(kafka)
    try:
        until(lambda: ingest.metric("kafka_brokers_up") > 0, 30, "the ingest is connected")
        kafka.kill()
        before = ingest.peak_megabytes()
        ingest.fill(count)
        until(lambda: ingest.metric("kafka_queue_records") > 0, 20, "records wait")
        time.sleep(2)
        memory, per_event = ingest.peak_megabytes(), ingest.metric("spool_bytes") / count
        ahead, cpu = ingest.metric("kafka_queue_records"), ingest.cpu()
        kafka.start()
        began = time.monotonic()
        until(lambda: ingest.metric("spool_records") == 0, 600, "the spool is delivered")
        wall, cpu = time.monotonic() - began, ingest.cpu() - cpu
        print(f"  {count:,} events of {per_event:.0f} bytes in the spool were taken while Kafka was away: resident memory"
              f" {before:.0f} MB before, {memory:.0f} MB at most")
        told("spool to Kafka", count - ahead, cpu, wall)
        return (count - ahead) / cpu
    finally:
        ingest.stop()


def told(name, count, cpu, wall):
    print(f"  {name:<28} {count / cpu:>11,.0f} events/s per core   {count / wall:>11,.0f} events/s by the clock   {cpu / count * 1e6:6.2f} µs of CPU each")


def sample(kafka, folder):
    """A file of records as they are in the topic, headers and all, one per line, as text of the same size."""
    main = "org.apache.kafka.tools.consumer.ConsoleConsumer"
    prints = [f"--formatter-property=print.{name}=true" for name in ("headers", "key", "value")]
    command = kafka.command(
        main, "--bootstrap-server", kafka.bootstrap, "--topic", "mcp.events", "--from-beginning", "--max-messages", 20000, *prints,
        "--formatter-property=line.separator=\x1e\x1e\n")
    raw = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout
    records = [bytes(b & 0x7F if b & 0x7F not in (10, 13) else 32 for b in record) for record in raw.split(b"\x1e\x1e\n") if record]
    path = folder / "payload"
    path.write_bytes(b"\n".join(records))
    return path, sum(map(len, records)) / len(records)


def theirs(kafka, count):
    kafka.topics("--create", "--topic", "perf", "--partitions", "6", "--config", "max.message.bytes=10485760")
    path, size = sample(kafka, kafka.folder)
    properties = ["acks=all", "enable.idempotence=true", "compression.type=zstd", "linger.ms=5", "batch.size=1000000"]
    command = kafka.command(
        "org.apache.kafka.tools.ProducerPerformance", "--topic", "perf", "--num-records", count, "--payload-file", path, "--throughput",
        -1, "--producer-props", f"bootstrap.servers={kafka.bootstrap}", *properties, heap="1g")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"  kafka-producer-perf-test, {size:.0f} bytes a record: {result.stdout.strip().splitlines()[-1]}")
    told("kafka-producer-perf-test", count, cpu, wall)
    return count / cpu


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    count = parser.parse_args().events // PER_REQUEST * PER_REQUEST
    kafka = Kafka(heap="1g", options=[])
    try:
        mine = ours(kafka, count)
        peer = theirs(kafka, count)
        print(f"  ratio {mine / peer:.2f} (goal: 0.8); goal: 100,000 events/s per core")
    finally:
        kafka.stop()


if __name__ == "__main__":
    main()

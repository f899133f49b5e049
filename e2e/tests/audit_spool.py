"""The ingest as a process of its own: what it acknowledged is in the store exactly once, whatever happens to it."""

import concurrent.futures
import hashlib
import http.client
import json
import pathlib
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time

from fixtures.blake3 import digest
from harness import SALLYPORT, free_port, test, until

KEY = "key of the billing service"
KILLS = 10


class Ingest:
    """`sallyport ingest` with the certificate and the tokens of a running stack."""

    def __init__(self, stack, *options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-ingest-"))
        keys = {hashlib.sha256(KEY.encode()).hexdigest(): "billing"}
        (self.folder / "keys.json").write_text(json.dumps(keys))
        self.data = stack.folder / "data"
        self.ports = {name: free_port() for name in ["listen", "admin", "events"]}
        self.options = options
        self.process = None
        self.start()

    def start(self):
        command = [SALLYPORT, "ingest", "--events-plaintext", *self.options]
        command += [f"--{name}=127.0.0.1:{port}" for name, port in self.ports.items()]
        command += ["--source-keys", self.folder / "keys.json", "--db", self.folder / "events.db"]
        command += ["--tls-dir", self.data / "tls", "--tokens", self.data / "tokens.json"]
        with open(self.folder / "log", "a") as log:
            # Without a limit's signal, which would end it, so that a write beyond the limit is an error.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, restore_signals=False)

    def request(self, method, path, body=None, port="admin"):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[port], timeout=5)
        try:
            connection.request(method, path, body, {"x-api-key": KEY})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def is_ready(self):
        try:
            return self.request("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def post(self, number, padding=""):
        event = {"source": "billing", "event_type": "charge", "payload": {"number": number, "padding": padding}}
        return self.request("POST", "/events", json.dumps(event), "events")

    def metric(self, name):
        lines = self.request("GET", "/metrics")[1].splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"sallyport_ingest_{name} "))

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def limit_files(self, size):
        _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def store(self):
        return sqlite3.connect(self.folder / "events.db", isolation_level=None, timeout=10)

    def stored(self):
        rows = self.store().execute("SELECT envelope FROM events WHERE event_type = 'charge' ORDER BY id")
        return [json.loads(row[0])["payload"]["number"] for row in rows]

    def findings(self):
        return self.store().execute("SELECT count(*) FROM events WHERE source = 'ingest'").fetchone()[0]

    def __enter__(self):
        until(self.is_ready, what="the ingest is ready")
        return self

    def __exit__(self, kind, *_):
        if kind:
            print((self.folder / "log").read_text()[-3000:])
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)


def killed_under_load(ingest, senders, kills, pause):
    """Kills the ingest while events are sent, each time after a `pause` between two bounds, in seconds. Tells which events it
    acknowledged, and of which nobody knows: they may have been written before the end."""
    stop, acknowledged, unknown = threading.Event(), set(), set()

    def load(sender):
        number = 0
        while not stop.is_set():
            number += 1
            name = f"{sender}-{number}"
            try:
                status = ingest.post(name)[0]
            except (OSError, http.client.HTTPException):
                status = None
            (acknowledged if status == 202 else unknown).add(name)
            if status != 202:
                time.sleep(0.01)

    threads = [threading.Thread(target=load, args=(sender,)) for sender in range(senders)]
    for thread in threads:
        thread.start()
    for _ in range(kills):
        time.sleep(random.uniform(*pause))
        ingest.kill()
        ingest.start()
    until(ingest.is_ready, what="the ingest is back")
    stop.set()
    for thread in threads:
        thread.join()
    return acknowledged, unknown


@test
def what_was_acknowledged_is_stored_once_though_the_ingest_is_killed_ten_times_under_load(stack):
    with Ingest(stack) as ingest:
        acknowledged, unknown = killed_under_load(ingest, 6, KILLS, (0.02, 0.6))
        until(lambda: acknowledged <= set(ingest.stored()), what="what was acknowledged is stored")
        stored = ingest.stored()
        assert len(stored) == len(set(stored)), "stored twice"
        assert set(stored) <= acknowledged | unknown
        assert ingest.findings() == 0, "a chain has a hole"
        print(f"    {len(acknowledged)} acknowledged, {len(unknown)} unanswered, {len(stored)} stored, {KILLS} kills")
        assert len(acknowledged) > 100, len(acknowledged)


@test
def a_torn_record_at_the_spools_end_costs_nothing_that_was_acknowledged(stack):
    with Ingest(stack) as ingest:
        store = ingest.store()
        store.execute("BEGIN EXCLUSIVE")
        numbers = [f"torn-{number}" for number in range(50)]
        assert all(ingest.post(number)[0] == 202 for number in numbers), "the store need not be there"
        until(lambda: ingest.metric("spool_records") > 0, what="something waits for the store")
        assert ingest.stored() == []
        ingest.kill()
        segment = max((ingest.folder / "events.db.spool").glob("*.log"))
        whole = segment.read_bytes()
        segment.write_bytes(whole + whole[20:70])
        store.execute("ROLLBACK")
        store.close()
        ingest.start()
        until(lambda: len(ingest.stored()) >= 50, what="what was acknowledged is stored")
        assert ingest.stored() == numbers
        assert "torn" in (ingest.folder / "log").read_text()


@test
def a_full_disk_refuses_events_says_so_and_loses_none(stack):
    with Ingest(stack) as ingest:
        assert ingest.post("before")[0] == 202
        ingest.limit_files(1)
        status, answer = ingest.post("refused")
        assert status == 503 and json.loads(answer)["error"] == "unavailable", answer
        status, answer = until(lambda: (r := ingest.request("GET", "/readyz"))[0] == 503 and r, what="not ready")
        assert "spool cannot be written" in answer, answer
        ingest.limit_files(None)
        until(ingest.is_ready, what="the ingest is ready again")
        assert ingest.post("after")[0] == 202
        until(lambda: "after" in ingest.stored(), what="the event is stored")
        assert ingest.stored() == ["before", "after"]


@test
def a_full_spool_pushes_back_until_the_store_has_caught_up(stack):
    with Ingest(stack, "--spool-megabytes=1") as ingest:
        store = ingest.store()
        store.execute("BEGIN EXCLUSIVE")
        sent = []
        while (answer := ingest.post(f"full-{len(sent)}", "x" * 20_000))[0] == 202:
            sent.append(f"full-{len(sent)}")
        assert answer[0] == 429 and json.loads(answer[1])["error"] == "busy", answer
        assert len(sent) > 30 and ingest.is_ready(), len(sent)
        assert ingest.metric("batches_pushed_back_total") == 1
        store.execute("ROLLBACK")
        store.close()
        until(lambda: ingest.post("room")[0] == 202, what="room")
        until(lambda: "room" in ingest.stored(), what="everything is stored")
        assert ingest.stored() == [*sent, "room"]


def field(number, value):
    """A field of a message: bytes, or a number."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def varint(number):
    more, rest = number >> 7, number & 0x7F
    return bytes([rest | 0x80]) + varint(more) if more else bytes([rest])


class Emitter:
    """Speaks to an ingest as the proxy of the stack does, by the proto's own encoding."""

    def __init__(self, ingest):
        self.ingest, self.token = ingest, (ingest.data / "proxy/token").read_text().strip()

    def emit(self, message, token=None):
        """The status, and the answer's fields as numbers, by number."""
        port = self.ingest.ports["listen"]
        with tempfile.NamedTemporaryFile(dir=self.ingest.folder) as body:
            command = ["curl", "--silent", "--dump-header", "-", "--http2", "--cacert", self.ingest.data / "tls/ca.crt"]
            command += ["--connect-to", f"sallyport-control-plane:{port}:127.0.0.1:{port}"]
            headers = {"content-type": "application/grpc", "te": "trailers", "authorization": f"Bearer {token or self.token}"}
            command += [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
            command += ["--data-binary", "@-", f"https://sallyport-control-plane:{port}/sallyport.audit.v1.AuditIngest/Emit"]
            frame = b"\0" + len(message).to_bytes(4, "big") + message
            command += ["--output", body.name]
            answer = subprocess.run(command, input=frame, capture_output=True, timeout=20, check=True).stdout
            lines = [line for line in answer.split(b"\r\n") if line.startswith(b"grpc-status:")]
            return int(lines[-1].split(b":")[1]), numbers(body.read()[5:])


def numbers(message):
    """The fields of a message that has only numbers."""
    values, value, shift = [], 0, 0
    for byte in message:
        value, shift = value | (byte & 0x7F) << shift, shift + 7
        if not byte & 0x80:
            values.append(value)
            value = shift = 0
    return {tag >> 3: value for tag, value in zip(values[::2], values[1::2])}


def chain_of(epoch, count):
    """Events of a chain of the proxy `standalone`, encoded."""
    events, before = [], digest(f"sallyport-chain-v1\nstandalone\n7\n{epoch}".encode())
    for seq in range(1, count + 1):
        identity = (epoch // 1_000_000).to_bytes(6, "big") + seq.to_bytes(10, "big")
        events.append(field(1, seq) + field(2, before) + field(3, 1) + field(4, epoch) + field(5, identity) + field(33, b"replayed"))
        before = digest(events[-1])
    return events


@test
def a_batch_that_comes_again_and_again_is_stored_once(stack):
    with Ingest(stack) as ingest:
        emitter, epoch = Emitter(ingest), time.time_ns()
        events = chain_of(epoch, 8)

        def batch(first, last):
            chosen = b"".join(field(4, event) for event in events[first - 1:last])
            return field(1, b"standalone") + field(2, 7) + field(3, epoch) + chosen

        def answered(status, answer):
            """The highest durable sequence, and how many were known."""
            assert status == 0, status
            return answer.get(1, 0), answer.get(2, 0)

        # A proxy that gave up waiting tries again while the first is under way.
        with concurrent.futures.ThreadPoolExecutor(4) as senders:
            answers = [answered(*answer) for answer in senders.map(emitter.emit, [batch(1, 5)] * 4)]
        assert sorted(answers) == [(5, 0), (5, 5), (5, 5), (5, 5)], answers
        ingest.kill()
        ingest.start()
        until(ingest.is_ready, what="the ingest is back")
        assert answered(*emitter.emit(batch(1, 5))) == (5, 5)
        assert answered(*emitter.emit(batch(4, 8))) == (8, 2)
        assert answered(*emitter.emit(batch(1, 8))) == (8, 8)
        assert ingest.metric("events_duplicate_total") == 15
        rows = "SELECT envelope FROM events WHERE tool_name = 'replayed' ORDER BY id"
        stored = lambda: [json.loads(row[0])["payload"]["chain"]["seq"] for row in ingest.store().execute(rows)]  # noqa: E731
        until(lambda: len(stored()) >= 8, what="the events are stored")
        assert stored() == list(range(1, 9)) and ingest.findings() == 0


@test
def a_proxy_that_names_another_is_refused_and_counted(stack):
    with Ingest(stack) as ingest:
        emitter = Emitter(ingest)
        emit = lambda proxy, token=None: emitter.emit(field(1, proxy), token)[0]  # noqa: E731
        assert emit(b"standalone") == 0
        assert emit(b"other") == 7, "permission denied"
        assert emit(b"standalone", "guess") == 16, "unauthenticated"
        assert ingest.metric("batches_refused_total") == 2

"""The ingest as a process of its own: what it acknowledged is in the store exactly once, whatever happens to it."""

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


@test
def a_proxy_that_names_another_is_refused_and_counted(stack):
    with Ingest(stack) as ingest:
        token = (ingest.data / "proxy/token").read_text().strip()

        def emit(proxy, token):
            message = b"\x0a" + bytes([len(proxy)]) + proxy.encode()
            port = ingest.ports["listen"]
            command = ["curl", "--silent", "--dump-header", "-", "--http2", "--cacert", ingest.data / "tls/ca.crt"]
            command += ["--connect-to", f"sallyport-control-plane:{port}:127.0.0.1:{port}"]
            headers = {"content-type": "application/grpc", "te": "trailers", "authorization": f"Bearer {token}"}
            command += [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
            command += ["--data-binary", "@-", f"https://sallyport-control-plane:{port}/sallyport.audit.v1.AuditIngest/Emit"]
            frame = b"\0" + len(message).to_bytes(4, "big") + message
            command += ["--output", "/dev/null"]
            answer = subprocess.run(command, input=frame, capture_output=True, timeout=20, check=True).stdout
            lines = [line for line in answer.split(b"\r\n") if line.startswith(b"grpc-status:")]
            return int(lines[-1].split(b":")[1])

        assert emit("standalone", token) == 0
        assert emit("other", token) == 7, "permission denied"
        assert emit("standalone", "guess") == 16, "unauthenticated"
        assert ingest.metric("batches_refused_total") == 2

"""Starts the whole of Sallyport on free ports, with a real Envoy, and talks to it as users do."""

import http.client
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "e2e"))
from fixtures import upstream  # noqa: E402
from ports import free_port  # noqa: E402

IDENTITY = {"x-mcp-human-id": "user-123", "x-mcp-agent-id": "ops-agent", "x-mcp-agent-session": "sess-ops"}
MEDIA = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
SALLYPORT = ROOT / "target/debug/sallyport"


_TESTS = []
_SOAKS = []


def test(function):
    """Marks a test: a function of the stack whose name states the behaviour."""
    _TESTS.append(function)
    return function


def soak(function):
    """Marks a test that takes minutes, for `make soak`."""
    _SOAKS.append(function)
    return function


def tests_of(module, long=False):
    return [function for function in (_SOAKS if long else _TESTS) if function.__module__ == module.__name__]


def python(major):
    """The Python with the official SDK of this major version."""
    return ROOT / f".cache/tools/python-mcp{major}/bin/python"


def ask(address, method, path, body=None, headers=None, timeout=10):
    """One HTTP request of a connection of its own: status and body. Headers are pairs, or a dictionary; `host` among them is
    asked for in place of the address."""
    pairs = list(headers.items() if isinstance(headers, dict) else (headers or []))
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        names_host = any(name.lower() == "host" for name, _ in pairs)
        connection.putrequest(method, path, skip_host=names_host, skip_accept_encoding=True)
        for name, value in pairs:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def until(condition, seconds=15, what="condition"):
    """Polls until `condition` gives something true, and gives it back. `what` is text, or gives it when it is told."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"{what() if callable(what) else what} did not come true within {seconds} s")


class ControlApi:
    """The control API: needs `request`, for the port `api`, and `key`."""

    def api(self, method, path, body=None, key=None):
        body = json.dumps(body).encode() if body is not None else None
        headers = {"x-api-key": self.key if key is None else key, "content-type": "application/json"}
        status, answer = self.request(method, f"/api/v1/{path}", body, headers, port="api", timeout=30)
        return status, json.loads(answer)

    def events(self, **filters):
        query = "&".join(f"{name}={value}" for name, value in {"limit": 1000, **filters}.items())
        status, page = self.api("GET", f"events/filter?{query}")
        assert status == 200, page
        return page["events"]


class Gateway(ControlApi):
    """`sallyport up` on a copy of `manifests` but the folders `without`, each file passed through `edit`, with further `options`."""

    FLAGS = ["listen", "api", "envoy-admin", "xds", "ingest", "operator-admin", "ingest-admin", "processor-admin"]

    def __init__(self, manifests, edit=lambda text: text, ports=None, options=(), without=()):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-"))
        self.config = self.folder / "config"
        shutil.copytree(manifests, self.config, ignore=shutil.ignore_patterns(*without))
        for path in self.config.rglob("*.yaml"):
            path.write_text(edit(path.read_text()))
        self.ports = ports or {flag: free_port() for flag in self.FLAGS}
        self.log = open(self.folder / "log", "w")
        command = [SALLYPORT, "up", "--config", self.config, "--data", self.folder / "data", *options]
        command += [f"--{flag}=127.0.0.1:{port}" for flag, port in self.ports.items()]
        began = time.monotonic()
        # In a session of its own, so that Ctrl-C reaches it through `stop` only.
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self.log, stderr=self.log, start_new_session=True)
        try:
            until(self.is_ready, 30, "stack is ready")
            self.key = (self.folder / "data/api-key").read_text().strip()
            # A worker that has not served yet learns its grants on its first tick.
            until(self.decides, what="first verdict")
        except BaseException:
            print((self.folder / "log").read_text(), file=sys.stderr)
            self.stop()
            raise
        self.started_in = time.monotonic() - began

    def decides(self):
        """Whether the workers decide already; each connection meets any of them."""
        return all(self.request("GET", "/.sallyport/ready")[0] == 200 for _ in range(20))

    def is_ready(self):
        assert self.process.poll() is None, "sallyport up ended"
        return (self.folder / "data/run.json").exists() and "ready in" in (self.folder / "log").read_text()

    def run_json(self):
        return json.loads((self.folder / "data/run.json").read_text())

    def request(self, method, path, body=None, headers=None, port="listen", timeout=10):
        return ask(("127.0.0.1", self.ports[port]), method, path, body, headers, timeout)

    def reason(self, answer):
        return json.loads(answer[1])["error"]["data"]["reason"]

    def cli(self, *arguments):
        command = [SALLYPORT, *arguments, "--data", self.folder / "data"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    def answers_ready(self, port):
        """Whether the process that listens on `port`, a name of `ports`, says that it is ready."""
        try:
            return self.request("GET", "/readyz", port=port, timeout=2)[0] == 200
        except OSError:
            return False

    def log_tail(self):
        return (self.folder / "log").read_text()[-6000:]

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
        self.log.close()
        shutil.rmtree(self.folder)


class Stack(Gateway):
    """A gateway on the payments sample, before an upstream of ours."""

    def __init__(self, options=()):
        self.upstream = upstream.start()
        super().__init__(ROOT / "config/samples/payments", self.place, options=options)

    def place(self, text):
        return text.replace("127.0.0.1:8088/mcp", f"127.0.0.1:{self.upstream.server_port}/mcp")

    def decides(self):
        return self.call("list_invoices")[0] == 200

    def post(self, body, headers=None):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.request("POST", "/payments/mcp", body, headers if headers is not None else {**MEDIA, **IDENTITY})

    def call(self, tool, headers=None, **arguments):
        body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        return self.post(body, headers)

    def stop(self):
        super().stop()
        self.upstream.stopping.set()
        self.upstream.shutdown()

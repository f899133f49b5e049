"""ClickHouse's engine behind its HTTP interface on a free port: see fixtures/clickhouse_server.py."""

import json
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request

from cluster.certificates import Authority
from harness import ROOT

PYTHON = ROOT / ".cache/tools/clickhouse/bin/python"
WRITER, READER = ("sallyport_writer", "of events"), ("sallyport_reader", "of events, too")


class ClickHouse:
    """A server with a user who writes and one who only reads; `url` is where it listens. With `tls`, over TLS with a certificate of
    the authority `authority`, a file. It listens on this machine alone, or `at` another address and port."""

    def __init__(self, tls=False, at=("127.0.0.1", 0)):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-clickhouse-"))
        users = {WRITER[0]: {"password": WRITER[1], "readonly": False}, READER[0]: {"password": READER[1], "readonly": True}}
        (self.folder / "users.json").write_text(json.dumps(users))
        for name, password in (WRITER, READER):
            (self.folder / f"{name}.password").write_text(f"{password}\n")
        self.authority = self.context = None
        if tls:
            Authority(self.folder, "clickhouse").issue_local("tls", at[0])
            self.authority = self.folder / "ca.crt"
            self.context = ssl.create_default_context(cafile=self.authority)
        if not PYTHON.exists():
            raise RuntimeError("ClickHouse's engine is missing; run scripts/setup.sh")
        command = [PYTHON, ROOT / "e2e/fixtures/clickhouse_server.py", str(at[1]), self.folder, at[0]]
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"ClickHouse does not start:\n{(self.folder / 'log').read_text()[-3000:]}")
        self.url = f"http{'s' if tls else ''}://{at[0]}:{line.split()[-1]}"

    def flags(self, user=WRITER, authority=None):
        """What a process needs to reach it as a user, by its own authority unless another is given."""
        password = self.folder / f"{user[0]}.password"
        flags = [f"--clickhouse={self.url}", f"--clickhouse-user={user[0]}", f"--clickhouse-password-file={password}"]
        return flags + ([f"--clickhouse-ca={authority or self.authority}"] if self.authority else [])

    def post(self, path, body, user=WRITER):
        headers = {"x-clickhouse-user": user[0], "x-clickhouse-key": user[1]}
        request = urllib.request.Request(self.url + path, body.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:
                # Columns may have bytes that are no text.
                return answer.read().decode(errors="surrogateescape")
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from None

    def rows(self, sql, user=WRITER):
        """The rows of an answer, each a list."""
        return [json.loads(line) for line in self.post("/", f"{sql} FORMAT JSONCompactEachRow", user).splitlines()]

    def behave(self, **how):
        """Makes it misbehave; without arguments: no more."""
        self.post("/fixture/behaviour", json.dumps(how))

    def cpu_seconds(self):
        """Processor time it has taken."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

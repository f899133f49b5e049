"""ClickHouse's engine behind its HTTP interface on a free port: see fixtures/clickhouse_server.py."""

import json
import pathlib
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request

from harness import ROOT

PYTHON = ROOT / ".cache/tools/clickhouse/bin/python"
WRITER, READER = ("writer", "of events"), ("reader", "of events, too")


class ClickHouse:
    """A server with a user who writes and one who only reads; `url` is where it listens."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-clickhouse-"))
        users = {WRITER[0]: {"password": WRITER[1], "readonly": False}, READER[0]: {"password": READER[1], "readonly": True}}
        (self.folder / "users.json").write_text(json.dumps(users))
        for name, password in (WRITER, READER):
            (self.folder / f"{name}.password").write_text(f"{password}\n")
        if not PYTHON.exists():
            raise RuntimeError("ClickHouse's engine is missing; run scripts/setup.sh")
        command = [PYTHON, ROOT / "e2e/fixtures/clickhouse_server.py", "0", self.folder]
        self.log = open(self.folder / "log", "w")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError(f"ClickHouse does not start:\n{(self.folder / 'log').read_text()[-3000:]}")
        self.url = f"http://127.0.0.1:{line.split()[-1]}"

    def flags(self, user=WRITER):
        """What a process needs to reach it as a user."""
        password = self.folder / f"{user[0]}.password"
        return [f"--clickhouse={self.url}", f"--clickhouse-user={user[0]}", f"--clickhouse-password-file={password}"]

    def post(self, path, body, user=WRITER):
        headers = {"x-clickhouse-user": user[0], "x-clickhouse-key": user[1]}
        request = urllib.request.Request(self.url + path, body.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read().decode()
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

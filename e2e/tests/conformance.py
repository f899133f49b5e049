"""The official conformance suite, straight at a server of ours and through the gateway: the results are the same."""

import collections
import json
import pathlib
import re
import subprocess
import tempfile

from harness import ROOT, Gateway, free_port, python, test

SUITE = ROOT / "e2e/node/node_modules/@modelcontextprotocol/conformance/dist/index.js"
NODE = ROOT / "e2e/node/node_modules/.bin/node"
FIXTURE = ROOT / "e2e/fixtures/conformance_server.py"
# What the suite appends to a scenario's name for its folder.
STAMP = re.compile(r"-\d{4}-\d\d-\d\dT[\d-]+Z$")
# A server need not have the tasks extension; this one has not.
EXTENSIONS = "tasks-"


class Subject:
    """The fixture, and the gateway before it."""

    def __init__(self):
        self.port = free_port()
        self.log = tempfile.TemporaryFile("w+")
        self.server = subprocess.Popen([python(2), FIXTURE, str(self.port)], stdout=self.log, stderr=self.log)
        try:
            self.gateway = Gateway(ROOT / "e2e/fixtures/manifests/conformance", self.place)
        except BaseException:
            self.server.kill()
            raise

    def place(self, text):
        return text.replace("127.0.0.1:8088/mcp", f"127.0.0.1:{self.port}/mcp")

    def direct(self):
        return f"http://localhost:{self.port}/mcp"

    def governed(self):
        return f"http://localhost:{self.gateway.ports['listen']}/conformance/mcp"

    def log_tail(self):
        self.log.seek(0)
        return self.log.read()[-3000:] + self.gateway.log_tail()

    def stop(self):
        self.gateway.stop()
        self.server.terminate()
        self.server.wait(10)
        self.log.close()


def start():
    return Subject()


def results_of(url, revision):
    """How each check ended: (scenario, check, name) -> its outcomes in order, and whether all that is required passed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [NODE, SUITE, "server", "--url", url, "--requirements", revision, "-o", folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        results = collections.defaultdict(list)
        for path in sorted(pathlib.Path(folder).glob("*/checks.json")):
            scenario = STAMP.sub("", path.parent.name.removeprefix("server-"))
            for check in json.loads(path.read_text()):
                told = check.get("errorMessage") or ""
                results[scenario, check["id"], check["name"]].append((check["status"], told))
    return results, done.returncode == 0


def compare(direct, governed):
    """What differs, in words."""
    differences = []
    for check in sorted(direct.keys() | governed.keys()):
        before, after = ([status for status, _ in results[check]] for results in (direct, governed))
        if before != after:
            told = "; ".join(told for _, told in governed[check] if told)
            differences.append(f"{' / '.join(check)}: direct {before}, through the gateway {after} {told}")
    return differences


def check_revision(subject, revision, least):
    direct, sound = results_of(subject.direct(), revision)
    passed = sum(status == "SUCCESS" for outcomes in direct.values() for status, _ in outcomes)
    failed = [check for check, outcomes in direct.items() if any(status == "FAILURE" for status, _ in outcomes)]
    assert sound and passed >= least, (passed, failed)
    assert all(scenario.startswith(EXTENSIONS) for scenario, _, _ in failed), failed
    governed, required_pass = results_of(subject.governed(), revision)
    differences = compare(direct, governed)
    assert not differences, "\n".join(["the gateway makes a difference:", *differences])
    assert required_pass
    print(f"    {revision}: {passed} checks pass, the same through the gateway")


@test
def the_gateway_changes_nothing_for_clients_of_the_legacy_era(subject):
    check_revision(subject, "2025-11-25", 84)


@test
def the_gateway_changes_nothing_for_clients_of_the_modern_era(subject):
    check_revision(subject, "2026-07-28", 164)

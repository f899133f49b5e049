"""The corpus of decision cases (crates/policy/testdata/cases) before a real Envoy, all on one gateway: verdict, answer, what
the upstream saw, and the record."""

import json
import pathlib
import subprocess
import tempfile

from fixtures import upstream
from harness import ROOT, Gateway, test, until

EXPORT = ["cargo", "run", "--quiet", "--locked", "-p", "sallyport-test-support", "--example", "export_cases"]


class Cases(Gateway):
    """A gateway on the servers, grants and sessions of all cases, before one upstream."""

    def __init__(self):
        # Cases that name a time of their own are left out: a proxy cannot be told the time.
        self.cases = json.loads(subprocess.run(EXPORT, cwd=ROOT, check=True, capture_output=True).stdout)
        self.upstream = upstream.start()
        with tempfile.TemporaryDirectory() as folder:
            for case in self.cases:
                self.write_manifests(pathlib.Path(folder), case)
            super().__init__(folder)

    def write_manifests(self, folder, case):
        for number, manifest in enumerate(case["manifests"]):
            if manifest["kind"] == "MCPServer":
                manifest["spec"]["gateway"]["upstreamURL"] = f"http://127.0.0.1:{self.upstream.server_port}"
            (folder / f"{case['name']}-{number}.json").write_text(json.dumps(manifest))

    def ask(self, case):
        """The status, once the worker that was asked has learned its grants and sessions."""
        request = case["request"]
        headers = [(name, value) for name, values in request["headers"].items() for value in values]

        def answer():
            status, body = self.request(request["method"], request["path"], request["body"].encode(), headers)
            return None if b'"state_syncing"' in body else (status, body)

        return until(answer, what=f"{case['name']}: a worker that knows its state")

    def upstream_saw(self, case):
        return [seen["body"] for seen in self.upstream.seen if seen["path"] == case["request"]["path"]]

    def stop(self):
        super().stop()
        self.upstream.stopping.set()
        self.upstream.shutdown()


def start():
    return Cases()


@test
def every_case_is_answered_as_it_says_and_only_what_is_allowed_reaches_the_server(stack):
    assert len(stack.cases) > 50, len(stack.cases)
    wrong = []
    for case in stack.cases:
        expect, (status, body) = case["expect"], stack.ask(case)
        if expect["decision"] == "allow":
            fits = status in (200, 202) and stack.upstream_saw(case) == [case["request"]["body"].encode()]
        else:
            told = json.loads(body)["error"]["data"]["reason"] if body else expect["reason"]
            fits = (status, told) == (expect["status"], expect["reason"]) and not stack.upstream_saw(case)
        if not fits:
            wrong.append((case["name"], status, body, stack.upstream_saw(case)))
    assert not wrong, wrong


@test
def every_case_is_recorded_with_its_verdict(stack):
    def recorded(case):
        payloads = [event["payload"] for event in stack.events(server=case["name"])]
        verdicts = [payload for payload in payloads if payload["phase"] != "outcome"]
        return [verdict for verdict in verdicts if verdict["reason"] != "state_syncing"]

    for case in stack.cases:
        payloads = until(lambda: recorded(case), what=f"{case['name']}: its event")
        expect = case["expect"]
        wanted = {name: expect[name] for name in ("decision", "reason", "would_deny")}
        wanted["matched_grant"] = expect["grant"] or payloads[0].get("matched_grant")
        assert [{name: payload.get(name) for name in wanted} for payload in payloads] == [wanted], (case["name"], payloads)

"""The record's proof, with a real Envoy: sealed, verified from a store, the API and a file, and what a killed Envoy took with it."""

import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import threading
import time

from fixtures import outsider
from harness import IDENTITY, MEDIA, SALLYPORT, Stack, test, until


def start():
    return Stack()


def data(stack):
    return stack.folder / "data"


def audit(stack, *arguments):
    command = [SALLYPORT, "audit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "SALLYPORT_DATA": str(data(stack))})


def verify(stack, *arguments):
    done = audit(stack, "verify", "--public-key", data(stack) / "checkpoint-key.pub.pem", "-o", "json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["intact"] == (done.returncode == 0), report
    return report


def seal(stack):
    """The ingest seals at its end; the supervisor starts it again."""
    os.kill(stack.run_json()["children"]["ingest"], signal.SIGTERM)
    time.sleep(0.2)
    until(lambda: stack.answers_ready("ingest-admin"), what="ingest is back")


def decides(stack):
    try:
        return stack.decides()
    except OSError:
        return False  # nobody listens yet


class Load:
    """Calls, one after the other on each of some threads, until it is stopped."""

    def __init__(self, stack, team, threads=4):
        self.stack, self.team, self.answered, self.stopping = stack, team, 0, threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self):
        while not self.stopping.is_set():
            try:
                status = self.stack.call("list_invoices", {**MEDIA, **IDENTITY, "x-mcp-team-id": self.team})[0]
            except Exception:
                time.sleep(0.05)
                continue
            if status == 200:
                with self.lock:
                    self.answered += 1

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def stored(stack, team):
    file = sqlite3.connect(f"file:{data(stack) / 'events.db'}?mode=ro", uri=True)
    pattern = f'%"subject_team_id":"{team}"%'
    return file.execute("SELECT count(*) FROM events WHERE decision = 'allow' AND envelope LIKE ?", [pattern]).fetchone()[0]


@test
def what_was_recorded_is_proven_from_the_api_the_store_and_an_export(stack):
    before = len(stack.events())
    for _ in range(20):
        assert stack.call("list_invoices", {**MEDIA, **IDENTITY})[0] == 200
    until(lambda: len(stack.events()) >= before + 20, what="events")
    store = ["--store", data(stack) / "events.db"]

    def sealed():
        """An event may come between the seal and the look."""
        seal(stack)
        report = verify(stack, *store)
        return report if report["not_sealed"] == 0 else None

    whole = until(sealed, 30, "a seal on everything")
    assert whole["intact"] and whole["events"] >= 20 and whole["not_sealed"] == 0 and whole["last_checkpoint"], whole
    assert verify(stack)["events"] == whole["events"]
    part = verify(stack, "--server", "mcp-servers/payments")
    assert part["intact"] and part["events"] > 0, part
    export = stack.folder / "export.jsonl"
    assert audit(stack, "export", export).returncode == 0
    assert verify(stack, "--file", export)["events"] == whole["events"]
    assert verify(stack, "--witness", export)["intact"]
    table = stack.folder / "export.parquet"
    assert audit(stack, "export", table).returncode == 0
    assert verify(stack, table)["events"] == whole["events"]
    # A row less, and an answer changed.
    lines = export.read_text().splitlines()
    (stack.folder / "less.jsonl").write_text("\n".join(lines[:-3] + lines[-2:]) + "\n")
    assert not verify(stack, "--file", stack.folder / "less.jsonl")["intact"]
    (stack.folder / "other.jsonl").write_text(export.read_text().replace('"decision":"allow"', '"decision":"deny"', 1))
    altered = verify(stack, "--file", stack.folder / "other.jsonl")
    assert altered["alterations"]["total"] == 1, altered
    proven_by_an_outsider(stack, export, whole["events"])
    unreadable = audit(stack, "verify", "--public-key", export)
    assert unreadable.returncode == 2, unreadable
    status = audit(stack, "status").stdout
    assert "mcp-servers/payments" in status and "last checkpoint" in status, status


def proven_by_an_outsider(stack, export, events):
    """As docs/audit.md says, without our programs."""
    key, lines = data(stack) / "checkpoint-key.pub.pem", export.read_text().splitlines()
    assert outsider.verified(export, key) == events
    changed = {**(last := json.loads(lines[-2])), "bytes": last["bytes"][:40] + ("A" if last["bytes"][40] != "A" else "B") + last["bytes"][41:]}
    seals = [number for number, line in enumerate(lines) if '"type":"checkpoint"' in line]
    broken = {
        "less": [*lines[:-3], *lines[-2:]], "shorter": [*lines[:-2], lines[-1]], "changed": [*lines[:-2], json.dumps(changed), lines[-1]],
        "unsealed": [*lines[:seals[0]], *lines[seals[0] + 1:]],
    }
    for name, kept in broken.items():
        path = stack.folder / f"{name}.outsider.jsonl"
        path.write_text("\n".join(kept))
        try:
            outsider.verified(path, key)
        except (AssertionError, IndexError, UnicodeDecodeError) as error:
            print(f"    {name}: {error}")
        else:
            raise AssertionError(f"an outsider does not see what is {name}")


@test
def what_a_killed_envoy_still_held_is_counted_and_explained_within_ten_seconds(stack):
    load = Load(stack, "killed")
    until(lambda: stored(stack, "killed") > 100, what="events under load")
    # The ingest holds still, so that rings fill; what the filters gave out since is known to them alone.
    ingest = stack.run_json()["children"]["ingest"]
    os.kill(ingest, signal.SIGSTOP)
    time.sleep(1)
    envoy = stack.run_json()["children"]["envoy"]
    began = time.monotonic()
    os.kill(envoy, signal.SIGKILL)
    load.stop()
    os.kill(ingest, signal.SIGCONT)
    found = until(lambda: stack.events(event_type="audit.lost", limit=100), 10, "audit.lost")
    took = time.monotonic() - began
    until(lambda: decides(stack), 30, "another Envoy decides")
    time.sleep(1)
    missing = sum(event["payload"]["missing"] for event in stack.events(event_type="audit.lost", limit=100))
    lost = load.answered - stored(stack, "killed")
    assert found[0]["payload"]["reason"] == "proxy_ended", found
    assert lost > 0, "the test took nothing away"
    # Those of calls that were cut off before their answer may be among them; of what was never announced there is no number.
    assert missing <= lost + len(load.threads), (missing, lost)
    seal(stack)
    report = verify(stack)
    assert report["intact"], "it is explained: " + json.dumps(report)
    reasons = {gap["reason"] for gap in report["gaps"]["listed"]}
    assert reasons == {"proxy_ended"}, report["gaps"]
    print(f"    {load.answered} answered, {lost} lost with Envoy, {missing} of them known by number, told after {took:.1f} s")


def ring_is_empty(stack):
    text = stack.request("GET", "/stats?filter=sallyport_audit_ring_bytes", port="envoy-admin")[1].decode()
    return all(line.endswith(": 0") for line in text.splitlines())


@test
def an_envoy_that_is_ended_in_order_under_load_takes_nothing_with_it(stack):
    load = Load(stack, "ended")
    until(lambda: load.answered > 200, what="calls are answered")
    missing, envoy = stack.api("GET", "stats")[1]["missing"], stack.run_json()["children"]["envoy"]
    # As the hook of a pod does: nobody enters any more, and what is at work ends.
    assert stack.request("POST", "/drain_listeners", b"", port="envoy-admin")[0] == 200
    until(lambda: not decides(stack) and ring_is_empty(stack), what="everything is acknowledged")
    os.kill(envoy, signal.SIGTERM)
    until(lambda: stack.run_json()["children"].get("envoy") not in (None, envoy) and decides(stack), 30, "another Envoy decides")
    before = load.answered
    until(lambda: load.answered > before + 100, what="calls are answered by the next")
    load.stop()
    until(lambda: stored(stack, "ended") >= load.answered, what="all events are stored")
    time.sleep(1)
    assert stored(stack, "ended") == load.answered, (stored(stack, "ended"), load.answered)
    assert stack.api("GET", "stats")[1]["missing"] == missing
    print(f"    {load.answered} answered by two Envoys, each with its event")

"""The demonstrations, run to their end."""

import subprocess
import sys

from harness import ROOT, soak, test


def start():
    """None: the demonstration brings its own."""


@test
def the_demonstration_shows_every_verdict_and_ends_clean(_):
    command = [sys.executable, ROOT / "e2e/demo.py", "--once"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done
    walk, _, record = done.stdout.partition("The record")
    calls = [tuple(line.split()[:2]) for line in walk.splitlines() if line[2:3] in "✔✘✂" and line.strip()]
    denied, allowed = ("✘", "denied"), ("✔", "allowed")
    assert calls == [allowed] * 2 + [denied] * 4 + [allowed] * 2 + [denied] * 2 + [allowed, ("✂", "cut"), denied], done.stdout
    assert walk.count("enforced on 3 of 3 filter instances in ") == 2, walk
    for reason in ["tool_not_granted", "side_effect_not_allowed", "missing_session", "trust_too_low", "tool_denied", "session_revoked"]:
        assert reason in walk and reason in record, (reason, done.stdout)
    assert " 0 missing" in record, record


@soak
def the_demonstration_of_the_record_balances_whatever_it_breaks(_):
    done = subprocess.run([sys.executable, ROOT / "e2e/demo_audit.py"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.count("calls answered in") == 10 and "It balances." in done.stdout, done.stdout
    table = dict(line.rsplit(maxsplit=1) for line in done.stdout.partition("What became of them")[2].splitlines() if line[-1:].isdigit())
    table = {name.strip(): int(count) for name, count in table.items()}
    sent = table["calls sent through Envoy, and answered"]
    assert sent > 600 and table["of them with an event in ClickHouse"] == sent and table["rows of an event beyond its first"] == 0, table

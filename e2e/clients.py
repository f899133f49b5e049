"""`make try-clients`: each example client of ingest/examples sends a chain to a real ingest, and everything must be stored
once and without a hole; also where there is no room for a while."""

import json
import os
import subprocess
import sys

from harness import ROOT, Stack, until
from tests.audit_spool import Ingest

EVENTS = 5000
# More than a spool of a megabyte holds.
MANY = 15_000
EXAMPLES = ROOT / "ingest/examples"
PYTHON = ROOT / ".cache/tools/python-audit/bin/python"


def commands():
    """Language -> how its client is started, and where."""
    subprocess.run([EXAMPLES / "go/generate.sh"], check=True, env={**os.environ, "PYTHON": str(PYTHON)})
    return {
        "rust": ([ROOT / "target/debug/examples/emit"], ROOT),
        "python": ([PYTHON, EXAMPLES / "python/emit.py"], ROOT),
        "go": (["go", "run", "."], EXAMPLES / "go"),
    }


def command_of(stack, ingest, language, command, events=EVENTS):
    port, data = ingest.ports["listen"], stack.folder / "data"
    address = f"https://127.0.0.1:{port}" if language == "rust" else f"127.0.0.1:{port}"
    dashes = "-" if language == "go" else "--"
    flags = {"address": address, "ca": data / "tls/ca.crt", "token-file": data / "proxy/token", "events": events}
    arguments = [part for name, value in flags.items() for part in (f"{dashes}{name}", str(value))]
    return [*command, *arguments]


def pushed_back(stack, language, command, folder):
    """A client whose events find no room waits, and brings all of them."""
    with Ingest(stack, "--spool-megabytes=1") as ingest:
        store = ingest.store()
        store.execute("BEGIN EXCLUSIVE")
        with subprocess.Popen(command_of(stack, ingest, language, command, MANY), cwd=folder) as client:
            try:
                until(lambda: ingest.metric("batches_pushed_back_total") > 1, 60, f"{language} is pushed back")
                assert client.poll() is None, f"{language} gave up"
                store.execute("ROLLBACK")
                store.close()
                assert client.wait(60) == 0, language
            finally:
                client.kill()
        holds_all(ingest, language, MANY)
        print(f"{language}: waited where there was no room", flush=True)


def holds_all(ingest, language, events=EVENTS):
    until(lambda: len(stored(ingest, language)) >= events, 30, f"events of {language}")
    assert stored(ingest, language) == list(range(1, events + 1)), language
    assert ingest.findings() == 0, "a chain has a hole"


def stored(ingest, language):
    rows = ingest.store().execute("SELECT envelope FROM events WHERE tool_name = ? ORDER BY id", [f"emit_from_{language}"])
    return [json.loads(row[0])["payload"]["chain"]["seq"] for row in rows]


def main():
    started, stack = commands(), Stack()
    try:
        with Ingest(stack) as ingest:
            for language, (command, folder) in started.items():
                subprocess.run(command_of(stack, ingest, language, command), cwd=folder, check=True, timeout=300)
                holds_all(ingest, language)
                print(f"{language}: {EVENTS} events stored, once and in order", flush=True)
            assert ingest.metric("events_duplicate_total") == 0
        for language, (command, folder) in started.items():
            pushed_back(stack, language, command, folder)
    finally:
        stack.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

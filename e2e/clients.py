"""`make try-clients`: each example client of ingest/examples sends a chain to a real ingest, and everything must be stored
once and without a hole."""

import json
import os
import subprocess
import sys

from harness import ROOT, Stack, until
from tests.audit_spool import Ingest

EVENTS = 5000
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


def run(stack, ingest, language, command, folder):
    port, data = ingest.ports["listen"], stack.folder / "data"
    address = f"https://127.0.0.1:{port}" if language == "rust" else f"127.0.0.1:{port}"
    dashes = "-" if language == "go" else "--"
    flags = {"address": address, "ca": data / "tls/ca.crt", "token-file": data / "proxy/token", "events": EVENTS}
    arguments = [part for name, value in flags.items() for part in (f"{dashes}{name}", str(value))]
    subprocess.run([*command, *arguments], cwd=folder, check=True, timeout=300)


def stored(ingest, language):
    rows = ingest.store().execute("SELECT envelope FROM events WHERE tool_name = ? ORDER BY id", [f"emit_from_{language}"])
    return [json.loads(row[0])["payload"]["chain"]["seq"] for row in rows]


def main():
    started, stack = commands(), Stack()
    try:
        with Ingest(stack) as ingest:
            for language, (command, folder) in started.items():
                run(stack, ingest, language, command, folder)
                until(lambda: len(stored(ingest, language)) >= EVENTS, 30, f"events of {language}")
                assert stored(ingest, language) == list(range(1, EVENTS + 1)), language
                print(f"{language}: {EVENTS} events stored, once and in order", flush=True)
            assert ingest.findings() == 0, "a chain has a hole"
            assert ingest.metric("events_duplicate_total") == 0
    finally:
        stack.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())

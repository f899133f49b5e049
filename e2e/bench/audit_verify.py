"""Part of `make bench-audit-verify`: what `sallyport audit verify` costs an event of a store, and of its exports in both formats."""

import argparse
import pathlib
import resource
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SALLYPORT = ROOT / "target/release/sallyport"
FILL = ROOT / "target/release/examples/bench"


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measured(name, *arguments):
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    told = run(SALLYPORT, "audit", "verify", *arguments)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "intact" in told, told
    count = int(told.split()[0])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"  {name:<40} {count / cpu:>11,.0f} events/s per core   {count / wall:>11,.0f} events/s by the clock")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="how long the store is filled at full speed")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix=".bench-verify-", dir=ROOT / "target") as folder:
        folder = pathlib.Path(folder)
        key, store = folder / "key.pem", folder / "record" / "events.db"
        public = ["--public-key", key.with_name("key.pub.pem")]
        run(SALLYPORT, "audit", "keygen", "--key", key, *public)
        print(run(FILL, "--seconds", str(seconds), "--keep", store.parent, "--checkpoint-key", key), end="")
        sources = {"store": ["--store", store]}
        for ending in ["jsonl", "parquet"]:
            export = folder / f"record.{ending}"
            print("  " + run(SALLYPORT, "audit", "export", "--store", store, export).split("/")[-1], end="")
            sources[f"export, {ending}"] = [export]
        print("sallyport audit verify, one process (goal: 500,000 events/s per core)")
        for name, source in sources.items():
            measured(f"{name}, chains alone", *public, *source, "--chains-only")
            measured(f"{name}, and all that is told of events", *public, *source)


if __name__ == "__main__":
    main()

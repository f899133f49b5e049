"""Compares the names of metrics in the code with those that docs/operations.md promises."""

import re
import sys

from cargo_graph import ROOT

SOURCES = [
    "operator/src/metrics.rs", "operator/src/kubernetes/metrics.rs", "operator/src/status/metrics.rs",
    "operator/src/admission/metrics.rs",
    "operator/src/workloads/metrics.rs", "ingest/src/metrics.rs", "control-api/src/metrics.rs",
    "wasm-filter/core/src/counters.rs", "wasm-filter/core/src/worker.rs",
]
ROW = re.compile(r"^\| `(sallyport_\w+)` \| (counter|gauge|histogram) \| ([^|]*)\|", re.MULTILINE)
LITERAL = re.compile(r'"(sallyport_[a-z_]+)')


def documented(text):
    """Labels by name."""
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, _, labels in ROW.findall(text)}


def base(name):
    """The name that the code gives: a counter's `_total` and a histogram's unit come with the format."""
    return re.sub(r"_(total|seconds)$", "", name)


def problems(documented_names, source):
    told, given = {base(name) for name in documented_names}, {base(name) for name in LITERAL.findall(source)}
    yield from (f"{name} is in the code and not in docs/operations.md" for name in sorted(given - told))
    yield from (f"{name} is in docs/operations.md and not in the code" for name in sorted(told - given))


def main():
    names = documented((ROOT / "docs/operations.md").read_text())
    found = list(problems(names, "".join((ROOT / path).read_text() for path in SOURCES)))
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Compares the names of metrics in the code, and in alerts and dashboards, with those that docs/operations.md promises."""

import json
import re
import sys

from cargo_graph import ROOT

SOURCES = [
    "operator/src/metrics.rs", "operator/src/kubernetes/metrics.rs", "operator/src/status/metrics.rs",
    "operator/src/admission/metrics.rs",
    "operator/src/workloads/metrics.rs", "ingest/src/metrics.rs", "processor/src/metrics.rs", "control-api/src/metrics.rs",
    "wasm-filter/core/src/counters.rs", "wasm-filter/core/src/worker.rs",
]
ROW = re.compile(r"^\| `(sallyport_\w+)` \| (counter|gauge|histogram) \| ([^|]*)\|", re.MULTILINE)
LITERAL = re.compile(r'"(sallyport_[a-z_]+)')


def documented(text):
    """Labels by name."""
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, _, labels in ROW.findall(text)}


USE = re.compile(r"\bsallyport_[a-z0-9_]+")


def documented_series(text):
    """Names as Prometheus has them, with the parts of histograms."""
    for name, kind, _ in ROW.findall(text):
        yield name
        if kind == "histogram":
            yield from (f"{name}_{part}" for part in ("bucket", "sum", "count"))


def expressions(text):
    """The queries of Prometheus' rules, one to a line, or of a Grafana dashboard."""
    if text.startswith("{"):
        panels = json.loads(text)["panels"]
        return [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return re.findall(r"^ *-? *expr: (.+)$", text, re.MULTILINE)


def used(expression):
    """Names of metrics. Labels begin with `sallyport_` as well, and stand in braces or after `by`."""
    return set(USE.findall(re.sub(r"\{[^{}]*\}|\bby \([^()]*\)", "", expression)))


def unknown_uses(text, name, promised):
    """What is asked for and is in no process; a file without any query was not understood."""
    metrics = set().union(*map(used, expressions(text)))
    if not metrics:
        yield f"{name} has no query that uses a metric"
    yield from (f"{name} uses {metric}, which is not in docs/operations.md" for metric in sorted(metrics - set(promised)))


def base(name):
    """The name that the code gives: a counter's `_total` and a histogram's unit come with the format."""
    return re.sub(r"_(total|seconds)$", "", name)


def problems(documented_names, source):
    told, given = {base(name) for name in documented_names}, {base(name) for name in LITERAL.findall(source)}
    yield from (f"{name} is in the code and not in docs/operations.md" for name in sorted(given - told))
    yield from (f"{name} is in docs/operations.md and not in the code" for name in sorted(told - given))


def main():
    page = (ROOT / "docs/operations.md").read_text()
    found = list(problems(documented(page), "".join((ROOT / path).read_text() for path in SOURCES)))
    promised = list(documented_series(page))
    for path in sorted((ROOT / "config/monitoring").iterdir()):
        if path.suffix in (".yaml", ".json"):
            found += unknown_uses(path.read_text(), path.name, promised)
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

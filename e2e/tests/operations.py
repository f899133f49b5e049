"""What the processes tell of themselves, held to docs/operations.md."""

import re
import sys

from harness import ROOT, Gateway, free_port, test, until

sys.path.insert(0, str(ROOT / "scripts"))
from check_metrics import documented  # noqa: E402

SAMPLE = re.compile(r"^(sallyport_\w+?)(?:_(?:bucket|sum|count))?(?:\{(.*)\})? \S+$", re.MULTILINE)
PROMISED = documented((ROOT / "docs/operations.md").read_text())


def start():
    admin = free_port()
    stack = Gateway(ROOT / "config/samples/payments", options=[f"--api-admin=127.0.0.1:{admin}"])
    stack.ports["api-admin"] = admin
    return stack


def samples(stack, port, path="/metrics"):
    """Name and labels of each sample that is ours."""
    text = stack.request("GET", path, port=port)[1].decode()
    return [(name, dict(re.findall(r'(\w+)="([^"]*)"', labels or ""))) for name, labels in SAMPLE.findall(text)]


def filter_samples(stack):
    return samples(stack, "envoy-admin", "/stats/prometheus")


@test
def every_metric_is_promised_with_its_labels(stack):
    assert stack.request("POST", "/payments/mcp", b"{}")[0] >= 400
    assert stack.api("GET", "runtime/grants")[0] == 200
    verdicts = until(lambda: [s for s in filter_samples(stack) if s[0] == "sallyport_verdicts"], what="verdict is counted")
    assert all(set(labels) == PROMISED["sallyport_verdicts"] for _, labels in verdicts), verdicts
    seen = [sample for port in ("operator-admin", "ingest-admin", "api-admin") for sample in samples(stack, port)]
    assert {name.split("_")[1] for name, _ in seen} == {"operator", "ingest", "api"}, seen
    for name, labels in seen + filter_samples(stack):
        assert name in PROMISED, f"{name} is not in docs/operations.md"
        assert set(labels) - {"le"} == PROMISED[name], (name, labels)


@test
def only_what_holds_state_has_gauges(stack):
    workers = {labels["sallyport_worker"] for _, labels in filter_samples(stack) if "sallyport_worker" in labels}
    assert workers == {"1", "2", "3"}, "two workers and the main thread"
    complete = [labels for name, labels in filter_samples(stack) if name == "sallyport_state_complete"]
    assert len(complete) == 3, complete

"""The demonstration on Kubernetes, run to its end."""

import os
import subprocess
import sys

from harness import ROOT, test
from kubernetes import NODE

NEEDS = NODE


@test
def from_nothing_to_a_proven_revocation(cluster):
    cluster.our_images()
    command = [sys.executable, ROOT / "e2e/demo_kubernetes.py", "--once"]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    calls = [tuple(line.split()[:2]) for line in done.stdout.splitlines() if line[2:3] in "✔✘" and line.strip()]
    denied, allowed = ("✘", "denied"), ("✔", "allowed")
    assert calls == [allowed] * 2 + [denied] * 4 + [allowed] * 2 + [denied], done.stdout
    _, _, record = done.stdout.partition("The record")
    assert "session_revoked" in record and " 0 missing" in record, record


@test
def the_doctor_finds_an_installation_in_health(cluster):
    command = [ROOT / "target/debug/sallyport", "doctor", "--kubeconfig", cluster.kubeconfig]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILURE" not in done.stdout and "ok       webhook        answers" in done.stdout, done.stdout


@test
def the_roles_that_are_installed_suffice(cluster):
    audit = "statefulset/sallyport-audit"
    for workload, container in [("deployment/sallyport-operator", "operator"), (audit, "ingest"), (audit, "control-api")]:
        log = cluster.kubectl("logs", "--namespace", "sallyport-system", workload, "--container", container)
        # What a namespace refuses that is going is no want of a role.
        refused = [line for line in log.splitlines() if "forbidden" in line.lower() and "being terminated" not in line]
        assert not refused, refused

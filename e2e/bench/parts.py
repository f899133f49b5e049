"""The processes of the benches in Kubernetes, and what they cost."""

import base64
import collections
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import threading
import time

from harness import ROOT, free_port, until

SALLYPORT = ROOT / "target/release/sallyport"
PROXIES = ROOT / "target/release/examples/proxies"
SYSTEM = "sallyport-system"
SERVER_NAME = f"sallyport-operator.{SYSTEM}.svc"


def cpu_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Cores:
    """CPU time of processes from now on."""

    def __init__(self, **processes):
        self.processes = processes
        self.before = {name: cpu_seconds(process) for name, process in processes.items()}

    def used(self, name):
        return cpu_seconds(self.processes[name]) - self.before[name]

    def __str__(self):
        return ", ".join(f"{name} {self.used(name):.1f} s" for name in self.processes)


class Operator:
    """The operator as a process of this machine, on a kubeconfig. It shows the certificate that it makes itself."""

    def __init__(self, kubeconfig, folder, *options, xds=None):
        self.xds, self.admin = xds or f"127.0.0.1:{free_port()}", free_port()
        command = [SALLYPORT, "operator", "--kubernetes", "--namespace", SYSTEM, "--listen", self.xds]
        command += ["--admin", f"127.0.0.1:{self.admin}", "--webhook", f"127.0.0.1:{free_port()}", *options]
        # A proxy that is simulated is one filter, and one that is not has fewer than in a pod.
        command += ["--gateway-filters", "1"]
        self.log = open(folder / "operator.log", "a")
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "SALLYPORT_LOG": "warn"}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)

    def megabytes(self, field):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) / 1024

    def memory(self):
        return f"memory of the operator: {self.megabytes('VmRSS'):.0f} MB, at most {self.megabytes('VmHWM'):.0f} MB"

    def ask(self, path, timeout=10):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            assert self.process.poll() is None, "the operator ended"
            return 0, b""
        finally:
            connection.close()

    def is_ready(self):
        return self.ask("/readyz")[0] == 200

    def metric(self, name, labels=""):
        """Sum of a metric's series whose labels match."""
        found = re.findall(rf"^{name}(?:{{[^}}]*{labels}[^}}]*}})? (\S+)$", self.ask("/metrics")[1].decode(), re.MULTILINE)
        return sum(map(float, found))

    def save(self, profile, file):
        """Writes a profile of it; only where it runs with `--profiling`."""
        status, body = self.ask(f"/debug/pprof/{profile}", timeout=120)
        assert status == 200, body
        file.write_bytes(body)

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


class Generator:
    """Proxies of `operator/xds/examples/proxies.rs`, and what they tell."""

    def __init__(self, operator, ca, tokens):
        command = [PROXIES, operator.xds, SERVER_NAME, ca, tokens]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.state = {"connected": 0, "complete": 0, "updates": 0, "failures": 0}
        self.reached = collections.defaultdict(dict)
        self.failures = collections.Counter()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            told = json.loads(line)
            if "complete" in told:
                self.state = told
            elif "failure" in told:
                self.failures[told["failure"]] += 1
            else:
                self.reached[told["name"]].setdefault(told["proxy"], []).append(told["at"])

    def stop(self):
        self.process.kill()
        self.process.wait()
        for failure, times in self.failures.most_common(5):
            print(f"{times} times a proxy failed: {failure[:300]}")


def percentiles(seconds):
    ordered = sorted(seconds)
    p99 = ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)]
    return f"p50 {statistics.median(ordered) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, most {ordered[-1] * 1e3:.1f} ms ({len(ordered)})"


def find(api, path):
    try:
        return api.ask("GET", path)
    except AssertionError:
        return None


def install(plane, api):
    """The kinds of resources, as they are generated."""
    kubectl = [plane.programs / "kubectl", "--kubeconfig", plane.kubeconfig]
    subprocess.run([*kubectl, "apply", "--server-side", "-k", ROOT / "config/crd"], check=True, stdout=subprocess.DEVNULL)
    for kind in ["mcpservers", "mcpaccessgrants", "mcpagentsessions"]:
        until(lambda: find(api, f"/apis/mcpruntime.org/v1alpha1/{kind}?limit=1"), 30, f"the kind {kind}")


def certificate_authority(api, file):
    """Writes the authority that vouches for the operator."""
    secret = until(lambda: find(api, f"/api/v1/namespaces/{SYSTEM}/secrets/sallyport-ca"), 60, "the certificate authority")
    file.write_bytes(base64.b64decode(secret["data"].get("ca.crt") or secret["data"]["tls.crt"]))


def settle(operator, seconds):
    """Waits until nothing has been written for a while, and no object waits for a proxy."""
    names = ["status_writes_total", "workload_applied_total", "status_waiting"]
    deadline, quiet, before = time.monotonic() + seconds, 0, None
    while quiet < 12:
        found = [operator.metric(f"sallyport_operator_{name}") for name in names]
        quiet = quiet + 1 if found == before and found[-1] == 0 else 0
        before = found
        assert time.monotonic() < deadline, f"not settled after {seconds} s: {dict(zip(names, found))}"
        time.sleep(1)

"""What the operator costs and how soon it tells, at size: servers, grants and sessions in a real API server (etcd and
kube-apiserver, no pods), and a generator of proxies that speaks our delta xDS, each proxy with a service-account token of its
own over TLS. `make bench-kubernetes-scale` runs it; `--proxies` and the others make it smaller.

All share this machine's cores: what is told as the operator's own is its CPU time and its memory."""

import argparse
import base64
import collections
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from api_client import ApiClient, custom  # noqa: E402
from cluster.control_plane import ControlPlane  # noqa: E402
from harness import ROOT, free_port, until  # noqa: E402

SALLYPORT = ROOT / "target/release/sallyport"
PROXIES = ROOT / "target/release/examples/proxies"
SYSTEM = "sallyport-system"
SERVER_NAME = f"sallyport-operator.{SYSTEM}.svc"
NAMESPACES = 20


class Objects:
    """Servers `s0` and so on, spread over namespaces; each with its share of grants, sessions and pods."""

    def __init__(self, api, sizes):
        self.api, self.sizes = api, sizes

    def place(self, server):
        return f"scale-{server % min(NAMESPACES, self.sizes.servers)}", f"s{server}"

    def of_server(self, number):
        """Ids of a kind come round: the server of the number-th."""
        return number % self.sizes.servers

    def make(self):
        namespaces = {self.place(server)[0] for server in range(self.sizes.servers)} | {SYSTEM}
        self.api.all(lambda name: self.api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}}), namespaces)
        for label, count, make in [
            ("servers", self.sizes.servers, self.server),
            ("grants", self.sizes.grants, self.grant),
            ("sessions", self.sizes.sessions, self.session),
        ]:
            began = time.monotonic()
            self.api.all(make, range(count))
            took = time.monotonic() - began
            print(f"{count} {label} made in {took:.1f} s ({count / took:.0f}/s)", flush=True)

    def create(self, namespace, kind, plural, name, spec):
        body = {"apiVersion": "mcpruntime.org/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.api.ask("POST", custom(namespace, plural), body)

    def server(self, number):
        namespace, name = self.place(number)
        tools = [{"name": "list_invoices", "sideEffect": "read"}, {"name": "refund", "sideEffect": "write", "requiredTrust": "medium"}]
        spec = {"image": "localhost/none:1", "gateway": {"enabled": True}, "session": {"required": True}, "tools": tools}
        self.create(namespace, "MCPServer", "mcpservers", name, spec)

    def grant(self, number):
        namespace, server = self.place(self.of_server(number))
        subject = {"humanID": f"user-{number}"}
        spec = {"serverRef": {"name": server}, "subject": subject, "maxTrust": "high", "allowedSideEffects": ["read", "write"]}
        self.create(namespace, "MCPAccessGrant", "mcpaccessgrants", f"g{number}", spec)

    def session(self, number):
        namespace, server = self.place(self.of_server(number))
        subject = {"humanID": f"user-{number % self.sizes.grants}", "agentID": f"agent-{number}"}
        spec = {"serverRef": {"name": server}, "subject": subject, "consentedTrust": "medium", "expiresAt": "2099-01-01T00:00:00Z"}
        self.create(namespace, "MCPAgentSession", "mcpagentsessions", f"session-{number}", spec)

    def tokens(self, file):
        """Writes a line of name and token for each proxy: a pod of the API alone, and a token that is bound to it."""
        began = time.monotonic()
        accounts = range(self.sizes.servers)
        self.api.all(self.account, accounts)
        lines = self.api.all(self.token, range(self.sizes.proxies))
        file.write_text("".join(lines))
        print(f"{self.sizes.proxies} tokens made in {time.monotonic() - began:.1f} s", flush=True)

    def account(self, number):
        namespace, server = self.place(number)
        self.api.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": f"mcp-workload-{server}"}})

    def token(self, number):
        namespace, server = self.place(self.of_server(number))
        account, pod = f"mcp-workload-{server}", f"{server}-{number}"
        spec = {"serviceAccountName": account, "containers": [{"name": "c", "image": "localhost/none:1"}]}
        made = self.api.ask("POST", f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": pod}, "spec": spec})
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": made["metadata"]["uid"]}
        request = {"spec": {"audiences": ["sallyport"], "expirationSeconds": 7200, "boundObjectRef": bound}}
        answer = self.api.ask("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", request)
        return f"{namespace}/{pod}\t{answer['status']['token']}\n"


class Operator:
    """The operator as a process of this machine, on a kubeconfig."""

    def __init__(self, kubeconfig, folder):
        self.xds, self.admin, webhook = free_port(), free_port(), free_port()
        command = [SALLYPORT, "operator", "--kubernetes", "--namespace", SYSTEM, "--listen", f"127.0.0.1:{self.xds}"]
        command += ["--admin", f"127.0.0.1:{self.admin}", "--webhook", f"127.0.0.1:{webhook}"]
        self.log = open(folder / "operator.log", "a")
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "RUST_LOG": "warn"}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self, field):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) / 1024

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


class Generator:
    """The proxies, and what they tell."""

    def __init__(self, operator, ca, tokens):
        command = [PROXIES, f"127.0.0.1:{operator.xds}", SERVER_NAME, ca, tokens]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.state = {"connected": 0, "complete": 0, "updates": 0}
        self.reached = collections.defaultdict(dict)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            told = json.loads(line)
            if "complete" in told:
                self.state = told
            else:
                self.reached[told["name"]].setdefault(told["proxy"], []).append(told["at"])

    def stop(self):
        self.process.kill()
        self.process.wait()


def percentiles(seconds):
    ordered = sorted(seconds)
    return f"p50 {statistics.median(ordered) * 1e3:.1f} ms, p99 {ordered[int(len(ordered) * 0.99)] * 1e3:.1f} ms, most {ordered[-1] * 1e3:.1f} ms"


def settled(operator, seconds):
    before = operator.cpu_seconds()
    time.sleep(seconds)
    return (operator.cpu_seconds() - before) / seconds


def revocations(api, objects, generator, sizes, count=200):
    """Withdraws sessions one by one. From the event of a watch of our own until the last of the server's proxies has it."""
    seen, everywhere = {}, sizes.proxies // sizes.servers

    def watch():
        for event in api.watch("/apis/mcpruntime.org/v1alpha1/mcpagentsessions"):
            metadata = event["object"]["metadata"]
            seen.setdefault(f"{metadata['namespace']}/{metadata['name']}", time.time())

    threading.Thread(target=watch, daemon=True).start()
    time.sleep(1)
    from_watch, from_patch, strangers = [], [], 0
    for number in range(count):
        namespace, server = objects.place(objects.of_server(number))
        name = f"{namespace}/session-{number}"
        began = time.time()
        api.patch(custom(namespace, "mcpagentsessions", f"session-{number}"), {"revoked": True})
        until(lambda: len(generator.reached[name]) >= everywhere and name in seen, 10, f"{name} at {everywhere} proxies")
        last = max(times[0] for times in generator.reached[name].values())
        from_watch.append(last - seen[name])
        from_patch.append(last - began)
        strangers += sum(not proxy.startswith(f"{namespace}/{server}-") for proxy in generator.reached[name])
    print(f"revocation, from the watch event to all {everywhere} proxies: {percentiles(from_watch)}")
    print(f"revocation, from the patch to all {everywhere} proxies: {percentiles(from_patch)}")
    print(f"proxies of other servers that were told: {strangers}", flush=True)


def churn(api, objects, generator, sizes, operator, seconds=10, rate=1000):
    """Changes of grants at a rate, each to its own server's proxies."""
    everywhere = sizes.proxies // sizes.servers
    before, cpu, began = generator.state["updates"], operator.cpu_seconds(), time.monotonic()

    def change(number):
        time.sleep(max(0, began + number / rate - time.monotonic()))
        grant = number % sizes.grants
        namespace, _ = objects.place(objects.of_server(grant))
        trust = "low" if number // sizes.grants % 2 == 0 else "high"
        api.patch(custom(namespace, "mcpaccessgrants", f"g{grant}"), {"maxTrust": trust})

    api.all(change, range(seconds * rate))
    took = time.monotonic() - began
    wanted = before + seconds * rate * everywhere
    until(lambda: generator.state["updates"] >= wanted, 60, "every change at its proxies")
    late = time.monotonic() - began - took
    used = operator.cpu_seconds() - cpu
    print(f"changes of grants: {seconds * rate / took:.0f}/s for {took:.1f} s; the last was everywhere at most {late:.1f} s later")
    print(f"the operator's CPU time meanwhile: {used:.1f} s, {used / (seconds * rate) * 1e3:.2f} ms a change", flush=True)


def certificate_authority(api, file):
    secret = until(lambda: find(api, f"/api/v1/namespaces/{SYSTEM}/secrets/sallyport-ca"), 60, "the certificate authority")
    file.write_bytes(base64.b64decode(secret["data"].get("ca.crt") or secret["data"]["tls.crt"]))


def find(api, path):
    try:
        return api.ask("GET", path)
    except AssertionError:
        return None


def measure(sizes, folder, plane):
    api = ApiClient(plane.kubeconfig, connections=16)
    kubectl = [plane.programs / "kubectl", "--kubeconfig", plane.kubeconfig]
    subprocess.run([*kubectl, "apply", "--server-side", "-k", ROOT / "config/crd"], check=True, stdout=subprocess.DEVNULL)
    until(lambda: find(api, "/apis/mcpruntime.org/v1alpha1/mcpservers"), 30, "the resource kinds")
    objects = Objects(api, sizes)
    objects.make()
    tokens, ca = folder / "tokens", folder / "ca.pem"
    objects.tokens(tokens)
    began = time.monotonic()
    operator = Operator(plane.kubeconfig, folder)
    try:
        certificate_authority(api, ca)
        generator = Generator(operator, ca, tokens)
        try:
            until(lambda: generator.state["complete"] >= sizes.proxies, 300, f"{sizes.proxies} complete proxies")
            took = time.monotonic() - began
            print(f"cold start until {sizes.proxies} proxies are complete: {took:.1f} s, {operator.cpu_seconds():.1f} s of the operator's CPU")
            print(f"memory: {operator.megabytes('VmRSS'):.0f} MB, at most {operator.megabytes('VmHWM'):.0f} MB", flush=True)
            revocations(api, objects, generator, sizes)
            churn(api, objects, generator, sizes, operator)
            print(f"memory: {operator.megabytes('VmRSS'):.0f} MB, at most {operator.megabytes('VmHWM'):.0f} MB", flush=True)
            print(f"waiting {sizes.settle} s for the rest of the statuses", flush=True)
            time.sleep(sizes.settle)
            print(f"settled: {settled(operator, 30) * 100:.1f} % of a core", flush=True)
        finally:
            generator.stop()
    finally:
        operator.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in [("servers", 1000), ("grants", 10_000), ("sessions", 100_000), ("proxies", 10_000), ("settle", 30)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    sizes = parser.parse_args()
    # A file for each connection, on both sides.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    plane = ControlPlane()
    try:
        with tempfile.TemporaryDirectory(prefix="sallyport-scale-") as folder:
            try:
                measure(sizes, pathlib.Path(folder), plane)
            except BaseException:
                print((pathlib.Path(folder) / "operator.log").read_text()[-3000:] if (pathlib.Path(folder) / "operator.log").exists() else "")
                raise
    finally:
        plane.stop()


if __name__ == "__main__":
    sys.exit(main())

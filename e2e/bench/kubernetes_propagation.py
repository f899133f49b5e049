"""How soon a change of a session in the API server is a verdict of every proxy: real etcd and kube-apiserver, the operator with
`--kubernetes`, 20 real Envoys with the sidecar's own bootstrap and tokens that the API server reviews, the ingest, 10,000
sessions and calls through all proxies meanwhile. `make bench-kubernetes-propagation` runs it, as root.

Measured from before the request to the API server until a call of that session has been answered otherwise at each proxy, on two
connections to each, which meet either of its workers. The last answer of all counts. These calls are made when the operator says
that every worker has acknowledged the change, since calls that only look for it would take the cores from what they measure; one
that is answered as before the change is told, for then the acknowledgement was not true."""

import argparse
import base64
import collections
import json
import os
import pathlib
import shutil
import signal
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
from parts import SALLYPORT, SYSTEM, Cores, Operator, find, install, percentiles, settle  # noqa: E402
from sidecars import HOST, Sidecars  # noqa: E402

PROBES = ROOT / "target/release/examples/probes"
NAMESPACE, SERVER = "bench", "bench"
GRANTS = 1000
# The first sessions are for the calls meanwhile.
BUSY = 1000
UPSTREAM = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; default_type application/json;
  server {{ listen {host}:8088; location / {{ return 200 '{{"jsonrpc":"2.0","id":1,"result":{{"content":[]}}}}'; }} }}
}}
"""


def session(number):
    subject = {"humanID": f"user-{number % GRANTS}", "agentID": f"agent-{number % GRANTS}"}
    spec = {"serverRef": {"name": SERVER}, "subject": subject, "consentedTrust": "high", "expiresAt": "2099-01-01T00:00:00Z"}
    return {"apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPAgentSession", "metadata": {"name": f"session-{number}"}, "spec": spec}


def grant(number):
    subject = {"humanID": f"user-{number}", "agentID": f"agent-{number}"}
    spec = {"serverRef": {"name": SERVER}, "subject": subject, "maxTrust": "high", "allowedSideEffects": ["read"]}
    return {"apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPAccessGrant", "metadata": {"name": f"grant-{number}"}, "spec": spec}


def server(proxies):
    spec = {
        "image": "localhost/none:1",
        "replicas": proxies,
        "gateway": {"enabled": True, "upstreamURL": f"http://{HOST}:8088/mcp"},
        "session": {"required": True, "maxLifetime": "24h", "idleTimeout": "1h"},
        "tools": [{"name": "list_invoices", "requiredTrust": "low", "sideEffect": "read"}],
    }
    return {"apiVersion": "mcpruntime.org/v1alpha1", "kind": "MCPServer", "metadata": {"name": SERVER}, "spec": spec}


class Probes:
    """Calls through all proxies, and what they tell."""

    def __init__(self, addresses, every, rate):
        self.addresses = addresses * 2
        command = [PROBES, f"/{SERVER}/mcp", every, rate, GRANTS, BUSY, *self.addresses]
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seen, self.told = collections.defaultdict(list), threading.Condition()
        self.calls = self.others = self.repeated = 0
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            told = json.loads(line)
            if "others" in told:
                self.calls, self.others = self.calls + told["calls"], self.others + told["others"]
            else:
                self.repeated += told["calls"] - 1
                with self.told:
                    self.seen[told["session"]].append(told["at"])
                    self.told.notify()

    def everywhere(self, number, verdict):
        """Waits until this is the verdict on the session at all proxies, and gives the times of the answers."""
        self.seen.pop(number, None)
        self.process.stdin.write(f"{number} {verdict}\n")
        self.process.stdin.flush()
        with self.told:
            is_everywhere = self.told.wait_for(lambda: len(self.seen[number]) == len(self.addresses), 60)
        assert is_everywhere, f"session {number} is {verdict} at {len(self.seen[number])} of {len(self.addresses)}"
        return self.seen[number]

    def stop(self):
        self.process.kill()
        self.process.wait()


class Bench:
    def __init__(self, args):
        self.args = args
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-propagation-"))
        self.children, self.parts = [], []
        self.plane = ControlPlane()
        self.api = ApiClient(self.plane.kubeconfig, connections=16)

    def start(self):
        install(self.plane, self.api)
        for name in [SYSTEM, NAMESPACE]:
            self.api.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        self.api.ask("POST", custom(NAMESPACE, "mcpservers"), server(self.args.proxies))
        self.api.all(lambda number: self.api.ask("POST", custom(NAMESPACE, "mcpaccessgrants"), grant(number)), range(GRANTS))
        make = lambda number: self.api.ask("POST", custom(NAMESPACE, "mcpagentsessions"), session(number))  # noqa: E731
        self.api.all(make, range(self.args.sessions))
        self.operator = Operator(self.plane.kubeconfig, self.folder, xds="0.0.0.0:18000")
        self.parts.append(self.operator)
        rendered = f"namespaces/{NAMESPACE}/deployments/{SERVER}"
        deployment = until(lambda: find(self.api, f"/apis/apps/v1/{rendered}"), 60, "the Deployment")
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        config_map = next(v["configMap"]["name"] for v in volumes if "configMap" in v)
        config_map = self.api.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/{config_map}")
        hosts = [f"{name}.{SYSTEM}.svc" for name in ["sallyport-operator", "sallyport-ingest"]]
        (self.folder / "sidecars").mkdir()
        self.sidecars = Sidecars(self.folder / "sidecars", deployment, config_map, hosts)
        self.parts.append(self.sidecars)
        self.start_ingest()
        self.start_upstream()
        addresses = [self.sidecars.start(number, *self.pod(number)) for number in range(self.args.proxies)]
        # Envoy's own stream, and one of each of its two workers.
        streams = lambda: self.operator.metric("sallyport_operator_streams")  # noqa: E731
        until(lambda: streams() >= 3 * self.args.proxies, 300, "a stream of every worker")
        # The first statuses of all objects are written once; what is measured is a cluster that has them.
        settle(self.operator, 600)
        print(f"{self.args.proxies} Envoys with {streams():.0f} streams; {self.operator.memory()}", flush=True)
        self.probes = Probes(addresses, self.args.interval, self.args.rate)
        self.parts.append(self.probes)
        self.probes.everywhere(0, "allowed")

    def child(self, command, **options):
        log = open(self.folder / "children.log", "a")
        self.children.append(subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, **options))

    def start_ingest(self):
        path = f"/api/v1/namespaces/{SYSTEM}/secrets/sallyport-ingest-tls"
        secret = until(lambda: find(self.api, path), 60, "the ingest's certificate")
        tls = self.folder / "ingest-tls"
        tls.mkdir()
        for key, value in secret["data"].items():
            (tls / key).write_bytes(base64.b64decode(value))
        command = [SALLYPORT, "ingest", "--kubernetes", "--listen", f"{HOST}:18001", "--admin", f"127.0.0.1:{free_port()}"]
        environment = {**os.environ, "KUBECONFIG": str(self.plane.kubeconfig), "SALLYPORT_LOG": "warn"}
        self.child([*command, "--tls-dir", tls, "--db", self.folder / "events.db"], env=environment)

    def start_upstream(self):
        (self.folder / "nginx.conf").write_text(UPSTREAM.format(folder=self.folder, host=HOST))
        self.child(["nginx", "-c", self.folder / "nginx.conf", "-p", self.folder])

    def pod(self, number):
        """Name and token of a pod of the API alone."""
        name, account = f"{SERVER}-{number}", f"mcp-workload-{SERVER}"
        spec = {"serviceAccountName": account, "containers": [{"name": "c", "image": "localhost/none:1"}]}
        made = self.api.ask("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", {"metadata": {"name": name}, "spec": spec})
        bound = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": made["metadata"]["uid"]}
        request = {"spec": {"audiences": ["sallyport"], "expirationSeconds": 7200, "boundObjectRef": bound}}
        answer = self.api.ask("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token", request)
        return name, answer["status"]["token"]

    def measure(self):
        sessions = custom(NAMESPACE, "mcpagentsessions")
        programs = {"operator": self.operator.process, "apiserver": self.plane.running["kube-apiserver"]}
        cores, began, calls = Cores(**programs), time.monotonic(), self.probes.calls

        def revoke(number):
            self.api.patch(f"{sessions}/session-{number}", {"revoked": True})

        def create(number):
            self.api.ask("POST", sessions, session(number))

        rounds = self.args.rounds
        kinds = {
            "a revocation is refused": ("allowed", "refused", revoke, range(BUSY, BUSY + rounds)),
            "a new session is allowed": ("refused", "allowed", create, range(self.args.sessions, self.args.sessions + rounds)),
        }
        for what, (before, after, action, numbers) in kinds.items():
            acknowledged, answered = [], []
            for number in numbers:
                self.probes.everywhere(number, before)
                calls_before = self.probes.repeated
                version = self.enforced(number) if before == "allowed" else None
                changed = time.time()
                action(number)
                self.enforced(number, version)
                acknowledged.append(time.time() - changed)
                answered.append([at - changed for at in self.probes.everywhere(number, after)])
                assert self.probes.repeated == calls_before, f"session {number} was not {after} where that was acknowledged"
            print(f"{what} by every proxy: {percentiles([max(times) for times in answered])}")
            print(f"what every worker has acknowledged: {percentiles(acknowledged)}", flush=True)
        took = time.monotonic() - began
        print(f"calls meanwhile, beside those that measured: {(self.probes.calls - calls) / took:.0f}/s, {self.probes.others} not allowed")
        print(f"CPU time in {took:.0f} s: {cores}", flush=True)

    def enforced(self, number, unlike=None):
        """Waits until every worker has acknowledged the session in another version than this; gives the version."""
        path = f"/v1/enforcement/sessions/{NAMESPACE}/session-{number}?timeout_ms=10000"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            told = json.loads(self.operator.ask(path, timeout=20)[1])
            if told["complete"] and told["version"] != unlike:
                return told["version"]
            time.sleep(0.002)
        raise AssertionError(f"session {number} is not everywhere: {told}")

    def stop(self):
        for part in reversed(self.parts):
            part.stop()
        for child in self.children:
            child.terminate()
            child.wait(20)
        self.plane.stop()
        shutil.rmtree(self.folder)

    def log_tail(self):
        logs = [self.folder / "operator.log", self.folder / "children.log"]
        texts = [log.read_text()[-3000:] for log in logs if log.exists()]
        return "\n".join([*texts, *(part.log_tail() for part in self.parts if isinstance(part, Sidecars))])


def main():
    # What was started is ended, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxies", type=int, default=20)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=200, help="revocations, and as many new sessions")
    parser.add_argument("--interval", type=int, default=10, help="milliseconds until a call is made again that was answered as before")
    parser.add_argument("--rate", type=int, default=5, help="calls per second and connection meanwhile; there are two to each proxy")
    bench = Bench(parser.parse_args())
    try:
        bench.start()
        bench.measure()
    except BaseException:
        print(bench.log_tail())
        raise
    finally:
        bench.stop()


if __name__ == "__main__":
    sys.exit(main())

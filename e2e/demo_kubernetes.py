"""The demonstration on a real Kubernetes: from nothing to payments behind Sallyport, the scripted client of `make demo` before
it, and a revocation by kubectl that is proven by every proxy. Leaves everything running; with `--once` it removes what it made.

The cluster is that of `make cluster`, started if it does not run, or the one that KUBECONFIG names.
"""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import walk
from cluster.node import USERS, Node
from harness import ROOT, SALLYPORT, ControlApi, ask, until
from kubernetes import given_cluster, program
from samples import MODERN, OPS, Callers
from typescript import TypeScript
from walk import aside, attempt, heading

NAMESPACE, SYSTEM = "mcp-servers", "sallyport-system"
IMAGE = "registry.example.com/payments-mcp"
SERVER = f"/apis/mcpruntime.org/v1alpha1/namespaces/{NAMESPACE}/mcpservers/payments"
SESSION = f"/apis/mcpruntime.org/v1alpha1/namespaces/{NAMESPACE}/mcpagentsessions/sess-ops"


class Installed(Callers, ControlApi):
    """Sallyport and payments in a cluster, and a way to both."""

    OVERLAY = "dev"

    def __init__(self, cluster, keep):
        self.cluster, self.keep = cluster, keep
        self.ways = contextlib.ExitStack()
        # What is left of it comes down by `close`, also where starting fails.
        try:
            self.install()
            self.deploy()
            self.open()
        except BaseException:
            self.close()
            raise

    def install(self):
        began = time.monotonic()
        self.cluster.our_images()
        aside(f"$ sallyport install --overlay {self.OVERLAY}")
        self.sallyport("install", "--overlay", self.OVERLAY, "--kubeconfig", self.cluster.kubeconfig)
        aside(f"images imported, operator, webhook, ingest and control API ready after {time.monotonic() - began:.1f} s")

    def deploy(self):
        began = time.monotonic()
        aside("$ kubectl apply -f config/samples/payments")
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}}])
        image = self.cluster.our_images()["sallyport-sample-payments"]
        for path in sorted((ROOT / "config/samples/payments").glob("*.yaml"), reverse=True):
            self.cluster.apply(path.read_text().replace(f"image: {IMAGE}", f"image: {image}"), NAMESPACE)
        self.cluster.until(SERVER, self.serves, 120)
        aside(f"payments runs, and its policy is enforced, after {time.monotonic() - began:.1f} s")

    def serves(self, server):
        """Whether the server is all that this installation can make of it."""
        return server.get("status", {}).get("phase") == "Ready"

    def open(self):
        self.typescript = self.ways.enter_context(stopping(TypeScript()))
        self.gateway = self.ways.enter_context(self.cluster.reach(NAMESPACE, "service/payments", 80))
        self.open_control()

    def open_control(self):
        """Forwarded in any case: the network policies let nobody else in. It leads to one pod, and ends with that."""
        forward = ["--namespace", SYSTEM, "port-forward", "service/sallyport-control-api", ":80"]
        _, port = self.ways.enter_context(self.cluster.background(forward, r"Forwarding from 127\.0\.0\.1:(\d+)"))
        self.control = ("127.0.0.1", port)
        secret = self.cluster.get(f"/api/v1/namespaces/{SYSTEM}/secrets/sallyport-api-keys")
        self.key = base64.b64decode(secret["data"]["keys"]).decode().split()[0]

    def url(self, server):
        return "http://{}:{}/{}/mcp".format(*self.gateway, server)

    def request(self, method, path, body=None, headers=None, port="api", timeout=10):
        return ask(self.control if port == "api" else self.gateway, method, path, body, headers, timeout)

    def cli(self, *arguments):
        environment = {"SALLYPORT_API": "http://{}:{}".format(*self.control), "SALLYPORT_API_KEY_FILE": "/dev/stdin"}
        return self.sallyport(*arguments, input=self.key, env={**os.environ, **environment})

    def sallyport(self, *arguments, **more):
        done = subprocess.run([SALLYPORT, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, **more)
        assert done.returncode == 0, f"sallyport {' '.join(map(str, arguments))}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    def close(self):
        self.ways.close()
        if not self.keep:
            # Nobody calls any more, so pods need not take the time that they have for the calls of others.
            for kind, *how in [("mcpservers",), ("pods", "--force", "--grace-period=0")]:
                self.cluster.kubectl("delete", kind, "--all", "--namespace", NAMESPACE, *how, check=False)
            self.cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")


@contextlib.contextmanager
def stopping(what):
    try:
        yield what
    finally:
        what.stop()


def revoke(demo):
    heading("The user's consent is withdrawn, by kubectl")
    ops = demo.connect("v2", MODERN, OPS)
    attempt("ops-agent", "list_invoices", lambda: ops.tool("list_invoices"), lambda _: "still with consent")
    patch = json.dumps({"spec": {"revoked": True}})
    aside(f"$ kubectl patch mcpagentsession sess-ops --type=merge -p '{patch}'")
    began = time.monotonic()
    demo.cluster.kubectl("--namespace", NAMESPACE, "patch", "mcpagentsession", "sess-ops", "--type=merge", "-p", patch)
    demo.cluster.until(SESSION, is_proven)
    aside(f"proven by every proxy {1000 * (time.monotonic() - began):.0f} ms after the command began:")
    told = demo.cluster.kubectl("--namespace", NAMESPACE, "get", "mcpagentsession", "sess-ops")
    for row in told.splitlines():
        print(f"    {row}")
    attempt("ops-agent", "list_invoices", lambda: ops.tool("list_invoices"), lambda _: "unexpectedly")


def is_proven(session):
    """Whether the status says that this very generation is enforced everywhere."""
    conditions = session.get("status", {}).get("conditions", [])
    enforced = [c for c in conditions if c["type"] == "Enforced" and c["status"] == "True"]
    return any(c.get("observedGeneration") == session["metadata"]["generation"] for c in enforced)


def what_next(demo):
    config = f"--kubeconfig {demo.cluster.kubeconfig}"
    kubectl = f"{program('kubectl')} {config} --namespace {NAMESPACE}"
    heading("It goes on running; Ctrl-C ends this, `make cluster-down` the cluster. Try next, in another terminal of this folder:")
    print(f"""
  # what there is, and what is wrong with it
  {kubectl} get mcp
  {kubectl} get events
  target/debug/sallyport doctor {config}

  # consent again, which takes a right of its own; then call through {demo.url("payments")}
  {kubectl} patch mcpagentsession sess-ops --type=merge -p '{{"spec":{{"revoked":false}}}}'

  # the control API and the record
  export SALLYPORT_API=http://127.0.0.1:{demo.control[1]} SALLYPORT_API_KEY_FILE=/tmp/sallyport-api-key
  {program("kubectl")} {config} --namespace {SYSTEM} get secret sallyport-api-keys -o jsonpath='{{.data.keys}}' | base64 -d > $SALLYPORT_API_KEY_FILE
  target/debug/sallyport events --limit 5
""", flush=True)


def cluster():
    """The one that is given, or our own."""
    given = os.environ.get("KUBECONFIG")
    if given:
        return given_cluster(given)
    node = Node(USERS)
    if not node.is_running():
        aside("starting a Kubernetes node (`make cluster`)")
        node.start()
    return given_cluster(node.kubeconfig)


def main():
    once = "--once" in sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print("Sallyport on Kubernetes: a call passes two gates, the administrator's grant and the user's consent, or it does not pass.")
    with contextlib.suppress(KeyboardInterrupt), stopping(cluster()) as at, contextlib.closing(Installed(at, keep=not once)) as demo:
        walk.payments(demo)
        revoke(demo)
        until(lambda: demo.events(reason="session_revoked"), what="the last event")
        walk.record(demo, 10)
        if not once:
            what_next(demo)
            signal.pause()


if __name__ == "__main__":
    main()

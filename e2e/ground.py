"""Sallyport in a cluster as its users have it (`config/overlays/default`), and what tests of it do: make servers, grants and
sessions, withdraw them and wait for the proof, call, and keep calling while something else goes on."""

import base64
import contextlib
import http.client
import json
import subprocess
import tempfile
import threading
import time

from fixtures import mcp_image
from harness import MEDIA, ROOT, SALLYPORT, ControlApi, ask, until
from kubernetes import LeftOut

SYSTEM = "sallyport-system"
OURS = "/apis/mcpruntime.org/v1alpha1/namespaces"
MERGE = "application/merge-patch+json"
TOOLS = [{"name": "list", "sideEffect": "read"}, {"name": "slow", "sideEffect": "read"}, {"name": "drop", "sideEffect": "destructive"}]
# Outcomes of a call beside the gateway's reasons.
ALLOW, LOST = "allow", "lost"


def ground(cluster):
    """The installation that the modules of this cluster share."""
    if not hasattr(cluster, "ground"):
        cluster.ground = Ground(cluster)
    return cluster.ground


def routed(cluster):
    """The same for modules that call while pods come and go, which a forwarded port does not outlive."""
    if cluster.own is None:
        raise LeftOut("calls go to Services and pods directly, and the node itself fails: a node of our own does that, as root")
    return ground(cluster)


class Ground(ControlApi):
    """The installation. It stays; objects are made in namespaces of the test."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.images = cluster.our_images()
        with tempfile.TemporaryDirectory() as folder:
            cluster.load(*(mcp_image.archive(version, folder) for version in ["1", "2"]))
        # Its volumes cannot be changed, and another module may have installed the other overlay.
        cluster.kubectl("delete", "statefulset", "sallyport-audit", "--namespace", SYSTEM, "--ignore-not-found")
        self.sallyport("install", "--overlay", "default")

    def stop(self):
        """The cluster ends all."""

    def log_tail(self):
        newest = ["logs", "--namespace", SYSTEM, "deployment/sallyport-operator", "--tail=60", "--prefix", "--all-pods=true"]
        return self.cluster.kubectl(*newest, check=False).stdout + self.cluster.log_tail()

    def sallyport(self, *arguments, check=True):
        command = [SALLYPORT, *arguments, "--kubeconfig", self.cluster.kubeconfig]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert not check or done.returncode == 0, f"sallyport {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    # The operator's replicas

    def operators(self):
        """Pods that are there, also those that end."""
        return self.pods(SYSTEM, "app.kubernetes.io/name=sallyport-operator")

    def pods(self, namespace, selector):
        return self.cluster.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")["items"]

    def leader(self):
        """Name of the pod that holds the Lease, or nothing."""
        lease = self.cluster.get(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/sallyport-operator")
        return (lease or {}).get("spec", {}).get("holderIdentity", "")

    # The record

    def request(self, method, path, body=None, headers=None, port="api", timeout=10):
        """Forwarded in any case: the network policies let nobody else in."""
        forward = ["--namespace", SYSTEM, "port-forward", "service/sallyport-control-api", ":80"]
        with self.cluster.background(forward, r"Forwarding from 127\.0\.0\.1:(\d+)") as (_, local):
            return ask(("127.0.0.1", local), method, path, body, headers, timeout)

    @property
    def key(self):
        secret = self.cluster.get(f"/api/v1/namespaces/{SYSTEM}/secrets/sallyport-api-keys")
        return base64.b64decode(secret["data"]["keys"]).decode().split()[0]

    # Objects

    def make(self, namespace, plural, kind, name, spec):
        body = {"apiVersion": "mcpruntime.org/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        status, made = self.cluster.api("POST", f"{OURS}/{namespace}/{plural}", body)
        assert status == 201, made
        return made

    def server(self, namespace, name, **more):
        """A server of our image with two replicas, which enforces and is ready."""
        url = f"http://127.0.0.1:{mcp_image.PORT}{mcp_image.PATH}"
        spec = {
            "image": mcp_image.reference("1"), "port": mcp_image.PORT, "replicas": 2, "tools": TOOLS,
            "gateway": {"enabled": True, "upstreamURL": url}, "session": {"required": True}, **more,
        }
        self.make(namespace, "mcpservers", "MCPServer", name, spec)

    def grant(self, namespace, server, name, **more):
        spec = {"serverRef": {"name": server}, "subject": {"agentID": "agent"}, "maxTrust": "high", "allowedSideEffects": ["read"]}
        return self.make(namespace, "mcpaccessgrants", "MCPAccessGrant", name, {**spec, **more})

    def session(self, namespace, server, name, **more):
        spec = {
            "serverRef": {"name": server}, "subject": {"humanID": "user", "agentID": "agent"},
            "consentedTrust": "high", "expiresAt": "2099-12-31T23:59:00Z",
        }
        return self.make(namespace, "mcpagentsessions", "MCPAgentSession", name, {**spec, **more})

    def patch(self, namespace, plural, name, spec):
        """Status of the answer, and the object or why not."""
        return self.cluster.api("PATCH", f"{OURS}/{namespace}/{plural}/{name}", {"spec": spec}, MERGE)

    def settled(self, namespace, name, seconds=90):
        """Waits until the server is there as it is wanted now, and gives it back."""
        return self.cluster.until(f"{OURS}/{namespace}/mcpservers/{name}", lambda found: stands(found, "DeploymentReady", "Enforced"), seconds)

    def proven(self, namespace, plural, name, seconds=60):
        """Waits until every proxy enforces the object as it is now."""
        return self.cluster.until(f"{OURS}/{namespace}/{plural}/{name}", lambda found: stands(found, "Enforced"), seconds)

    @contextlib.contextmanager
    def steady(self, namespace, server, callers):
        """Calls by its Service all the while, by each of `callers`: identity, tool and outcome that must come of it."""
        with self.cluster.reach(namespace, f"service/{server}", 80) as address:
            traffic = Traffic(address, f"/{server}/mcp", callers)
            try:
                yield traffic
            finally:
                traffic.stop()


def stands(found, *conditions):
    """Whether the status says so of this very generation."""
    true = [c for c in found.get("status", {}).get("conditions", []) if c["status"] == "True"]
    current = {c["type"] for c in true if c.get("observedGeneration") == found["metadata"]["generation"]}
    return current.issuperset(conditions)


def identity(session=None, human="user", agent="agent"):
    """Headers of a caller."""
    headers = {"x-mcp-human-id": human, "x-mcp-agent-id": agent}
    return headers | ({"x-mcp-agent-session": session} if session else {})


def call(address, path, headers, tool="list", timeout=15):
    """What became of a call: `ALLOW`, the gateway's reason, or `LOST`; and the server's text, or what is known of the loss."""
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
    try:
        status, answer = ask(address, "POST", path, json.dumps(body).encode(), {**MEDIA, **headers}, timeout)
    except (OSError, http.client.HTTPException) as error:
        return LOST, repr(error)
    try:
        answer = json.loads(answer)
        if status == 200:
            return ALLOW, answer["result"]["content"][0]["text"]
        return answer["error"]["data"]["reason"], None
    except (ValueError, KeyError, TypeError):
        return LOST, f"{status} {answer!r}"


class Traffic:
    """Calls from several threads, and what became of each."""

    PAUSE = 0.05

    def __init__(self, address, path, callers):
        self.address, self.path = address, path
        self.stopping, self.lock, self.calls = threading.Event(), threading.Lock(), []
        self.threads = [threading.Thread(target=self.keep_calling, args=caller, daemon=True) for caller in callers]
        for thread in self.threads:
            thread.start()

    def keep_calling(self, headers, tool, expected):
        while not self.stopping.wait(self.PAUSE):
            began = time.monotonic()
            outcome, detail = call(self.address, self.path, headers, tool)
            with self.lock:
                self.calls.append((began, time.monotonic(), expected, outcome, detail))

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(20)

    def since(self, began):
        with self.lock:
            return [call for call in self.calls if call[0] >= began]

    def expect_right(self, began, away=()):
        """Since then every call had the outcome it must have, but for those that had none and met one of the spans of time
        in which a gateway was `away`. Gives their counts."""
        calls = self.since(began)
        wrong = [call for call in calls if call[3] not in (call[2], LOST)]
        excused = lambda call: any(call[0] <= end and start <= call[1] for start, end in away)  # noqa: E731
        lost = [(round(call[0] - began, 2), call[4]) for call in calls if call[3] == LOST and not excused(call)]
        assert not wrong, f"{len(wrong)} of {len(calls)} calls went wrong: {wrong[:5]}"
        assert not lost, f"{len(lost)} of {len(calls)} calls were lost: {lost[:5]}"
        counts = {outcome: sum(call[3] == outcome for call in calls) for outcome in {call[3] for call in calls}}
        assert counts.get(ALLOW) and len(counts.keys() - {ALLOW, LOST}), f"no calls of both kinds: {counts}"
        return counts

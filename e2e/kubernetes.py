"""Kubernetes for tests: a module of `tests/` says `NEEDS = NODE` or `NEEDS = API`, and its tests, or its `start`, are given a
`Cluster` that all modules of that need share.

- `NODE`: pods run. A node of our own, which needs root, or the cluster that `KUBECONFIG` names. Where that is no node of ours,
  its Services and pods are reached by forwarded ports, and modules that cannot do with those are left out.
- `API`: an API server is enough. One of our own, which needs nothing, or the cluster that `KUBECONFIG` names.

A test works in namespaces of its own (`Cluster.namespace`). To stop an API server, start a `ControlPlane` or a node of your
own: the shared ones are everybody's.
"""

import contextlib
import http.client
import json
import os
import pathlib
import re
import secrets
import shlex
import shutil
import subprocess

from cluster import build, traces
from cluster import images as cluster_images
from cluster.control_plane import ControlPlane
from cluster.node import Node, any_free
from harness import until
from images import build as our_build

FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"
NODE, API = "a node", "an API server"
# A command that imports the archive it is given into the cluster of KUBECONFIG, such as `kind load image-archive`.
LOAD_IMAGE = shlex.split(os.environ.get("SALLYPORT_LOAD_IMAGE", ""))


class LeftOut(Exception):
    """What is needed cannot be had here; the text says how it could."""


def provide(need):
    """The cluster that modules of this need share."""
    given = os.environ.get("KUBECONFIG")
    if given:
        cluster = given_cluster(given)
        if need == NODE and cluster.own is None and LOAD_IMAGE:
            build.build(build.control_plane())
            cluster.load(cluster_images.tools())
        return cluster
    if need == API:
        plane = ControlPlane()
        return Cluster(plane.kubeconfig, plane)
    if os.geteuid() != 0:
        raise LeftOut("pods run on a node of our own, as root, or on the cluster that KUBECONFIG names")
    node, lock = any_free()
    node.start(dies_with_parent=True)
    return Cluster(node.kubeconfig, node, lock)


def given_cluster(kubeconfig):
    """The cluster of this kubeconfig. If that is the node of `make cluster`, tests may do to it what they do to one of theirs."""
    return Cluster(kubeconfig, Node.of(kubeconfig), stays=True)


class Cluster:
    """A cluster, reached by its kubeconfig. `own` is the node or control plane behind it, if it is of our making; one that
    `stays` goes on when this ends."""

    def __init__(self, kubeconfig, own=None, lock=None, stays=False):
        self.kubeconfig = kubeconfig
        self.own = own
        self.lock = lock
        self.stays = stays
        self.proxy = None
        self.ours = {}
        self.has_traefik = False

    # What is there

    def kubectl(self, *arguments, input=None, check=True):
        """Runs kubectl, and gives its output, or with `check=False` all that is known of its end."""
        command = [program("kubectl"), "--kubeconfig", self.kubeconfig, *arguments]
        ended = subprocess.run(command, input=input, capture_output=True, text=True, timeout=180)
        if check and ended.returncode:
            raise AssertionError(f"kubectl {shlex.join(map(str, arguments))}: {ended.stderr.strip()}")
        return ended.stdout if check else ended

    def apply(self, manifests, namespace="default"):
        """Applies YAML, or objects."""
        text = manifests if isinstance(manifests, str) else json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        return self.kubectl("apply", "--namespace", namespace, "-f", "-", input=text)

    def api(self, method, path, body=None, media="application/json"):
        """Asks the API server directly, which is faster than kubectl: status and object. A patch names its media type."""
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy_port(), timeout=60)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": media})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def get(self, path):
        """The object or list at this path of the API, or None."""
        status, found = self.api("GET", path)
        assert status in (200, 404), found
        return found if status == 200 else None

    def until(self, path, condition, seconds=60):
        """Waits until the object at `path` fulfils the condition, and gives it back."""
        return until(
            lambda: (found := self.get(path)) is not None and condition(found) and found, seconds, f"condition on {path}"
        )

    # What a test makes

    @contextlib.contextmanager
    def namespace(self, labels=None):
        """A namespace for one test. Its name is given."""
        name = f"test-{secrets.token_hex(4)}"
        status, made = self.api("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
        assert status == 201, made
        try:
            # Pods are refused until it is there; the API alone has no controller that makes it.
            if not isinstance(self.own, ControlPlane):
                self.until(f"/api/v1/namespaces/{name}/serviceaccounts/default", lambda _: True)
            yield name
        finally:
            self.api("DELETE", f"/api/v1/namespaces/{name}")

    def load(self, *archives):
        """Imports images. A given cluster without a command for that has them already."""
        for archive in archives:
            if self.own is not None:
                self.own.load(archive)
            elif LOAD_IMAGE:
                subprocess.run([*LOAD_IMAGE, archive], check=True)

    def our_images(self):
        """Imports the images of this project, as built last, and gives their names as manifests call them."""
        if not self.ours:
            for name in our_build.NAMES:
                our_build.make(name)
                self.load(our_build.archive(name))
                self.ours[name] = f"{name}:{our_build.version()}"
        return self.ours

    @contextlib.contextmanager
    def traefik(self):
        """Host and port of a real ingress controller, for Ingresses of the class `traefik`. The first call of all builds it."""
        manifests = FIXTURES / "traefik.yaml"
        if not self.has_traefik:
            if self.own is not None or LOAD_IMAGE:
                self.load(cluster_images.traefik())
            self.kubectl("apply", "-f", manifests)
            self.has_traefik = True
        self.kubectl("rollout", "status", "--namespace", "traefik", "deployment/traefik", "--timeout=120s")
        with self.reach("traefik", "service/traefik", 80) as reached:
            yield reached

    @contextlib.contextmanager
    def reach(self, namespace, name, port):
        """Host and port of a pod (`pod/NAME`) or Service (`service/NAME`): ours are routed, others forwarded."""
        kind, _, plain = name.partition("/")
        if self.own is not None:
            found = self.get(f"/api/v1/namespaces/{namespace}/{kind}s/{plain}")
            yield (found["status"]["podIP"] if kind == "pod" else found["spec"]["clusterIP"]), port
            return
        command = ["--namespace", namespace, "port-forward", name, f":{port}"]
        with self.background(command, r"Forwarding from 127\.0\.0\.1:(\d+)") as (_, local):
            yield "127.0.0.1", local

    # How it is reached

    @contextlib.contextmanager
    def background(self, arguments, announces):
        """kubectl in the background, with the port that it announces."""
        command = [program("kubectl"), "--kubeconfig", self.kubeconfig, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            try:
                yield process, int(re.search(announces, process.stdout.readline())[1])
            finally:
                process.kill()

    def proxy_port(self):
        if self.proxy is None:
            self.proxy = contextlib.ExitStack()
            _, self.port = self.proxy.enter_context(self.background(["proxy", "--port=0"], r"127\.0\.0\.1:(\d+)"))
        return self.port

    def log_tail(self):
        return self.own.log_tail() if self.own is not None else ""

    def stop(self):
        if self.proxy is not None:
            self.proxy.close()
        if self.own is not None and not self.stays:
            self.end()
        elif self.has_traefik:
            self.kubectl("delete", "--wait=false", "-f", FIXTURES / "traefik.yaml")
        if self.lock is not None:
            self.lock.close()

    def end(self):
        """Ends what is behind it. Of a node nothing is left; while it runs every kind of trace is seen."""
        is_node = isinstance(self.own, Node)
        seen = traces.of(self.own) if is_node else {}
        self.own.stop()
        if is_node:
            assert seen.keys() == traces.KINDS, f"of a node that ran, only these were seen: {seen.keys()}"
            left = traces.of(self.own)
            assert not left, f"left of the node: {left}"


def program(name):
    """One of the cluster's programs: ours, if it is built."""
    ours = build.home() / name
    return pathlib.Path(ours if ours.exists() else shutil.which(name) or ours)

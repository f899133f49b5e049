"""The API alone, where no pods run."""

import contextlib
import json
import os
import subprocess

from harness import ROOT, SALLYPORT, free_port, test, until
from kubernetes import API, Cluster, ControlPlane

NEEDS = API
OVERLAY = ROOT / "config/overlays/default"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/sallyport"
KEYS = "/api/v1/namespaces/sallyport-system/secrets/sallyport-api-keys"


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@test
def a_token_is_for_its_audience_and_for_nobody_without_rights(cluster):
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "proxy"}}
    with cluster.namespace() as namespace:
        cluster.apply([account], namespace)
        request = ["create", "token", "proxy", "--namespace", namespace, "--audience", "sallyport"]
        token = cluster.kubectl(*request).strip()
        for audience, expected in [("sallyport", True), ("another", False)]:
            review = {"spec": {"token": token, "audiences": [audience]}}
            review |= {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
            _, reviewed = cluster.api("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)
            assert reviewed["status"].get("authenticated", False) is expected, reviewed
        who = f"system:serviceaccount:{namespace}:proxy"
        refused = cluster.kubectl("get", "secrets", "--namespace", namespace, "--as", who, check=False)
        assert "Forbidden" in refused.stderr, refused


@test
def what_is_stored_outlives_an_api_server(_):
    plane = ControlPlane()
    cluster = Cluster(plane.kubeconfig, plane)
    try:
        cluster.apply([config_map("kept", word="hello")])
        with plane.without("kube-apiserver"):
            refused = cluster.kubectl("get", "configmap", "kept", check=False)
            assert "refused" in refused.stderr, refused
        assert cluster.get("/api/v1/namespaces/default/configmaps/kept")["data"] == {"word": "hello"}
    finally:
        cluster.stop()
    until(lambda: not plane.folder.exists(), what="nothing is left")


@test
def applying_an_installation_again_leaves_what_its_parts_put_there(_):
    plane = ControlPlane()
    cluster = Cluster(plane.kubeconfig, plane)
    try:
        told = cluster.kubectl("apply", "-k", OVERLAY).splitlines()
        assert all(line.endswith(" created") for line in told), told
        with operator(plane):
            until(lambda: authorities(cluster), 30, "the operator's authority in each webhook")
        # What the control API does.
        assert cluster.api("PATCH", KEYS, {"stringData": {"keys": "a key"}}, "application/merge-patch+json")[0] == 200
        before, trusted = versions(cluster), authorities(cluster)
        assert len(before) == len(told), before
        cluster.kubectl("apply", "-k", OVERLAY)
        assert versions(cluster) == before, "it changed something"
        assert authorities(cluster) == trusted
    finally:
        cluster.stop()


def versions(cluster):
    """Version of each object of the installation."""
    found = json.loads(cluster.kubectl("get", "-k", OVERLAY, "-o", "json"))["items"]
    return {f"{one['kind']} {one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in found}


def authorities(cluster):
    """The authority of each webhook, if all have one."""
    found = [webhook["clientConfig"].get("caBundle") for webhook in cluster.get(WEBHOOKS)["webhooks"]]
    return found if all(found) else None


@contextlib.contextmanager
def operator(plane):
    """The operator, as a process of this machine."""
    command = [SALLYPORT, "operator", "--kubernetes", "--namespace", "sallyport-system"]
    command += [f"--{flag}=127.0.0.1:{free_port()}" for flag in ["listen", "admin", "webhook"]]
    with open(plane.folder / "operator.log", "w") as log:
        environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig)}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            yield
        finally:
            process.kill()
            process.wait()

"""The API alone, where no pods run."""

from harness import test, until
from kubernetes import API, Cluster, ControlPlane

NEEDS = API


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

"""The cluster that the other modules rely on: pods, their order, their network and who may use it."""

import http.client

from harness import test, until
from kubernetes import NODE

NEEDS = NODE
TOOLS = "localhost/tools:1"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def container(name, *command, **more):
    return {"name": name, "image": TOOLS, "command": list(command), "securityContext": RESTRICTED, **more}


def pod(name, *containers, labels=None, **more):
    spec = {"containers": list(containers), "terminationGracePeriodSeconds": 0, **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def web(name="web"):
    """A pod that serves the word `hello`, and its Service."""
    serve = "echo hello > /tmp/index.html && exec httpd -f -p 8080 -h /tmp"
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    mounts = {"ports": [{"name": "http", "containerPort": 8080}], "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}
    server = container("web", "sh", "-c", serve, readinessProbe=probe, **mounts)
    service = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": "http"}]}
    return [
        pod(name, server, labels={"app": name}, volumes=[{"name": "tmp", "emptyDir": {"medium": "Memory"}}]),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
    ]


def client(name="client", labels=None):
    return pod(name, container("client", "sleep", "infinity"), labels=labels)


def is_ready(found):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"].get("conditions", []))


def deploy(cluster, namespace, *objects):
    """Applies them, and waits until the pods among them are ready."""
    cluster.apply(list(objects), namespace)
    for one in objects:
        if one["kind"] == "Pod":
            cluster.until(f"/api/v1/namespaces/{namespace}/pods/{one['metadata']['name']}", is_ready)


def fetch(cluster, namespace, name, url):
    """What curl gets in the pod `name`, or None."""
    command = ["exec", "--namespace", namespace, name, "--", "curl", "-sS", "--max-time", "1", url]
    ended = cluster.kubectl(*command, check=False)
    return ended.stdout if ended.returncode == 0 else None


@test
def pods_reach_each_other_by_the_names_of_services(cluster):
    with cluster.namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as namespace:
        deploy(cluster, namespace, *web(), client())
        for name in ["web", f"web.{namespace}.svc.cluster.local"]:
            until(lambda name=name: fetch(cluster, namespace, "client", f"http://{name}/") == "hello\n", what=name)


@test
def a_sidecar_starts_before_the_server_and_ends_after_it(cluster):
    # Each writes when it starts and when it is told to end.
    script = 'echo "$0 starts" >> /shared/log; trap \'echo "$0 ends" >> /shared/log; exit\' TERM; touch /tmp/up; while :; do sleep 0.1; done'
    mounts = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}, {"name": "tmp", "mountPath": "/tmp"}]}
    up = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1}
    sidecar = container("sidecar", "sh", "-c", script, "sidecar", restartPolicy="Always", startupProbe=up, **mounts)
    server = container("server", "sh", "-c", script, "server", **mounts)
    reader = container("reader", "sh", "-c", "trap '' TERM; sleep 1; cat /shared/log", **mounts)
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "shared"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    volumes = [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}, {"name": "tmp", "emptyDir": {}}]
    with cluster.namespace() as namespace:
        both = pod("both", server, initContainers=[sidecar], volumes=volumes)
        both["spec"]["terminationGracePeriodSeconds"] = 10
        deploy(cluster, namespace, claim, both)
        cluster.kubectl("delete", "pod", "both", "--namespace", namespace)
        after = pod("after", reader, volumes=volumes, restartPolicy="Never")
        cluster.apply([after], namespace)
        cluster.until(f"/api/v1/namespaces/{namespace}/pods/after", lambda p: p["status"]["phase"] == "Succeeded")
        told = cluster.kubectl("logs", "after", "--namespace", namespace).splitlines()
    assert told == ["sidecar starts", "server starts", "server ends", "sidecar ends"], told


@test
def a_network_policy_lets_in_only_whom_it_names(cluster):
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "web"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"friend": "yes"}}}], "ports": [{"port": "http"}]}],
        },
    }
    with cluster.namespace() as namespace:
        deploy(cluster, namespace, *web(), client("friend", {"friend": "yes"}), client("stranger"))
        for name in ["friend", "stranger"]:
            until(lambda name=name: fetch(cluster, namespace, name, "http://web/"), what=f"{name} gets in without a policy")
        cluster.apply([policy], namespace)
        until(lambda: fetch(cluster, namespace, "stranger", "http://web/") is None, what="the stranger is kept out")
        assert fetch(cluster, namespace, "friend", "http://web/") == "hello\n"
        # The probe comes from the node and passes.
        assert is_ready(cluster.get(f"/api/v1/namespaces/{namespace}/pods/web"))
        cluster.kubectl("label", "pod", "stranger", "friend=yes", "--namespace", namespace)
        until(lambda: fetch(cluster, namespace, "stranger", "http://web/"), what="a new friend gets in")


@test
def a_network_policy_lets_out_only_to_whom_it_names(cluster):
    names = {
        "to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
    }
    other = {"to": [{"namespaceSelector": {"matchLabels": {"team": "other"}}}], "ports": [{"port": "http"}]}
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "client"},
        "spec": {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"], "egress": [names, other]},
    }
    with cluster.namespace() as here, cluster.namespace({"team": "other"}) as there:
        for namespace in [here, there]:
            deploy(cluster, namespace, *web())
        deploy(cluster, here, client(labels={"app": "client"}))
        inside, outside = "http://web/", f"http://web.{there}/"
        for url in [inside, outside]:
            until(lambda url=url: fetch(cluster, here, "client", url), what=f"{url} is reached without a policy")
        cluster.apply([policy], here)
        until(lambda: fetch(cluster, here, "client", inside) is None, what="its own namespace is out of reach")
        assert fetch(cluster, here, "client", outside) == "hello\n"
        api = ["curl", "-sSk", "--max-time", "1", "https://kubernetes.default.svc/version"]
        refused = cluster.kubectl("exec", "--namespace", here, "client", "--", *api, check=False)
        assert refused.returncode == 28, f"the API server answers: {refused}"


@test
def a_test_reaches_pods_and_services_from_outside(cluster):
    with cluster.namespace() as namespace:
        deploy(cluster, namespace, *web())
        for name, port in [("pod/web", 8080), ("service/web", 80)]:
            with cluster.reach(namespace, name, port) as (host, at):
                assert get(host, at) == (200, b"hello\n"), name


def get(host, port):
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()

"""A real Traefik lets calls in from outside, by host and by path."""

import http.client

from harness import test, until
from kubernetes import NODE
from tests.kube_cluster import deploy, web

NEEDS = NODE


def ingress(host=None, path="/"):
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    rule = {"http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}
    spec = {"ingressClassName": "traefik", "rules": [rule | ({"host": host} if host else {})]}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"}, "spec": spec}


def call(host, port, path="/", name="unknown.test"):
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path, headers={"host": name})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@test
def a_call_from_outside_enters_by_host_and_by_path(cluster):
    with cluster.traefik() as (host, port), cluster.namespace() as namespace:
        deploy(cluster, namespace, *web())
        cluster.apply([ingress(host="web.test")], namespace)
        until(lambda: call(host, port, name="web.test") == (200, b"hello\n"), what="route by host")
        assert call(host, port)[0] == 404
        path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/web"
        cluster.until(path, lambda i: i["status"]["loadBalancer"].get("ingress"))

        cluster.apply([ingress(path="/index.html")], namespace)
        until(lambda: call(host, port, "/index.html") == (200, b"hello\n"), what="route by path")
        assert call(host, port, name="web.test")[0] == 404

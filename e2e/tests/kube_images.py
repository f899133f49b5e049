"""The images start, as the users and with the files they have."""

import re

from harness import ROOT, test
from kubernetes import NODE

NEEDS = NODE


def output(cluster, image, *arguments):
    """What a container of the image prints, under the rules of a restricted namespace."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {"name": "one", "image": image, "args": list(arguments), "securityContext": security}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}}
    pod["spec"] = {"restartPolicy": "Never", "containers": [container]}
    with cluster.namespace({"pod-security.kubernetes.io/enforce": "restricted"}) as namespace:
        cluster.apply([pod], namespace)
        path = f"/api/v1/namespaces/{namespace}/pods/one"
        ended = cluster.until(path, lambda p: p["status"]["phase"] in ("Succeeded", "Failed"))
        told = cluster.kubectl("logs", "one", "--namespace", namespace)
        assert ended["status"]["phase"] == "Succeeded", told
        return told


@test
def the_command_tells_its_version(cluster):
    images = cluster.our_images()
    version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    told = output(cluster, images["sallyport"], "--version")
    assert told == f"sallyport {version}\n", told


@test
def envoy_is_the_wanted_one_and_reads_its_filter(cluster):
    images = cluster.our_images()
    version = re.search(r"^ENVOY_VERSION=(.+)$", (ROOT / "scripts/versions.env").read_text(), re.MULTILINE)[1]
    assert f"/{version}/" in output(cluster, images["sallyport-envoy"], "--version")
    code = "{filename: /opt/sallyport/filter.wasm}"
    module = f"vm_config: {{runtime: envoy.wasm.runtime.v8, code: {{local: {code}}}}}"
    plugin = f'{{"@type": type.googleapis.com/envoy.extensions.wasm.v3.WasmService, config: {{{module}}}}}'
    bootstrap = f"bootstrap_extensions: [{{name: envoy.bootstrap.wasm, typed_config: {plugin}}}]"
    checked = output(cluster, images["sallyport-envoy"], "--mode", "validate", "--config-yaml", bootstrap)
    assert "OK" in checked, checked

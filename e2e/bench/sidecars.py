"""Real gateways without pods: each an Envoy in a network and a mount namespace of its own, where the sidecar's bootstrap, its
arguments, ports and paths are what the operator rendered, to the letter. Needs root."""

import contextlib
import pathlib
import shutil
import subprocess

from harness import ROOT

ENVOY = ROOT / ".cache/tools/envoy/envoy"
WASM = ROOT / "target/wasm/sallyport_filter.wasm"
BRIDGE = "sallyport-bench"
NETWORK = "198.18.7"  # of the range for benchmarks (RFC 2544)
HOST = f"{NETWORK}.1"
# What a pod has where these are mounted: the machine's own folders are out of the way there.
START = """
set -e
mount -t tmpfs tmpfs /opt; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /etc
mkdir -p /opt/sallyport {config} {token}
cp {folder}/filter.wasm /opt/sallyport/
cp {folder}/hosts /etc/hosts
cp {folder}/config/* {config}/
cp {folder}/tokens/{name} {token}/token
exec {folder}/envoy "$@"
"""


def run(*command):
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


class Sidecars:
    """Gateways as pods of a Deployment would have them. `hosts` are the names that lead to this machine."""

    def __init__(self, folder, deployment, config_map, hosts):
        pod = deployment["spec"]["template"]["spec"]
        container = next(c for c in pod["initContainers"] if c["name"] == "mcp-gateway")
        self.folder, self.container, self.namespace = folder, container, deployment["metadata"]["namespace"]
        self.port = next(p["containerPort"] for p in container["ports"] if p["name"] == "gateway")
        self.mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        self.processes = {}
        shutil.copy(ENVOY, folder / "envoy")
        shutil.copy(WASM, folder / "filter.wasm")
        for name in ["config", "tokens", "logs"]:
            (folder / name).mkdir()
        for key, text in config_map["data"].items():
            (folder / "config" / key).write_text(text)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{HOST} {' '.join(hosts)}\n")
        self.remove()
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{HOST}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")

    def start(self, number, pod, token):
        """Starts one, and gives its address."""
        space, address = f"{BRIDGE}-{number}", f"{NETWORK}.{number + 10}"
        outside, inside = f"spb{number}", f"spb{number}i"
        run("ip", "netns", "add", space)
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
        run("ip", "link", "set", outside, "master", BRIDGE, "up")
        run("ip", "link", "set", inside, "netns", space)
        run("ip", "-n", space, "address", "add", f"{address}/24", "dev", inside)
        run("ip", "-n", space, "link", "set", inside, "up")
        run("ip", "-n", space, "link", "set", "lo", "up")
        (self.folder / "tokens" / pod).write_text(token)
        script = START.format(
            folder=self.folder, name=pod, config=self.mounts["gateway-config"], token=self.mounts["gateway-token"]
        )
        values = {"POD_NAMESPACE": self.namespace, "POD_NAME": pod, "ROLLOUT_TRACK": "stable"}
        arguments = self.container["args"]
        for name, value in values.items():
            arguments = [argument.replace(f"$({name})", value) for argument in arguments]
        command = ["ip", "netns", "exec", space, "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
        # One machine has room for one Envoy of each id.
        command += [*arguments, "--base-id", str(number), "--log-level", "warning"]
        log = open(self.folder / "logs" / pod, "w")
        self.processes[pod] = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        return f"{address}:{self.port}"

    def log_tail(self):
        logs = sorted((self.folder / "logs").iterdir())
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in logs[:2])

    def stop(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.remove()

    def remove(self):
        """Also what an earlier run left."""
        for path in pathlib.Path("/run/netns").glob(f"{BRIDGE}-*"):
            run("ip", "netns", "del", path.name)
        with contextlib.suppress(subprocess.CalledProcessError):
            run("ip", "link", "del", BRIDGE)

"""A one-node Kubernetes in namespaces of its own on this machine. Needs root.

Several may run beside each other, each with a number. Of a node's network the machine sees one link and two routes; there is
no translation of addresses, no way out of the machine, and no firewall rule of the machine's is touched.
"""

import contextlib
import fcntl
import ipaddress
import os
import pathlib
import shlex
import shutil
import signal
import string
import subprocess
import sys
import time

from cluster import build, cgroups, components, images
from cluster.certificates import Authority, signing_key

HERE = pathlib.Path(__file__).resolve().parent
NODES = 32
# Set aside for tests of networks (RFC 2544): no real network has them. Each node gets a 32nd.
RANGE = ipaddress.ip_network("198.18.0.0/15")
# For `make cluster`; tests take another.
USERS = 0


class Node:
    """The node of this number, running or not."""

    def __init__(self, number=USERS):
        self.number = number
        # Its host name, its link and its control groups bear it.
        self.name = f"sallyport{number}"
        self.state = build.cache() / f"node-{number}"
        self.kubeconfig = self.state / "kubeconfig"
        blocks = list(list(RANGE.subnets(new_prefix=20))[number].subnets(new_prefix=21))
        self.services = blocks[0]
        self.pods, link = list(blocks[1].subnets(new_prefix=22))
        self.gateway, self.address = (str(address) for address in list(link.hosts())[:2])
        self.dns = str(self.services[10])

    @classmethod
    def of(cls, kubeconfig):
        """The running node of this kubeconfig, or None: it is another cluster's."""
        folder = pathlib.Path(kubeconfig).resolve().parent
        if folder.parent != build.cache().resolve() or not folder.name.startswith("node-"):
            return None
        node = cls(int(folder.name.removeprefix("node-")))
        return node if node.is_running() else None

    def is_running(self):
        return self.launcher() is not None

    def start(self, dies_with_parent=False):
        """Starts it and waits until pods can run and find each other. With `dies_with_parent` it ends when this process
        does, however that comes."""
        self.programs = build.build(build.control_plane() + build.node())
        pictures = images.make()
        self.stop()
        self.configure()
        process = self.launch(dies_with_parent)
        try:
            self.connect(process)
            self.await_ready(process)
            for tar in pictures:
                self.load(tar)
            self.furnish()
        except BaseException:
            print(self.log_tail(), file=sys.stderr)
            self.stop()
            raise

    def configure(self):
        """Writes everything that the node reads."""
        for folder in ["components", "containers", "disks", "held", "log", "network", "volume-plugins"]:
            (self.state / folder).mkdir(parents=True)
        (self.state / "resolv.conf").touch()
        certificates = self.state / "certificates"
        self.certify(certificates)
        self.values = {
            "certificates": certificates,
            "containers": self.state / "containers",
            "dns": self.dns,
            "domain": components.DOMAIN,
            "name": self.name,
            "pause": images.PAUSE,
            "coredns": images.COREDNS,
            "pods": self.pods,
            "programs": self.programs,
            "state": self.state,
        }
        for template, file in [
            ("containerd.toml", "containerd.toml"),
            ("kubelet.yaml", "kubelet.yaml"),
            ("kube-proxy.yaml", "kube-proxy.yaml"),
            ("network.conflist", "network/node.conflist"),
        ]:
            (self.state / file).write_text(self.fill(template))
        for command in self.commands(certificates):
            script = self.state / "components" / pathlib.Path(command[0]).name
            script.write_text(f"#!/bin/sh\nexec {shlex.join(map(str, command))}\n")
            script.chmod(0o755)

    def certify(self, folder):
        authority = Authority(folder)
        kubernetes = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        addresses = [self.address, str(self.services[1]), "127.0.0.1"]
        names = [*(f"DNS:{name}" for name in kubernetes), *(f"IP:{address}" for address in addresses)]
        authority.issue("apiserver", "/CN=kube-apiserver", "serverAuth", names)
        # The kubelet is bound by the rights of a node; the other programs act as an administrator.
        node = [f"DNS:{self.name}", f"IP:{self.address}"]
        authority.issue("kubelet", f"/O=system:nodes/CN=system:node:{self.name}", "serverAuth,clientAuth", node)
        authority.issue("admin", "/O=system:masters/CN=admin", "clientAuth")
        signing_key(folder)
        server = f"https://{self.address}:6443"
        authority.kubeconfig(self.kubeconfig, server, "admin")
        authority.kubeconfig(self.state / "kubelet.kubeconfig", server, "kubelet")

    def commands(self, certificates):
        etcd = "http://127.0.0.1:2379"
        yield components.etcd("/run/etcd", etcd, "http://127.0.0.1:2380")
        yield (
            components.apiserver(certificates, etcd, 6443, self.services)
            + components.apiserver_of_node(certificates, self.address)
        )
        yield components.controller_manager(certificates, self.kubeconfig)
        yield components.scheduler(self.kubeconfig)
        root = self.state / "kubelet"
        kubelet = self.state / "kubelet.kubeconfig"
        yield components.kubelet(self.state / "kubelet.yaml", kubelet, root, self.name, self.address)
        yield ["containerd", "--config", self.state / "containerd.toml"]
        yield ["kube-proxy", "--config", self.state / "kube-proxy.yaml"]
        yield ["kube-netpol", "--kubeconfig", self.kubeconfig]

    def fill(self, template, **more):
        return string.Template((HERE / "node" / template).read_text()).substitute(self.values, **more)

    def launch(self, dies_with_parent):
        """Starts the first process in new namespaces, and gives its parent, whose end is the end of all."""
        if not pathlib.Path("/proc/sys/net/bridge").exists():
            subprocess.run(["modprobe", "br_netfilter"], check=True)
        folders, mounts = cgroups.create(self.name)
        (self.state / "cgroups").write_text("\n".join(map(str, folders)))
        # One overlay cannot lie on another: in a container without a disk of its own, containers live in memory.
        kind = subprocess.run(["stat", "-f", "-c", "%T", self.state], capture_output=True, text=True, check=True).stdout.strip()
        environment = {
            **os.environ,
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "NAME": self.name,
            "STATE": str(self.state),
            "ADDRESS": self.address,
            "GATEWAY": self.gateway,
            "CGROUPS": mounts,
            "SCRATCH": str(self.state / "containers") if kind == "overlayfs" else "",
        }
        namespaces = ["--cgroup", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        bound = ["setpriv", "--pdeathsig", "KILL"] if dies_with_parent else []
        with open(self.state / "log/node.log", "w") as log:
            process = subprocess.Popen(
                [*bound, "unshare", *namespaces, HERE / "node/node.sh"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: cgroups.join(folders),
            )
        (self.state / "pid").write_text(str(process.pid))
        wait(lambda: self.first_process() is not None, 10, "the node's namespaces", process)
        cgroups.make_room(folders, process.pid)
        return process

    def connect(self, process):
        """Lays the link between machine and node."""
        ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", str(self.first_process()))
        ip("address", "add", f"{self.gateway}/30", "dev", self.name)
        ip("link", "set", self.name, "up")
        for network in [self.pods, self.services]:
            ip("route", "add", str(network), "via", self.address, "dev", self.name)
        for number in range(16):
            disk = self.state / f"disks/{number}"
            disk.mkdir()
            disk.chmod(0o777)

    def await_ready(self, process):
        condition = '{.status.conditions[?(@.type=="Ready")].status}'
        query = ["get", "node", self.name, "-o", f"jsonpath={condition}"]
        wait(lambda: self.kubectl(*query, check=False).stdout == "True", 120, "the node to be Ready", process)

    def furnish(self):
        disks = "".join(self.fill("disk.yaml", number=number) for number in range(16))
        self.kubectl("apply", "-f", "-", input=self.fill("system.yaml") + disks)
        self.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s")

    def stop(self):
        """Ends the node and removes every trace of it but the programs."""
        launcher = self.launcher()
        if launcher is not None:
            os.kill(launcher, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(launcher, 0)
        subprocess.run(["ip", "link", "delete", self.name], capture_output=True)
        groups = self.state / "cgroups"
        if groups.exists():
            cgroups.remove([pathlib.Path(line) for line in groups.read_text().splitlines()])
        if self.state.exists():
            shutil.rmtree(self.state)

    def load(self, tar):
        """Imports an image."""
        containerd = ["ctr", "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io"]
        self.run(*containerd, "images", "import", str(tar))

    def kubectl(self, *arguments, input=None, check=True):
        command = [build.home() / "kubectl", "--kubeconfig", self.kubeconfig, *arguments]
        return subprocess.run(command, input=input, check=check, text=True, capture_output=True)

    def run(self, *command):
        """Runs a command inside of the node."""
        inside = ["nsenter", "--target", str(self.first_process()), "--mount", "--net", "--pid"]
        path = f"{build.home()}:{os.environ['PATH']}"
        ended = subprocess.run([*inside, *command], capture_output=True, text=True, env={**os.environ, "PATH": path})
        if ended.returncode:
            raise RuntimeError(f"{shlex.join(command)} failed: {ended.stderr}")
        return ended.stdout

    @contextlib.contextmanager
    def without(self, component):
        """Keeps one of the programs, such as `kube-apiserver`, from running. Pods go on."""
        held = self.state / "held" / component
        held.touch()
        try:
            self.run("pkill", "--signal", "KILL", "--exact", component[:15])
            yield
        finally:
            held.unlink()

    def refresh(self):
        """Starts the components anew that watch the API server. After it was away for long they try again after up to a minute only,
        and act on what was there before; where leaders are elected they end by themselves."""
        for component in ["kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kube-netpol"]:
            self.run("pkill", "--signal", "KILL", "--exact", component[:15])

    def launcher(self):
        """The process whose end ends the node. A number alone may be another's by now."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            number = int((self.state / "pid").read_text())
            environment = pathlib.Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
            return number if f"STATE={self.state}".encode() in environment else None

    def first_process(self):
        with contextlib.suppress(FileNotFoundError):
            launcher = self.launcher()
            children = pathlib.Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
            return int(children[0]) if children else None

    def log_tail(self):
        logs = sorted((self.state / "log").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)


def any_free():
    """A node that no other process uses, and what to keep open while using it."""
    build.cache().mkdir(parents=True, exist_ok=True)
    for number in range(USERS + 1, NODES):
        lock = open(build.cache() / f"node-{number}.lock", "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return Node(number), lock
    raise RuntimeError(f"{NODES - 1} nodes are running already")


def wait(condition, seconds, what, process):
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise RuntimeError(f"the node ended while it waited for {what}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.05)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)

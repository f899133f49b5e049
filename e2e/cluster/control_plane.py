"""The API alone: etcd and API server on free ports of the loopback interface. Needs no root, starts in a second or two, and
runs no pods and no controllers: a namespace that is deleted stays `Terminating`."""

import contextlib
import pathlib
import shutil
import subprocess
import tempfile
import time

from cluster import build, components
from cluster.certificates import Authority, signing_key
from ports import free_port

# Services of the API alone lead nowhere; there may be any number of them.
SERVICES = "10.0.0.0/16"


class ControlPlane:
    """`saved` is a folder that `save` filled: its objects are there again, and service-account tokens of then still count."""

    def __init__(self, saved=None):
        self.programs = build.build(build.control_plane())
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sallyport-control-plane-"))
        self.kubeconfig = self.folder / "kubeconfig"
        self.running = {}
        client, peer, port = (free_port() for _ in range(3))
        self.url = f"https://127.0.0.1:{port}"
        certificates = self.folder / "certificates"
        authority = Authority(certificates)
        authority.issue("apiserver", "/CN=kube-apiserver", "serverAuth", ["DNS:localhost", "IP:127.0.0.1"])
        authority.issue("admin", "/O=system:masters/CN=admin", "clientAuth")
        authority.kubeconfig(self.kubeconfig, self.url, "admin")
        if saved is None:
            signing_key(certificates)
        else:
            self.copy(saved, self.folder)
        self.etcd, beside = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
        self.commands = {
            "etcd": components.etcd(self.folder / "etcd", self.etcd, beside),
            "kube-apiserver": components.apiserver(certificates, self.etcd, port, SERVICES)
            + components.apiserver_alone("127.0.0.1"),
        }
        try:
            self.start("etcd")
            self.start("kube-apiserver")
            self.await_ready()
        except BaseException:
            print(self.log_tail())
            self.stop()
            raise

    def start(self, component):
        command = self.commands[component]
        with open(self.folder / f"{component}.log", "a") as log:
            # Ends when this process does, however that comes.
            self.running[component] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", self.programs / command[0], *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def await_ready(self):
        deadline = time.monotonic() + 60
        query = [self.programs / "kubectl", "--kubeconfig", self.kubeconfig, "get", "--raw", "/readyz"]
        while subprocess.run(query, capture_output=True).returncode:
            if any(process.poll() is not None for process in self.running.values()) or time.monotonic() > deadline:
                raise RuntimeError("the API server does not get ready")
            time.sleep(0.05)

    @contextlib.contextmanager
    def without(self, component):
        """Keeps `kube-apiserver` or `etcd` from running: connections are refused. What etcd has, it has on disk."""
        self.end(component)
        try:
            yield
        finally:
            self.start(component)
            self.await_ready()

    def end(self, component):
        process = self.running.pop(component, None)
        if process is not None:
            process.kill()
            process.wait()

    def save(self, folder):
        """Ends, and leaves what there is in `folder`."""
        for component in list(self.running):
            self.end(component)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "certificates").mkdir(parents=True)
        self.copy(self.folder, partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)

    def copy(self, source, target):
        shutil.copytree(source / "etcd", target / "etcd")
        for key in ["sa.key", "sa.pub"]:
            shutil.copy(source / "certificates" / key, target / "certificates")

    def stop(self):
        for component in list(self.running):
            self.end(component)
        shutil.rmtree(self.folder)

    def log_tail(self):
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)

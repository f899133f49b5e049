"""Builds what a cluster runs, once: from Go modules, whose versions stand in the `go.mod` files below `modules/`, into a
folder outside the project that is named after all of that. What is there is not built again; what is half built is not
there."""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
MODULES = HERE / "modules"
# The names by which the one program `kube` is called.
KUBE = ["kube-apiserver", "kube-controller-manager", "kube-netpol", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"]


@dataclasses.dataclass
class Program:
    module: str
    package: str
    output: str
    # Where the program keeps the version that it tells: variable -> value.
    variables: dict = dataclasses.field(default_factory=dict)
    tags: str = ""
    # Linked with C, statically: it runs inside of containers' file systems.
    c: bool = False


def version(module, dependency):
    """The version of `dependency` in the module's go.mod, with its leading `v`."""
    return re.search(rf"{re.escape(dependency)} (v\S+)", (MODULES / module / "go.mod").read_text())[1]


def control_plane():
    """Enough for the API alone. Needs Go and nothing else."""
    kubernetes = version("kubernetes", "k8s.io/kubernetes")
    major, minor, _ = kubernetes.removeprefix("v").split(".")
    told = "k8s.io/component-base/version.git"
    variables = {f"{told}Version": kubernetes, f"{told}Major": major, f"{told}Minor": minor}
    return [
        Program("etcd", "go.etcd.io/etcd/server/v3", "etcd"),
        Program("kubernetes", ".", "kube", variables),
    ]


def node():
    """What a node runs beside the control plane."""
    containerd = "github.com/containerd/containerd/v2"
    told = {f"{containerd}/version.Version": version("containerd", containerd)}
    runc = version("runc", "github.com/opencontainers/runc").removeprefix("v")
    plugins = ["main/bridge", "main/loopback", "ipam/host-local", "meta/portmap"]
    return [
        # File systems that no node of ours uses would need C libraries.
        *(
            Program("containerd", f"{containerd}/cmd/{name}", name, told, "no_btrfs no_devmapper no_zfs")
            for name in ["containerd", "containerd-shim-runc-v2", "ctr"]
        ),
        Program("runc", "github.com/opencontainers/runc", "runc", {"main.version": runc}, "seccomp netgo osusergo", c=True),
        *(
            Program("cni", f"github.com/containernetworking/plugins/plugins/{name}", f"cni/{name.split('/')[1]}")
            for name in plugins
        ),
        Program("coredns", ".", "coredns"),
    ]


def home():
    """The folder of these very versions."""
    return cache() / digest(*sorted(p for p in MODULES.rglob("*") if p.is_file()), more=repr(control_plane() + node()))


def digest(*files, more=""):
    found = hashlib.sha256(more.encode())
    for path in files:
        found.update(f"{path.name}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "sallyport/cluster"


def build(programs):
    """Builds those that are missing, and gives the folder where all of them are."""
    folder = home()
    if all((folder / program.output).exists() for program in programs):
        return folder
    with alone(folder):
        for program in programs:
            make(folder / program.output, lambda partial, program=program: compile_program(program, partial))
        for name in KUBE:
            link = folder / name
            if (folder / "kube").exists() and not link.is_symlink():
                link.symlink_to("kube")
    return folder


def make(output, action):
    """Has `action` write a file of another name, and renames it: what has the right name is whole."""
    if output.exists():
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    say(f"building {output.name}")
    began = time.monotonic()
    action(partial)
    partial.rename(output)
    say(f"built {output.name} in {time.monotonic() - began:.0f} s")


def compile_program(program, output):
    flags = ["-s", "-w", *(f"-X {name}={value}" for name, value in program.variables.items())]
    if program.c:
        flags += ["-linkmode external", "-extldflags -static"]
    # The paths stay out of the binaries, so that Go's own cache serves every clone of this project.
    command = [go(), "build", "-trimpath", "-buildvcs=false", "-tags", program.tags, "-ldflags", " ".join(flags)]
    environment = {**os.environ, "CGO_ENABLED": "1" if program.c or program.module == "kubernetes" else "0"}
    subprocess.run(
        [*command, "-o", output, program.package], cwd=MODULES / program.module, env=environment, check=True, stdout=sys.stderr
    )


def traefik():
    """A real ingress controller. Apart from the others, since few tests need it and it takes five minutes."""
    folder = home()
    with alone(folder):
        make(folder / "traefik", compile_traefik)
    return folder / "traefik"


def compile_traefik(output):
    # The console, which it embeds, is not part of the module: a copy gets an empty one.
    name = "github.com/traefik/traefik/v3"
    told = version("traefik", name)
    query = [go(), "list", "-m", "-f", "{{.Dir}}", name]
    subprocess.run([go(), "mod", "download"], cwd=MODULES / "traefik", check=True, stdout=sys.stderr)
    source = subprocess.run(query, cwd=MODULES / "traefik", check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as temporary:
        copy = pathlib.Path(temporary) / "traefik"
        shutil.copytree(source, copy, copy_function=shutil.copyfile)
        for directory, _, _ in os.walk(copy):
            os.chmod(directory, 0o755)
        (copy / "webui/static").mkdir(exist_ok=True)
        (copy / "webui/static/index.html").touch()
        flags = f"-s -w -X {name}/pkg/version.Version={told.removeprefix('v')}"
        command = [go(), "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", output, "./cmd/traefik"]
        subprocess.run(command, cwd=copy, env={**os.environ, "CGO_ENABLED": "0"}, check=True, stdout=sys.stderr)


def go():
    """The machine's Go, which fetches the version that a go.mod asks for, or the one of scripts/setup.sh."""
    ours = HERE.parents[1] / ".cache/tools/go/bin/go"
    found = shutil.which("go") or (ours if ours.exists() else None)
    if not found:
        sys.exit("cluster: Kubernetes is built with Go, which is not there: run scripts/setup.sh")
    return found


@contextlib.contextmanager
def alone(folder):
    """One builder at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(text):
    print(f"cluster: {text}", file=sys.stderr, flush=True)

"""The images that every node has: what holds pods, what resolves names, and tools to look at all from the inside."""

import pathlib
import shutil
import subprocess
import sys
import tempfile

from cluster import build

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from images import oci  # noqa: E402

PAUSE_SOURCE = pathlib.Path(__file__).resolve().parent / "node/pause.c"
# All that the archives follow from, beside the programs.
MADE_BY = [pathlib.Path(__file__), PAUSE_SOURCE, ROOT / "images/oci.py", ROOT / "images/root.sh"]
PAUSE, COREDNS, TOOLS, TRAEFIK = (f"localhost/{name}:1" for name in ["pause", "coredns", "tools", "traefik"])


def make():
    """Gives the archives, the one that holds pods first."""
    return [pack("pause", PAUSE, pause), pack("coredns", COREDNS, coredns), tools()]


def tools():
    return pack("tools", TOOLS, lay_out_tools)


def traefik():
    """A real ingress controller; the first call takes five minutes."""
    program = build.traefik()

    def fill(root):
        certificates = "/etc/ssl/certs/ca-certificates.crt"
        lay_out(root, f"{program}:/traefik", f"{certificates}:{certificates}")
        return oci.Config(["/traefik"], user="65532:65532")

    return pack("traefik", TRAEFIK, fill)


def pack(file, name, fill):
    archive = build.home() / f"images-{build.digest(*MADE_BY)}/{file}.tar"
    with build.alone(build.home()):
        if not archive.exists():
            archive.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory() as temporary:
                root = pathlib.Path(temporary)
                root.chmod(0o755)
                oci.write(archive, name, root, fill(root))
    return archive


def pause(root):
    subprocess.run(["cc", "-Os", "-static", "-s", "-o", root / "pause", PAUSE_SOURCE], check=True)
    return oci.Config(["/pause"])


def coredns(root):
    lay_out(root, f"{build.home() / 'coredns'}:/coredns")
    return oci.Config(["/coredns"])


def lay_out_tools(root):
    """Busybox and curl: Debian's static busybox has a shell, but its wget speaks no TLS worth the name."""
    busybox, curl = shutil.which("busybox"), shutil.which("curl")
    lay_out(root, f"{busybox}:/bin/busybox", f"{curl}:/usr/bin/curl")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    return oci.Config(["/bin/sh"], environment=["PATH=/usr/bin:/bin"])


def lay_out(root, *items):
    subprocess.run([ROOT / "images/root.sh", root, *items], check=True)

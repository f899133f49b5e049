"""Makes the images without Docker, as files in `target/images`, from what is built already and by the lines of the
Dockerfiles beside this script: what is laid out, and how it starts. The same input gives the same digest."""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from images import oci  # noqa: E402

NAMES = sorted(path.name.removesuffix(".Dockerfile") for path in (ROOT / "images").glob("*.Dockerfile"))
# Where that lies on this machine which Docker takes from another image.
ELSEWHERE = {"/usr/local/bin/envoy": ".cache/tools/envoy/envoy"}


def version():
    """That of the workspace, which is every image's tag."""
    return re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def reference(name):
    """The full name by which a node knows an image that manifests call `NAME:VERSION`."""
    return f"docker.io/library/{name}:{version()}"


def archive(name):
    return ROOT / f"target/images/{name}.tar"


def make(name, built="target/debug"):
    """Writes the image, and gives its digest. `built` is where cargo put the programs."""
    dockerfile = (ROOT / f"images/{name}.Dockerfile").read_text()
    archive(name).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary) / "root"
        items = [local(item, built, pathlib.Path(temporary)) for item in contents(dockerfile)]
        subprocess.run([ROOT / "images/root.sh", root, *items], cwd=ROOT, check=True)
        return oci.write(archive(name), reference(name), root, start(dockerfile))


def contents(dockerfile):
    """What `root.sh` lays out: `SOURCE:PATH` of each."""
    return re.search(r"^RUN images/root\.sh /image (.+)$", dockerfile, re.MULTILINE)[1].split()


def start(dockerfile):
    user = re.search(r"^USER (.+)$", dockerfile, re.MULTILINE)[1]
    return oci.Config(json.loads(re.search(r"^ENTRYPOINT (.+)$", dockerfile, re.MULTILINE)[1]), user)


def local(item, built, temporary):
    """The same item with its source on this machine; of our own programs a copy without symbols."""
    source, path = item.split(":")
    if not source.startswith("target/release/"):
        return f"{ELSEWHERE.get(source, source)}:{path}"
    program = source.replace("target/release", built)
    stripped = temporary / pathlib.Path(source).name
    subprocess.run(["strip", "-o", stripped, program], cwd=ROOT, check=True)
    return f"{stripped}:{path}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="dev", help="which of cargo's profiles the programs are of (%(default)s)")
    profile = parser.parse_args().profile
    for name in NAMES:
        digest = make(name, f"target/{'debug' if profile == 'dev' else profile}")
        print(f"{archive(name).relative_to(ROOT)}  {reference(name)}  {digest}")


if __name__ == "__main__":
    main()

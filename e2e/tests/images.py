"""What is in the images, and how they are written."""

import json
import subprocess
import sys
import tarfile

from harness import ROOT, test

sys.path.insert(0, str(ROOT))
from images import build  # noqa: E402

EVERY = {"etc/passwd", "etc/group", "etc/nsswitch.conf"}
# Beside the libraries. A program or a file that comes along is to be wanted by somebody.
OWN = {
    "sallyport": {"usr/local/bin/sallyport", "etc/ssl/certs/ca-certificates.crt"},
    "sallyport-envoy": {"usr/local/bin/envoy", "opt/sallyport/filter.wasm", "etc/ssl/certs/ca-certificates.crt"},
    "sallyport-sample-payments": {"usr/local/bin/payments-mcp"},
}


def start():
    for name in build.NAMES:
        build.make(name)


def read(name, inner):
    with tarfile.open(build.archive(name)) as tar:
        return tar.extractfile(inner).read()


def layer(name):
    """The entries of an image's only layer, and its configuration."""
    [manifest] = json.loads(read(name, "manifest.json"))
    with tarfile.open(build.archive(name)) as tar, tarfile.open(fileobj=tar.extractfile(manifest["Layers"][0])) as inner:
        return inner.getmembers(), json.loads(read(name, manifest["Config"]))


def libraries(name):
    """What the dynamic linker loads for the image's programs."""
    wanted = set()
    for item in build.contents((ROOT / f"images/{name}.Dockerfile").read_text()):
        source = item.split(":")[0].replace("target/release", "target/debug")
        told = subprocess.run(["ldd", ROOT / build.ELSEWHERE.get(source, source)], capture_output=True, text=True).stdout
        wanted |= {word.lstrip("/") for word in told.split() if word.startswith("/")}
    return wanted


@test
def an_image_has_its_programs_with_their_libraries_and_nothing_else(_):
    assert set(build.NAMES) == set(OWN)
    for name, own in OWN.items():
        entries, _config = layer(name)
        files = {entry.name for entry in entries if not entry.isdir()}
        assert files == EVERY | own | libraries(name), (name, files ^ (EVERY | own | libraries(name)))


@test
def nobody_is_root_and_nothing_is_writable_but_temporary_files(_):
    for name in OWN:
        entries, config = layer(name)
        assert config["config"]["User"] == "65532:65532", config
        assert {entry.uid for entry in entries} == {0}
        assert [entry.name for entry in entries if entry.mode & 0o022] == ["tmp"], name
        assert not [entry.name for entry in entries if entry.mode & 0o6000], name


@test
def the_same_input_gives_the_same_bytes(_):
    for name in OWN:
        before = build.archive(name).read_bytes()
        digest = build.make(name)
        assert build.archive(name).read_bytes() == before, name
        index = json.loads(read(name, "index.json"))
        assert index["manifests"][0]["digest"] == digest

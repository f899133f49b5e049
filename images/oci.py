"""Writes an image as one file, without Docker: an OCI layout, which `ctr`, `kind load image-archive` and others read, with
the index that `docker load` wants. The same input gives the same bytes."""

import dataclasses
import hashlib
import io
import json
import platform
import tarfile


@dataclasses.dataclass
class Config:
    """How a container of the image starts."""

    entrypoint: list
    user: str = ""
    environment: list = dataclasses.field(default_factory=list)


def write(output, name, root, config):
    """Writes the files below `root` as the image `name`, with its registry and its tag. Gives the digest of its manifest."""
    blobs = {}

    def blob(kind, data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    layer = blob("layer.v1.tar", pack(root))
    described = blob("config.v1+json", encode(describe(config, layer["digest"])))
    content = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"}
    manifest = blob("manifest.v1+json", encode({**content, "config": described, "layers": [layer]}))
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = {"schemaVersion": 2, "manifests": [{**manifest, "annotations": names}]}
    docker = [{"Config": path(described), "RepoTags": [name], "Layers": [path(layer)]}]
    partial = output.with_name(output.name + ".partial")
    with tarfile.open(partial, "w") as tar:
        add(tar, "oci-layout", encode({"imageLayoutVersion": "1.0.0"}))
        add(tar, "index.json", encode(index))
        add(tar, "manifest.json", encode(docker))
        for blob_path, data in blobs.items():
            add(tar, blob_path, data)
    partial.rename(output)
    return manifest["digest"]


def describe(config, layer):
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    start = {"Entrypoint": config.entrypoint, "User": config.user, "Env": config.environment}
    return {
        "architecture": architecture,
        "os": "linux",
        "config": start,
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    }


def pack(root):
    """The layer: everything below `root` in order of names, without times and owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in sorted(root.rglob("*")):
            entry = tar.gettarinfo(file, str(file.relative_to(root)))
            # Two names of one file would become a link to whichever came first.
            entry.type, entry.size = (tarfile.REGTYPE, file.stat().st_size) if entry.islnk() else (entry.type, entry.size)
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            # Of the rights, only those that mean something: a program, or a folder for everyone's files.
            entry.mode = 0o1777 if entry.mode & 0o1000 else 0o755 if entry.mode & 0o111 else 0o644
            if entry.isreg():
                with open(file, "rb") as source:
                    tar.addfile(entry, source)
            else:
                tar.addfile(entry)
    return buffer.getvalue()


def add(tar, name, data):
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def encode(value):
    return json.dumps(value, sort_keys=True).encode()


def path(described):
    return "blobs/sha256/" + described["digest"].removeprefix("sha256:")

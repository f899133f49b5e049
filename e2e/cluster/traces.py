"""What there is of a node on this machine."""

import pathlib
import subprocess

from cluster import cgroups


KINDS = {"links", "routes", "control groups", "processes", "mounts", "files"}


def of(node):
    """What is found, by kind; empty after `Node.stop`."""
    networks = {str(network) for network in [node.pods, node.services]}
    found = {
        "links": [line for line in told("ip", "-oneline", "link") if f": {node.name}@" in line],
        "routes": [line for line in told("ip", "route") if networks & set(line.split())],
        "control groups": [str(path) for path in cgroups.ROOT.rglob(node.name)],
        "processes": list(processes(node)),
        "mounts": list(mounts(node)),
        "files": [str(node.state)] if node.state.exists() else [],
    }
    return {kind: things for kind, things in found.items() if things}


def told(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def read(path):
    """Of a process that may have ended: nothing, then."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def processes(node):
    """Those in the node's control groups, or started for it."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        groups = {part for line in read(process / "cgroup").splitlines() for part in line.split("/")}
        if node.name in groups or f"STATE={node.state}" in read(process / "environ").split("\0"):
            yield f"{process.name} {read(process / 'comm').strip()}"


def mounts(node):
    """Of the node's files, as any process on this machine sees them."""
    seen = {line.split()[4] for path in pathlib.Path("/proc").glob("[0-9]*/mountinfo") for line in read(path).splitlines()}
    return sorted(point for point in seen if point == str(node.state) or point.startswith(f"{node.state}/"))

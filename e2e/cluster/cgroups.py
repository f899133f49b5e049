"""Control groups of a node: a group of its own below the one that this process is in, in each hierarchy of the machine. It
becomes the root of what the node sees, and is removed with the node."""

import contextlib
import pathlib
import time

ROOT = pathlib.Path("/sys/fs/cgroup")


def create(name):
    """Groups called `name`. Gives their folders, and what the node shall mount where (see node.sh)."""
    if (ROOT / "cgroup.controllers").exists():
        return [second_generation(name)], f":{ROOT}"
    folders, mounts = [], []
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        hierarchy = ROOT / (controllers.removeprefix("name=") or "unified")
        if not hierarchy.is_dir():
            continue
        parent = hierarchy / own.lstrip("/")
        folder = parent / name
        folder.mkdir(exist_ok=True)
        if "cpuset" in controllers.split(","):
            # A new group has neither processors nor memory, and takes no process before it has.
            for file in ["cpuset.cpus", "cpuset.mems"]:
                (folder / file).write_text((parent / file).read_text())
        folders.append(folder)
        mounts.append(f"{controllers}:{hierarchy}")
    return folders, " ".join(mounts)


def second_generation(name):
    """There, a group with processes cannot hand controllers down, except for the machine's root. In a container the root that
    is seen is an ordinary group: its processes move to a group beside ours."""
    delegate = [f"+{controller}" for controller in (ROOT / "cgroup.controllers").read_text().split()]
    try:
        (ROOT / "cgroup.subtree_control").write_text(" ".join(delegate))
    except OSError:
        aside = ROOT / "sallyport-host"
        aside.mkdir(exist_ok=True)
        for process in (ROOT / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):  # it has ended, or is the kernel's
                (aside / "cgroup.procs").write_text(process)
        (ROOT / "cgroup.subtree_control").write_text(" ".join(delegate))
    folder = ROOT / name
    folder.mkdir(exist_ok=True)
    return folder


def join(folders):
    """Moves the calling process."""
    for folder in folders:
        (folder / "cgroup.procs").write_text("0")


def make_room(folders, process):
    """Moves the node's parent out of the way of its child: see `second_generation`."""
    for folder in folders:
        if (folder / "cgroup.controllers").exists() and folder.parent == ROOT:
            (folder / "parent").mkdir(exist_ok=True)
            (folder / "parent/cgroup.procs").write_text(str(process))


def remove(folders):
    """Removes the groups, whose processes are being killed, with all that is below."""
    deadline = time.monotonic() + 20
    for folder in folders:
        while folder.exists():
            below = sorted((p for p in folder.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts))
            for group in [*below, folder]:
                with contextlib.suppress(OSError):  # it still has a process
                    group.rmdir()
            if folder.exists() and time.monotonic() > deadline:
                raise TimeoutError(f"the control group {folder} still has processes after its node's end")
            time.sleep(0.02)

"""What Cargo knows of this workspace, by its lock file; without the network where what is needed is here."""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def cargo(*arguments):
    """Standard output of a cargo command; ends the script with cargo's own words where it fails."""
    for network in (["--offline"], []):
        command = ["cargo", *arguments, "--locked", *network]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if result.returncode == 0:
            return result.stdout
    raise SystemExit(result.stderr.strip())


def metadata(*arguments):
    """`cargo metadata` as the lock file has it."""
    return json.loads(cargo("metadata", "--format-version", "1", *arguments))


def tree(package):
    """Lists of names from `package` down to each crate that it is built from, with the features that it asks for itself."""
    text = cargo("tree", "--package", package, "--edges", "normal",
                 "--prefix", "depth", "--format", " {p}")
    path, paths = [], []
    for line in text.splitlines():
        depth, _, rest = line.partition(" ")
        path = path[:int(depth)] + [rest.split()[0]]
        paths.append(list(path))
    return paths

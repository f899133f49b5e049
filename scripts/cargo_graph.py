"""What Cargo knows of this workspace, without the network."""

import json
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def cargo(*arguments):
    """Standard output of a cargo command; ends the script with cargo's own words where it fails."""
    result = subprocess.run(["cargo", *arguments], cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(result.stderr.strip())
    return result.stdout


def metadata(*arguments):
    """`cargo metadata` as the lock file has it."""
    return json.loads(cargo("metadata", "--format-version", "1", "--locked", "--offline", *arguments))


def tree(package):
    """Lists of names from `package` down to each crate that it is built from, with the features that it asks for itself."""
    text = cargo("tree", "--locked", "--offline", "--package", package, "--edges", "normal", "--target", "all",
                 "--prefix", "depth", "--format", " {p}")
    path, paths = [], []
    for line in text.splitlines():
        depth, _, rest = line.partition(" ")
        path = path[:int(depth)] + [rest.split()[0]]
        paths.append(list(path))
    return paths

"""Holds the direction of dependencies that scripts/layers.toml demands: one line for each edge that breaks a rule."""

import fnmatch
import re
import sys
import tomllib

from cargo_graph import ROOT, metadata, tree

PREFIX = "sallyport-"


def short(name):
    return name.removeprefix(PREFIX)


def ours(packages):
    """Name, folder and own dependencies (name, kind) of each crate of the workspace, without the prefix."""
    names = {package["name"] for package in packages}
    for package in packages:
        edges = [(short(d["name"]), d["kind"] or "normal") for d in package["dependencies"] if d["name"] in names]
        yield short(package["name"]), edges


def check_edges(rules, crates):
    """Problems of the crates' own dependencies; `crates`: pairs of a name and its edges."""
    layers = {crate: (depth, layer["name"]) for depth, layer in enumerate(rules["layer"]) for crate in layer["crates"]}
    test_only = set(rules["test-only"]["crates"])
    allowed = {(e["from"], to, e.get("kind", "normal")) for e in rules.get("exception", []) for to in e["to"]}
    crates = list(crates)
    known = {name for name, _ in crates}
    for name in sorted((set(layers) | test_only) - known):
        yield f"{name} is in scripts/layers.toml and not in the workspace"
    for name, edges in crates:
        if name in test_only:
            continue
        if name not in layers:
            yield f"{name} has no layer; give it one in scripts/layers.toml"
            continue
        for to, kind in edges:
            if to in test_only:
                if kind != "dev":
                    yield f"{name} -> {to} ({kind}): {to} is for tests only"
            elif to in layers and layers[to][0] <= layers[name][0] and (name, to, kind) not in allowed:
                what = "crates of one layer do not use each other" if layers[to] == layers[name] else "that is upward"
                yield f"{name} ({layers[name][1]}) -> {to} ({layers[to][1]}): {what}"


def check_seen(rule, crate, paths):
    """Problems of what `crate` sees by way of others; `paths`: lists of names from it down to each crate."""
    told = set()
    for path in paths:
        name = path[-1]
        # What comes by way of a crate that was told already goes with it.
        if len(path) > 1 and told.isdisjoint(path) and any(fnmatch.fnmatchcase(name, p) for p in rule["see"]):
            told.add(name)
            yield f"{' -> '.join(map(short, path))}: {crate} must not see {name} ({rule['reason']})"


def check_no_std(crate, source):
    if not re.search(r"^#!\[(cfg_attr\([^\n]*, )?no_std\)?\]", source, re.MULTILINE):
        yield f"{crate} must be #![no_std]"


def main():
    rules = tomllib.loads((ROOT / "scripts/layers.toml").read_text())
    packages = metadata("--no-deps")["packages"]
    problems = list(check_edges(rules, ours(packages)))
    paths = {}
    for rule in rules["never"]:
        for crate in rule["crates"]:
            if crate not in paths:
                paths[crate] = tree(PREFIX + crate)
            problems += check_seen(rule, crate, paths[crate])
    for package in packages:
        if short(package["name"]) in rules["no-std"]["crates"]:
            source = next(t["src_path"] for t in package["targets"] if "lib" in t["kind"])
            with open(source, encoding="utf-8") as file:
                problems += check_no_std(short(package["name"]), file.read())
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

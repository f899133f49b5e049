"""Licences, sources and versions of everything in Cargo.lock, as deny.toml demands. Runs `cargo deny` where there is one, and
else checks those three itself, by the same file and without the network. Advisories need their database: `cargo deny check`.
"""

import re
import shutil
import subprocess
import sys
import tomllib

from cargo_graph import ROOT, metadata

TOKEN = re.compile(r"\(|\)|[^\s()/]+|/")


def is_allowed(expression, allowed):
    """Whether a licence expression (SPDX; `/` is the old way to write OR) can be met with `allowed` licences alone."""
    tokens = ["OR" if token == "/" else token for token in TOKEN.findall(expression)]

    def take(wanted):
        if tokens[:1] == [wanted]:
            del tokens[0]
            return True
        return False

    def one():
        if take("("):
            result = either()
            if not take(")"):
                raise ValueError("a parenthesis is not closed")
            return result
        if not tokens or tokens[0] in ("AND", "OR", "WITH", ")"):
            raise ValueError("a licence is missing")
        name = tokens.pop(0)
        if take("WITH"):
            if not tokens:
                raise ValueError("an exception is missing")
            name += f" WITH {tokens.pop(0)}"
        return name in allowed

    def both():
        result = one()
        while take("AND"):
            result = one() and result
        return result

    def either():
        result = both()
        while take("OR"):
            result = both() or result
        return result

    result = either()
    if tokens:
        raise ValueError(f"`{tokens[0]}` is out of place")
    return result


def check_licences(rules, packages):
    clarified = {c["crate"]: c["expression"] for c in rules.get("clarify", [])}
    excepted = {e["crate"]: e["allow"] for e in rules.get("exceptions", [])}
    for package in packages:
        name = package["name"]
        expression = clarified.get(name) or package["license"]
        if not expression:
            yield f"{name} {package['version']} names no licence"
            continue
        try:
            if not is_allowed(expression, {*rules["allow"], *excepted.get(name, [])}):
                yield f"{name} {package['version']} is under `{expression}`, which [licenses] does not allow"
        except ValueError as error:
            yield f"{name} {package['version']} has the licence `{expression}`, which cannot be read: {error}"


def check_sources(rules, packages):
    for package in packages:
        kind, _, url = (package["source"] or "").partition("+")
        allowed = rules.get("allow-registry" if kind in ("registry", "sparse") else "allow-git", [])
        if kind and url.split("?")[0].split("#")[0] not in allowed:
            yield f"{package['name']} {package['version']} comes from {package['source']}, which [sources] does not allow"


def named(entry):
    """Crate and version (or none) of an entry: a string or a table, with `@version` or `:version` behind the name."""
    text = entry if isinstance(entry, str) else entry["crate"]
    name, _, version = text.replace(":", "@").partition("@")
    return name, version.lstrip("=") or None


def matches(version, prefix):
    """Whether a version is the one that is named, wholly or by its first numbers; none: every one is."""
    return prefix is None or f"{version}.".startswith(f"{prefix}.")


def check_bans(rules, packages, users=()):
    """`users` are pairs of names: who uses whom. A ban's `wrappers` may use what it bans."""
    banned = {named(entry)[0]: entry for entry in rules.get("deny", [])}
    versions = {}
    for package in packages:
        versions.setdefault(package["name"], set()).add(package["version"])
        if package["name"] in banned:
            entry = banned[package["name"]]
            wrappers = entry.get("wrappers", []) if isinstance(entry, dict) else []
            if wrappers and {user for user, used in users if used == package["name"]} <= {*wrappers}:
                continue
            reason = entry.get("reason", "no reason given") if isinstance(entry, dict) else "no reason given"
            yield f"{package['name']} {package['version']} is banned: {reason}"
    skips = [named(entry) for entry in rules.get("skip", [])]
    for name, prefix in skips:
        if not any(matches(version, prefix) for version in versions.get(name, ())):
            yield f"[bans] skips {name} {prefix or ''}, which is not there any more"
    if rules.get("multiple-versions") == "deny":
        for name, found in sorted(versions.items()):
            left = [v for v in found if not any(n == name and matches(v, prefix) for n, prefix in skips)]
            if len(left) > 1:
                yield f"{name} is there in several versions ({', '.join(sorted(found))}); unify them, or skip one in [bans]"


def main():
    if shutil.which("cargo-deny"):
        return subprocess.run(["cargo", "deny", "--offline", "check", "licenses", "bans", "sources"], cwd=ROOT).returncode
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    packages, users = {}, set()
    for target in rules["graph"]["targets"]:
        found = metadata("--filter-platform", target)
        # `packages` knows all platforms, the resolved graph the one that is asked for.
        used = {node["id"] for node in found["resolve"]["nodes"]}
        packages |= {package["id"]: package for package in found["packages"] if package["id"] in used}
        names = {package["id"]: package["name"] for package in found["packages"]}
        users |= {(names[node["id"]], names[used]) for node in found["resolve"]["nodes"] for used in node["dependencies"]}
    packages = [packages[key] for key in sorted(packages)]
    problems = [
        *check_licences(rules["licenses"], packages),
        *check_sources(rules["sources"], packages),
        *check_bans(rules["bans"], packages, users),
    ]
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

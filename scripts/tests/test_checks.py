"""That the checks of dependencies fail where they should: `python3 -m unittest discover scripts/tests`."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import check_deny
import check_layers
import check_metrics


def package(name, version="1.0.0", license="MIT", source="registry+https://registry.example/index"):
    return {"name": name, "version": version, "license": license, "source": source}


class Licences(unittest.TestCase):
    def test_an_expression_is_met_as_its_operators_say(self):
        allowed = {"MIT", "ISC", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"}
        for expression, met in {
            "MIT": True, "GPL-3.0": False, "GPL-3.0 OR MIT": True, "MIT/Apache-2.0": True, "GPL-3.0 / LGPL-2.1": False,
            "MIT AND ISC": True, "MIT AND GPL-3.0": False, "(GPL-3.0 OR MIT) AND ISC": True,
            "GPL-3.0 OR MIT AND ISC": True, "MIT OR GPL-3.0 AND LGPL-2.1": True, "(MIT OR GPL-3.0) AND LGPL-2.1": False,
            "Apache-2.0 WITH LLVM-exception": True, "MIT WITH LLVM-exception": False,
        }.items():
            self.assertEqual(check_deny.is_allowed(expression, allowed), met, expression)
        for expression in ("", "MIT OR", "(MIT", "MIT ISC", "AND MIT", "MIT WITH"):
            with self.assertRaises(ValueError, msg=expression):
                check_deny.is_allowed(expression, allowed)

    def test_what_is_not_allowed_is_named(self):
        packages = [package("a"), package("b", license="GPL-3.0"), package("c", license=None), package("d", license="(")]
        found = list(check_deny.check_licences({"allow": ["MIT"]}, packages))
        self.assertEqual([line.split()[0] for line in found], ["b", "c", "d"])


class Origins(unittest.TestCase):
    def test_other_registries_and_repositories_are_named(self):
        rules = {"allow-registry": ["https://registry.example/index"]}
        packages = [package("a"), package("b", source="registry+https://other.example/index"), package("c", source=None),
                    package("d", source="git+https://git.example/d?rev=1#1")]
        self.assertEqual([line.split()[0] for line in check_deny.check_sources(rules, packages)], ["b", "d"])

    def test_banned_crates_doubled_ones_and_stale_skips_are_named(self):
        rules = {"multiple-versions": "deny", "deny": [{"crate": "x", "reason": "why"}], "skip": ["b@0.1", "gone@2"]}
        packages = [package("a", "0.1.1"), package("a", "0.10.1"), package("b", "0.1.1"), package("b", "0.10.1"), package("x")]
        found = list(check_deny.check_bans(rules, packages))
        self.assertEqual(found[0], "x 1.0.0 is banned: why")
        self.assertTrue(found[1].startswith("[bans] skips gone 2"), found)
        self.assertTrue(found[2].startswith("a is there in several versions (0.1.1, 0.10.1)"), found)
        self.assertEqual(len(found), 3)

    def test_what_is_banned_may_be_used_by_its_wrappers_only(self):
        rules = {"deny": [{"crate": "x", "wrappers": ["binding"], "reason": "why"}]}
        packages = [package("x"), package("binding"), package("other")]
        self.assertEqual(list(check_deny.check_bans(rules, packages, {("binding", "x")})), [])
        found = list(check_deny.check_bans(rules, packages, {("binding", "x"), ("other", "x")}))
        self.assertEqual(found, ["x 1.0.0 is banned: why"])


RULES = {
    "layer": [
        {"name": "top", "crates": ["cli", "process", "other"]},
        {"name": "bottom", "crates": ["core", "peer"]},
    ],
    "test-only": {"crates": ["support"]},
    "exception": [{"from": "cli", "to": ["process"], "reason": "one binary"}],
}
CRATES = {
    "cli": [("process", "normal"), ("support", "dev")], "process": [("core", "normal")], "other": [], "core": [], "peer": [],
    "support": [("core", "normal")],
}


class Layers(unittest.TestCase):
    def problems(self, **changed):
        return list(check_layers.check_edges(RULES, (CRATES | changed).items()))

    def test_what_the_rules_allow_passes(self):
        self.assertEqual(self.problems(), [])

    def test_each_forbidden_edge_is_named(self):
        for changed, words in [
            ({"core": [("process", "normal")]}, "core (bottom) -> process (top): that is upward"),
            ({"core": [("peer", "dev")]}, "core (bottom) -> peer (bottom): crates of one layer"),
            ({"cli": [("process", "dev")]}, "cli (top) -> process (top): crates of one layer"),
            ({"process": [("cli", "normal")]}, "process (top) -> cli (top): crates of one layer"),
            ({"core": [("support", "normal")]}, "core -> support (normal): support is for tests only"),
            ({"new": []}, "new has no layer"),
        ]:
            found = self.problems(**changed)
            self.assertEqual(len(found), 1, found)
            self.assertTrue(found[0].startswith(words), found)

    def test_a_crate_that_went_is_named(self):
        rest = {name: edges for name, edges in CRATES.items() if name != "peer"}
        found = list(check_layers.check_edges(RULES, rest.items()))
        self.assertEqual(found, ["peer is in scripts/layers.toml and not in the workspace"])

    def test_what_is_seen_by_way_of_others_is_told_with_the_way(self):
        rule = {"see": ["kube*"], "reason": "why"}
        paths = [["sallyport-core"], ["sallyport-core", "a"], ["sallyport-core", "a", "kube-core"], ["sallyport-core", "kube-core"]]
        found = list(check_layers.check_seen(rule, "core", paths))
        self.assertEqual(found, ["core -> a -> kube-core: core must not see kube-core (why)"])

    def test_std_is_noticed(self):
        for source, count in [("//! no_std\n", 1), ("#![no_std]\n", 0), ('#![cfg_attr(not(feature = "grpc"), no_std)]\n', 0)]:
            self.assertEqual(len(list(check_layers.check_no_std("core", source))), count, source)


class Metrics(unittest.TestCase):
    def test_names_that_are_on_one_side_only_are_named(self):
        text = "| `sallyport_a_total` | counter | `kind`, `route` | x |\n| `sallyport_b` | gauge | | x |\n"
        names = check_metrics.documented(text)
        self.assertEqual(names, {"sallyport_a_total": {"kind", "route"}, "sallyport_b": set()})
        found = list(check_metrics.problems(names, '"sallyport_a", "sallyport_c;worker"'))
        self.assertEqual([line.split()[0] for line in found], ["sallyport_c", "sallyport_b"])

    def test_alerts_and_dashboards_may_ask_only_for_what_is_promised(self):
        page = "| `sallyport_a_seconds` | histogram | `x` | what |\n| `sallyport_b` | gauge | | what |\n"
        promised = list(check_metrics.documented_series(page))
        rule = '- expr: sum by (sallyport_label) (rate(sallyport_a_seconds_bucket{sallyport_x="1"}[5m])) / sallyport_b{a="b"} > 1'
        self.assertEqual(list(check_metrics.unknown_uses(rule, "f", promised)), [])
        dashboard = '{"panels": [{"targets": [{"expr": "sallyport_b_total"}, {"expr": "sallyport_b"}]}, {"title": "row"}]}'
        for text, word in [("- expr: sallyport_c > 0", "sallyport_c"), (dashboard, "sallyport_b_total"), ("a: b", "no query")]:
            found = list(check_metrics.unknown_uses(text, "f", promised))
            self.assertEqual([word in line for line in found], [True], found)


if __name__ == "__main__":
    unittest.main()

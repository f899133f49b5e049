"""That the runner of end-to-end tests tells what it leaves out: `python3 -m unittest discover scripts/tests`."""

import contextlib
import io
import os
import pathlib
import sys
import types
import unittest
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "e2e"))

import kubernetes
import run


def ok(stack):
    """A test that passes."""


def broken(stack):
    raise AssertionError("as it should")


def ran(*tests, ci, root=False, **module):
    """Exit code and output of a run of one module with these tests, for a user who is not root and names no cluster."""
    fake = types.ModuleType("tests.fake")
    vars(fake).update(module)
    environment = {"CI": "true"} if ci else {}
    told = io.StringIO()
    with (
        mock.patch.dict(sys.modules, {"tests.fake": fake}),
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(os, "geteuid", lambda: 0 if root else 1000),
        contextlib.redirect_stdout(told),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        runner = run.Runner()
        runner.run_module("fake", tests)
        runner.stop()
        return runner.summary(), told.getvalue().splitlines()


class LeftOut(unittest.TestCase):
    NODE = "LEFT OUT  fake (2): pods run on a node of our own, as root, or on the cluster that KUBECONFIG names"

    def test_what_needs_a_node_is_told_with_how_to_run_it(self):
        code, told = ran(ok, ok, ci=False, NEEDS=kubernetes.NODE)
        self.assertEqual((code, told), (0, [self.NODE, "0 passed, 0 failed"]))

    def test_in_ci_it_is_a_failure(self):
        code, told = ran(ok, ok, ci=True, NEEDS=kubernetes.NODE)
        self.assertEqual((code, told), (1, [self.NODE, "0 passed, 0 failed", "in CI nothing may be left out"]))

    def test_a_module_that_cannot_do_with_the_cluster_is_told_by_its_own_reason(self):
        def start():
            raise kubernetes.LeftOut("no such luck")

        code, told = ran(ok, ci=True, start=start)
        self.assertEqual((code, told[0]), (1, "LEFT OUT  fake (1): no such luck"))


class Ends(unittest.TestCase):
    """What runs is counted, in CI as elsewhere."""

    def stack(self, stop=lambda: None):
        return types.SimpleNamespace(stop=stop, log_tail=lambda: "")

    def test_a_complete_run_passes(self):
        for ci in (False, True):
            code, told = ran(ok, ci=ci, start=self.stack)
            self.assertEqual((code, told[-1]), (0, "1 passed, 0 failed"))

    def test_a_failure_does_not_keep_others_from_being_run(self):
        code, told = ran(broken, ok, ci=False, start=self.stack)
        self.assertEqual((code, told[-1]), (1, "1 passed, 1 failed"))

    def test_a_stack_that_does_not_start_fails_all_of_its_tests(self):
        code, told = ran(ok, ok, ci=False, start=lambda: {}["nothing"])
        self.assertEqual((code, told[-1]), (1, "0 passed, 2 failed"))

    def test_what_cannot_be_removed_at_the_end_is_a_failure(self):
        def stop():
            raise AssertionError("something is left")

        cluster = self.stack(stop)
        with mock.patch.object(kubernetes, "provide", lambda need: cluster):
            code, told = ran(ok, ci=False, NEEDS=kubernetes.NODE)
        self.assertEqual((code, told[-2:]), (1, ["FAILED  the end of a node", "1 passed, 1 failed"]))


if __name__ == "__main__":
    unittest.main()

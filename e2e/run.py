"""Runs the end-to-end tests of e2e/tests against the real things: `run.py [--soak] [NAME ...]`, where a name is that of a
module or of a test, or a part of it; `--soak` runs those that take minutes instead of the others. Ends with one line of counts.

A module's tests run in order, on a stack that they share: each undoes what it changed. The stack is the common one, or what
the module's own `start()` gives: anything with a `stop()`, and `log_tail()` for what to print after a failure, or None. A
module that needs Kubernetes says so (see kubernetes.py); its `start` is given the cluster. What cannot be run on this machine
is left out and told, or in CI a failure.
"""

import importlib
import os
import pathlib
import sys
import time
import traceback

import kubernetes
from harness import Stack, tests_of

FOLDER = pathlib.Path(__file__).resolve().parent / "tests"


class Runner:
    def __init__(self):
        self.passed = self.failed = 0
        self.common = None
        self.clusters = {}
        self.left_out = {}

    def run_module(self, name, tests):
        module = sys.modules[f"tests.{name}"]
        own = hasattr(module, "start")
        try:
            shared = self.cluster(module.NEEDS) if hasattr(module, "NEEDS") else None
            if own:
                stack = module.start(shared) if shared else module.start()
            else:
                stack = shared or self.common_stack()
        except kubernetes.LeftOut as reason:
            self.left_out.setdefault(str(reason), []).append(f"{name} ({len(tests)})")
            return
        except Exception:
            traceback.print_exc()
            self.failed += len(tests)
            print(f"FAILED  {name}: its stack does not start", flush=True)
            return
        try:
            if sum(not self.run_test(name, function, stack) for function in tests) and stack:
                print(stack.log_tail(), file=sys.stderr)
        finally:
            if own and stack:
                stack.stop()

    def run_test(self, module, function, stack):
        began = time.monotonic()
        try:
            function(stack)
        except Exception:
            traceback.print_exc()
            self.failed += 1
            print(f"FAILED  {module}: {function.__name__}", flush=True)
            return False
        self.passed += 1
        print(f"ok      {module}: {function.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        return True

    def common_stack(self):
        if self.common is None:
            self.common = Stack()
            print(f"ready and first verdict after {self.common.started_in:.1f} s", flush=True)
        return self.common

    def cluster(self, need):
        if need not in self.clusters:
            began = time.monotonic()
            self.clusters[need] = kubernetes.provide(need)
            print(f"{need} is ready after {time.monotonic() - began:.1f} s", flush=True)
        return self.clusters[need]

    def stop(self):
        for name, stack in {"the common stack": self.common, **self.clusters}.items():
            try:
                if stack is not None:
                    stack.stop()
            except Exception:
                traceback.print_exc()
                self.failed += 1
                print(f"FAILED  the end of {name}", flush=True)

    def summary(self):
        """The exit code, after the last lines of output."""
        for reason, modules in self.left_out.items():
            print(f"LEFT OUT  {', '.join(modules)}: {reason}")
        print(f"{self.passed} passed, {self.failed} failed")
        complete = not (self.left_out and os.environ.get("CI"))
        if not complete:
            print("in CI nothing may be left out")
        return 1 if self.failed or not complete else 0


def wanted(names, long):
    """Module name -> its tests, or `long` ones, that `names` choose; all of them without names."""
    chosen = {}
    for path in sorted(FOLDER.glob("*.py")):
        module = importlib.import_module(f"tests.{path.stem}")
        tests = [t for t in tests_of(module, long) if not names or any(n in path.stem or n in t.__name__ for n in names)]
        if tests:
            chosen[path.stem] = tests
    return chosen


def main():
    names = [argument for argument in sys.argv[1:] if argument != "--soak"]
    runner, chosen = Runner(), wanted(names, "--soak" in sys.argv[1:])
    if not chosen:
        print(f"no test is named {' or '.join(names)}", file=sys.stderr)
        return 2
    try:
        for name, tests in chosen.items():
            runner.run_module(name, tests)
    finally:
        runner.stop()
    return runner.summary()


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the tests: `tests/lab test [-j N] [--long] [NAME...]`.

NAME is a file (protect), a part of a test's name, or unit.
A test is a function test_*() in test_*.py that leaves the hosts as it found them; test_long_*() runs only with --long.
The unit tests come first; then N labs take the others from one queue, the longest first. What a test printed is shown
in one piece at its end.
"""
import argparse
import collections
import contextlib
import glob
import importlib
import inspect
import os
import re
import signal
import sys
import traceback

import lab
import labs

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT, LONG_LIMIT = 1500.0, 7200.0  # seconds; a test that takes longer hangs
UNIT_OPTIONS = ["--timeout-multiplier", "4"]  # on a slow machine, under sanitizers

Test = collections.namedtuple("Test", "subject function name limit")


def is_long(test):
    return test.function.startswith("test_long_")


def subjects():
    return sorted(os.path.basename(p)[5:-3] for p in glob.glob(HERE + "/test_*.py"))


def tests_of(subject):
    module = importlib.import_module("test_" + subject)
    found = []
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("test_") and function.__module__ == module.__name__:
            limit = LONG_LIMIT if name.startswith("test_long_") else LIMIT
            found.append(Test(subject, name, f"{subject}.{name[5:]}", limit))
    return found


def durations():
    """{test or subject: expected seconds} from the file of that name."""
    with open(HERE + "/durations") as f:
        lines = [line.split() for line in f if line.strip() and not line.startswith("#")]
    return {name: float(seconds) for seconds, name in lines}


class Report:
    def __init__(self):
        self.passed = self.failed = 0

    def show(self, name, seconds, reason, output=""):
        """One block: the result, and what was printed."""
        if reason is None:
            self.passed += 1
            block = [f"ok {name} ({seconds:.1f} s)"]
        else:
            self.failed += 1
            block = [f"not ok {name}: {reason}"]
        block += ["    " + line for line in output.rstrip("\n").splitlines()]
        sys.stdout.write("\n".join(block) + "\n")
        sys.stdout.flush()

    def unit_tests(self, children):
        """meson's counts of the unit tests, and its words where one failed."""
        build = os.environ.get("VR_UNIT_BUILD") or os.environ["VR_BUILD"]
        status, said = children.run(["meson", "test", "-C", build, "--no-rebuild", "--print-errorlogs", *UNIT_OPTIONS])
        if children.stopped:
            return
        counts = {name: int(n) for name, n in re.findall(r"^(\w[\w ]*): +(\d+) *$", said, re.M)}
        passed = counts.get("Ok", 0)
        failed = sum(counts.get(name, 0) for name in ("Fail", "Unexpected Pass", "Timeout"))
        if status != 0 or passed == 0:
            failed = max(failed, 1)
            print(said)
        self.passed += passed
        self.failed += failed
        print(f"{'not ok' if failed else 'ok'} unit tests: {passed} passed, {failed} failed", flush=True)


def select(wanted, long, report):
    """The tests to run, in order; what is wanted and does not exist is a failure."""
    chosen, matched, only_long = [], {"unit"}, set()
    for subject in subjects():
        try:
            found = tests_of(subject)
        except Exception as e:
            report.show(subject, 0, f"test_{subject}.py cannot be loaded: {e}", traceback.format_exc())
            matched.add(subject)
            continue
        for test in found:
            hits = [w for w in wanted if w == subject or w in test.name]
            if wanted and not hits:
                continue
            if is_long(test) and not long:
                only_long.update(hits)
                continue
            matched.update(hits)
            chosen.append(test)
    for name in wanted:
        if name not in matched:
            report.show(name, 0, "runs only with --long" if name in only_long else
                        f"no such test; subjects: {' '.join(subjects())}")
    expected = durations()
    return sorted(chosen, key=lambda test: -expected.get(test.name, expected.get(test.subject, LONG_LIMIT)))


def labs_for(tests, count):
    """The lab that is up in VR_LAB_DIR, or as many in it as are of use. tests/lab has removed what was not up."""
    if os.path.exists(f"{lab.LAB_DIR}/kvm1"):
        lab.touched()  # by whoever made it
        return [labs.Lab(lab.LAB_DIR, existing=True)]
    return [labs.Lab(f"{lab.LAB_DIR}/{n + 1}") for n in range(min(count, len(tests)))]


def interrupted(number, frame):
    # a second one would leave labs behind
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(prog="tests/lab test")
    parser.add_argument("-j", type=int, default=2, metavar="N", dest="count", help="labs at a time (default 2)")
    parser.add_argument("--long", action="store_true", help="also the tests that take long")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a file, a part of a test's name, or unit")
    options = parser.parse_args()
    if options.count < 1:
        parser.error("-j: at least 1")

    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, interrupted)
    report, children = Report(), labs.Children()
    used = labs_for((), 0)
    try:
        tests = select(options.names, options.long, report)
        used = labs_for(tests, options.count)
        if not options.names or "unit" in options.names:
            report.unit_tests(children)
        with contextlib.closing(labs.run(children, tests, used)) as results:
            for result in results:
                report.show(result.test.name, result.seconds, result.reason, result.output)
    except KeyboardInterrupt:
        children.stop()
        print("interrupted: taking down the labs", file=sys.stderr, flush=True)
        return 130
    finally:
        if not any(each.existing for each in used):
            labs.Lab(lab.LAB_DIR).tool("down")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())

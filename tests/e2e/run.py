#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs the tests: `tests/lab test [NAME...]`; NAME is a file (protect), a part of a test's name, or unit.

A test is a function test_*() in test_*.py; each leaves the hosts as it found them. Fast files come first.
A test in which a daemon crashed or complained about itself has failed, whatever else it saw.
"""
import glob
import importlib
import inspect
import os
import re
import subprocess
import sys
import time
import traceback

import lab

HERE = os.path.dirname(os.path.abspath(__file__))
FIRST = ["lab", "checker", "pairing", "protect", "consistency", "bad_input", "planned_failover", "uefi", "kill_source",
         "kill_target", "libvirtd", "interval", "big_disk", "endurance"]


def subjects():
    found = [os.path.basename(p)[5:-3] for p in glob.glob(HERE + "/test_*.py")]
    return sorted(found, key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n))


def unit_tests():
    """meson's counts of the unit tests of the build directory, and its words where one failed."""
    done = subprocess.run(["meson", "test", "-C", os.environ["VR_BUILD"], "--no-rebuild", "--print-errorlogs"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    counts = {name: int(n) for name, n in re.findall(r"^(\w[\w ]*): +(\d+) *$", done.stdout, re.M)}
    passed = counts.get("Ok", 0)
    failed = sum(counts.get(name, 0) for name in ("Fail", "Unexpected Pass", "Timeout"))
    if done.returncode != 0 or passed == 0:
        failed = max(failed, 1)
        print(done.stdout, file=sys.stderr)
    print(f"{'not ok' if failed else 'ok'} unit tests: {passed} passed, {failed} failed", flush=True)
    return passed, failed


class Logs:
    """What the daemons of both hosts have written since this was made."""

    CRASHED = re.compile(r"ended with status (?!137$)(129|1[3-9]\d|2\d\d)$|CRITICAL|Sanitizer|runtime error:")
    TAIL = 40

    def __init__(self):
        self.begin = {host: len(host.daemon_log()) for host in lab.hosts()}

    def lines(self, host):
        return host.daemon_log()[self.begin[host]:].splitlines()

    def crashes(self):
        return [f"{host}: {line}" for host in self.begin for line in self.lines(host) if self.CRASHED.search(line)]

    def tail(self):
        """Starts and ends of the daemons, and their last words."""
        shown = []
        for host in self.begin:
            lines = self.lines(host)
            shown += [f"{host}: {line}" for n, line in enumerate(lines)
                      if n >= len(lines) - self.TAIL or line.startswith("--- ")]
        return shown


def run_test(function):
    """None, or (first line, details) of the failure."""
    logs = Logs()
    try:
        function()
        crashes = logs.crashes()
        if crashes:
            raise lab.LabError("; ".join(crashes))
    except Exception as e:
        first = (str(e) or type(e).__name__).splitlines()[0]
        return first, traceback.format_exc().splitlines() + logs.tail()
    return None


def main(wanted):
    passed = failed = 0
    matched = set()
    if not wanted or "unit" in wanted:
        passed, failed = unit_tests()
        matched.add("unit")
    for subject in subjects():
        module = importlib.import_module("test_" + subject)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("test_") or function.__module__ != module.__name__:
                continue
            full = f"{subject}.{name[5:]}"
            hits = [w for w in wanted if w == subject or w in full]
            matched.update(hits)
            if wanted and not hits:
                continue
            began = time.monotonic()
            failure = run_test(function)
            if failure:
                failed += 1
                print(f"not ok {full}: {failure[0]}", flush=True)
                print("\n".join("    " + line for line in failure[1]), file=sys.stderr, flush=True)
                continue
            passed += 1
            print(f"ok {full} ({time.monotonic() - began:.1f} s)", flush=True)
    for name in wanted:
        if name not in matched:
            failed += 1
            print(f"not ok {name}: no such test; subjects: {' '.join(subjects())}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path.insert(0, HERE)
    sys.exit(main(sys.argv[1:]))

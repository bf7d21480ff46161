#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs one test in the lab of VR_LAB_DIR: in_lab.py SUBJECT FUNCTION. Started by run.py.

A test in which a daemon crashed or complained about itself has failed, whatever else it saw. Prints what the test
prints and, if it failed, the details and FAILED with the reason on the last line; exit status 1 then.
"""
import importlib
import re
import sys
import traceback

import lab

FAILED = "FAILED: "


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


def main(subject, function):
    logs = None
    try:
        logs = Logs()
        getattr(importlib.import_module("test_" + subject), function)()
        crashes = logs.crashes()
        if crashes:
            raise lab.LabError("; ".join(crashes))
    except Exception as e:
        print("\n".join(traceback.format_exc().splitlines() + (logs.tail() if logs else [])))
        print(FAILED + (str(e) or type(e).__name__).splitlines()[0])
        return 1
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main(*sys.argv[1:]))

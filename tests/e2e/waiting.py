# SPDX-License-Identifier: LGPL-2.1-or-later
"""Nothing is waited for without an end: wait_for() and the error of whatever did not come."""
import time


class LabError(Exception):
    pass


def wait_for(condition, timeout=30.0, what="condition", interval=0.05):
    """Calls condition() until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError(f"timed out after {timeout:g} s: {what}")
        time.sleep(interval)

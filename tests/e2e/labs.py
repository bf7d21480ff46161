# SPDX-License-Identifier: LGPL-2.1-or-later
"""Labs side by side, each with a thread that runs one test after the other in it.

A lab that is not well, or in which a test failed, is made anew before the next test: no test fails for what another
one left. A lab that was up before is used as it is and stays.
"""
import collections
import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time

from in_lab import FAILED

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = os.path.join(os.path.dirname(HERE), "lab")
TOOL_LIMIT = 300.0  # seconds for up and down
ATTEMPTS = 3  # labs that could not be made, one after the other, before their worker ends

# reason: None if it passed; output: text of any number of lines
Result = collections.namedtuple("Result", "test seconds reason output")


def end_group(process):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Children:
    """Programs in process groups of their own, so that none of them and nothing they started outlives a stop()."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running = set()
        self.stopped = False

    def run(self, argv, limit=None, env=None):
        """(exit status, output). The status is None if it did not end within the limit or everything was stopped."""
        with tempfile.TemporaryFile() as out:
            with self._lock:
                if self.stopped:
                    return None, ""
                process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                           env=env, start_new_session=True)
                self._running.add(process)
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                end_group(process)
                process.wait()
                with self._lock:
                    self._running.discard(process)
            out.seek(0)
            return None if self.stopped else status, out.read().decode(errors="replace")

    def stop(self):
        with self._lock:
            self.stopped = True
            for process in self._running:
                end_group(process)


class Lab:
    def __init__(self, directory, existing=False):
        """existing: it is somebody's and stays as it is."""
        self.directory, self.existing = directory, existing
        self.sound = existing
        self.env = {**os.environ, "VR_LAB_DIR": directory}

    def tool(self, *words):
        """(exit status, output) of tests/lab. In a session of its own: an `up` that is cut short could not be undone."""
        with tempfile.TemporaryFile() as out:
            try:
                status = subprocess.run([TOOL, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                        env=self.env, start_new_session=True, timeout=TOOL_LIMIT).returncode
            except subprocess.TimeoutExpired:
                status = -1
            out.seek(0)
            return status, out.read().decode(errors="replace")

    def well(self):
        status, said = self.tool("status")
        return status == 0 and said.count("libvirtd running, virt-replicad running") == 2

    def ready(self):
        """None, or what its making said."""
        if self.existing or self.sound and self.well():
            return None
        self.tool("down")
        status, said = self.tool("up")
        self.sound = status == 0
        return None if self.sound else said


def run_test(children, lab, test):
    argv = [sys.executable, os.path.join(HERE, "in_lab.py"), test.subject, test.function]
    began = time.monotonic()
    status, output = children.run(argv, test.limit, lab.env)
    reason = None
    if status is None:
        reason = f"did not end within {test.limit:.0f} s"
    elif status != 0:
        body, _, last = output.rstrip("\n").rpartition("\n")
        if last.startswith(FAILED):
            output, reason = body, last[len(FAILED):]
        else:
            reason = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return Result(test, time.monotonic() - began, reason, output)


def work(children, lab, waiting, results):
    """The thread of one lab; a None in the results is its end."""
    failures = 0
    try:
        while failures < ATTEMPTS and not children.stopped:
            try:
                test = waiting.popleft()
            except IndexError:
                break
            trouble = lab.ready()
            if trouble is not None:
                failures += 1
                results.put(Result(test, 0.0, f"no lab: {(trouble.splitlines() or ['it did not come up'])[-1]}", trouble))
                continue
            failures = 0
            result = run_test(children, lab, test)
            lab.sound = lab.sound and result.reason is None
            results.put(result)
    finally:
        results.put(None)


def run(children, tests, labs):
    """Yields a Result for each of the tests, in the order of their ends. Tests begin in the order given.

    Closed before its end, it ends what runs, and waits for labs that are just being made.
    """
    waiting, results = collections.deque(tests), queue.SimpleQueue()
    threads = [threading.Thread(target=work, args=(children, lab, waiting, results)) for lab in labs]
    for thread in threads:
        thread.start()
    try:
        ended = 0
        while ended < len(threads):
            result = results.get()
            if result is None:
                ended += 1
            else:
                yield result
        for test in waiting:
            yield Result(test, 0.0, "no lab is left to run it in", "")
    except BaseException:
        children.stop()
        raise
    finally:
        for thread in threads:
            thread.join()

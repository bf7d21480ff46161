# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest says on its serial console, and when: its transactions, its heartbeat, what it found at each boot."""
import os
import re
import threading
import time

from waiting import wait_for


def clean(text):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1bc|\r", "", text)


class Serial:
    """Follows a guest's serial log from a thread and stamps each line with this machine's clock.

    A log that was truncated (the guest was started anew) is read from its start.
    """

    def __init__(self, host, path):
        self.host, self.file = host, path
        self.lines = []  # (monotonic seconds, text)
        self.acked = 0
        self.last_ack_at = None
        self.found = []  # (vda, vdb) of every boot
        self.corrupt = []
        self.beats = []  # monotonic seconds of heartbeats; None where the guest was started anew or stopped
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self):
        self._stop.set()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def _follow(self):
        position, inode, rest = 0, None, b""
        while not self._stop.wait(0.02):
            try:
                with open(self.host.path(self.file), "rb") as f:
                    st = os.fstat(f.fileno())
                    if st.st_ino != inode or st.st_size < position:
                        if inode is not None:
                            self.beats.append(None)
                        position, inode, rest = 0, st.st_ino, b""
                    f.seek(position)
                    data = f.read()
            except OSError:
                continue
            position += len(data)
            *lines, rest = (rest + data).split(b"\n")
            now = time.monotonic()
            for line in lines:
                self._line(now, clean(line.decode(errors="replace")).strip())

    def _line(self, now, line):
        self.lines.append((now, line))
        if line.startswith("ACK "):
            self.acked, self.last_ack_at = int(line[4:]), now
        elif line.startswith("HB "):
            self.beats.append(now)
        elif m := re.search(r"FOUND vda=(\d+) vdb=(\d+)", line):
            self.found.append((int(m[1]), int(m[2])))
        elif line.startswith("CORRUPT"):
            self.corrupt.append(line)
        elif line.startswith(("STOPPED", "POWEROFF")):
            self.beats.append(None)

    def text(self):
        return "\n".join(line for _, line in list(self.lines))

    def wait_line(self, pattern, timeout=60, start=0):
        def search():
            for _, line in self.lines[start:]:
                if m := re.search(pattern, line):
                    return m
            return None
        return wait_for(search, timeout, f"{pattern!r} on {self.host}:{self.file}; last: {self.lines[-3:]}", 0.02)

    def wait_ack(self, number=None, more=1, timeout=60):
        """Until transaction number (or that many more than now) is acknowledged; returns the last one."""
        want = number if number is not None else self.acked + more
        wait_for(lambda: self.acked >= want, timeout, f"ACK {want} on {self.host}:{self.file}, at {self.acked}", 0.02)
        return self.acked

    def max_gap(self, since=0.0, until=None):
        """Longest time without a heartbeat, in seconds, while the guest was up, between two monotonic times."""
        until = time.monotonic() if until is None else until
        longest, previous = 0.0, None
        for beat in list(self.beats):
            if beat is None:
                previous = None
                continue
            if previous is not None and beat >= since and previous <= until:
                longest = max(longest, min(beat, until) - max(previous, since))
            previous = beat
        if previous is not None and previous < until:
            longest = max(longest, until - max(previous, since))
        return longest

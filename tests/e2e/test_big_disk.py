# SPDX-License-Identifier: LGPL-2.1-or-later
"""A disk of 1 TiB, mostly empty: the memory of both daemons does not follow its size."""
import threading

import checker
from protected import Protected, Witness, restart

MIB = 1 << 20
LIMIT = 64 * MIB + 32 * MIB  # design: the daemon, and one running transfer
EXTENTS = 4000


class Peak:
    """Most private memory (RssAnon + RssShmem) of the daemons of some hosts, sampled."""

    def __init__(self, *hosts):
        self.hosts, self.most = hosts, {host.name: 0 for host in hosts}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *unused):
        self._stop.set()
        self._thread.join()

    def _sample(self):
        while not self._stop.wait(0.03):
            for host in self.hosts:
                try:
                    now = checker.daemon_numbers(host)["private"]
                except (OSError, KeyError):
                    continue  # restarted meanwhile: gone, or not reaped yet
                self.most[host.name] = max(self.most[host.name], now)

    def check(self):
        print("   private memory at most: " + ", ".join(f"{h} {b / MIB:.1f} MiB" for h, b in self.most.items()))
        assert all(0 < most < LIMIT for most in self.most.values()), self.most


def scatter(host, image, first, pattern):
    """64 KiB of data every 256 MiB."""
    commands = "".join(f"write -P {pattern} {(i * 256 + first) * MIB} 64k\n" for i in range(EXTENTS))
    host.run("qemu-io", "-f", "qcow2", image, stdin=commands, timeout=120)


def test_one_tebibyte():
    with Protected("one-tebibyte", start=False, protect=False, churn=256, extra_disks=("1T",)) as p, \
            Witness(p.source, p.guest.name) as witness, Peak(p.source, p.target) as peak:
        image = p.guest.disk("vdc")
        scatter(p.source, image, 1, 0x11)
        p.guest.start()
        restart(p.source)
        restart(p.target)
        p.protect()
        p.settle()
        p.guest.shutdown()
        scatter(p.source, image, 3, 0x22)
        job = p.sync()
        assert job["bytes_sent"] < EXTENTS * 65536 * 1.2, job
        p.guest.start()
        p.sync()
        p.start_source("S8:stop", timeout=120)
        p.sync(timeout=120)
        p.settle(120)
        peak.check()
        points = p.points()
        p.check.check(copies=witness.of(points[-1:]), recent=1)

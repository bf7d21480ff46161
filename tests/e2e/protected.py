# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest on kvm1 protected to kvm2, and the witness that copies each of its points independently."""
import calendar
import contextlib
import os
import signal
import subprocess
import threading
import time

import checker
import lab
from lab import Guest, Host, LabError, wait_for
from ops import restart

NEVER = {"interval": "24h"}  # cycles run when asked for, and one at each start of the daemon
SMALL = {"vda_size": "96M", "vdb_size": "16M", "rate": 20, "churn": 256, "area": 8}


def second_pass(step):
    """Which pass of a fault point is that of the first sync: the cycle that a start begins with passes first, and S7
    twice, after the first body and at the end."""
    return 3 if step == "S7" else 2


def wall(text):
    """RFC 3339 UTC with milliseconds to seconds."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0." + (fraction or "0"))


def retained(points, keep):
    """Whether none of these is older than `keep` seconds: ages go by the target's clock, from the newest point."""
    return len(points) == 1 or points[0]["stored_us"] >= points[-1]["stored_us"] - keep * 1e6


class Witness:
    """Copies the frozen disks from QEMU's own export whenever the source's daemon stops itself (VR_FAULT=S8:stop).

    Nothing of ours takes part in the copying. The copy of a point is known by its time.
    """

    def __init__(self, host, domain):
        self.host, self.domain = host, domain
        self.home = f"{lab.IMAGES}/witness-{domain}"
        self.copies = []  # (wall clock when the daemon was seen stopped, {disk: raw file})
        self.error = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *unused):
        self._stop.set()
        self._thread.join()
        if self.host.daemon("state") == "stopped":
            self.host.daemon("cont")
        self.host.run("rm", "-rf", self.home)

    def _stopped_pid(self):
        pid = self.host.daemon_pid()
        try:
            with open(f"/proc/{pid}/stat") as f:
                return pid if f.read().rsplit(")", 1)[1].split()[0] == "T" else None
        except OSError:
            return None

    def _watch(self):
        while not self._stop.wait(0.03):
            pid = self._stopped_pid()
            if pid is None:
                continue
            seen = time.time()
            try:
                self.copies.append((seen, lab.copy_exports(self.host, self.domain, f"{self.home}/{len(self.copies)}")))
            except Exception as e:  # shown by of()
                self.error = e
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def of(self, points):
        """{number: copies}; each of the points must have been witnessed."""
        if self.error:
            raise LabError(f"the witness failed: {self.error}")
        found, before = {}, 0.0
        for seen, files in list(self.copies):
            for point in points:
                # the time of a point is cut to milliseconds
                if before <= wall(point["time"]) + 0.001 and wall(point["time"]) <= seen:
                    found[point["number"]] = files
            before = seen
        missing = [p["number"] for p in points if p["number"] not in found]
        if missing:
            raise LabError(f"recovery points {missing} were not witnessed")
        return found

    def forget(self):
        """Removes the copies made so far."""
        for _, files in self.copies:
            self.host.run("rm", "-f", *files.values())
        self.copies = []


class Protected:
    """Guest, policy and protection; on leaving, nothing of them remains and both daemons run without faults."""

    def __init__(self, name, policy=None, protect=True, start=True, **guest):
        self.source, self.target = Host("kvm1"), Host("kvm2")
        self.keys = {**NEVER, **(policy or {})}
        self.policy = f"{name}-policy"
        self.guest = Guest(self.source, name=name, **{**SMALL, **guest})
        self.protect_at_once, self.start_at_once = protect, start
        self.check = None

    def __enter__(self):
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _make(self):
        lab.pair(self.source, self.target)
        lab.define_policy(self.source, self.policy, **self.keys)
        self.guest.define()
        self.check = checker.Checker(self.guest.name, self.guest.uuid, self.source, self.target, self.guest)
        if self.start_at_once:
            self.guest.start()
        if self.protect_at_once:
            self.protect()

    def protect(self):
        """Until the first recovery point and the scheduled one behind it are there."""
        self.source.vr("protect", self.guest.name, "--to", self.target.name, "--policy", self.policy)
        wait_for(lambda: self.last_number() >= 2, 20, "the first scheduled cycle")

    def __exit__(self, *unused):
        for host in (self.target, self.source):
            with contextlib.suppress(LabError):
                restart(host)
        with contextlib.suppress(LabError):
            self.guest.at.run("virsh", "-q", "resume", self.guest.name, check=False)
        with contextlib.suppress(LabError):
            wait_for(self._unprotected, 20, "unprotect", 0.3)
        self.guest.remove()
        with contextlib.suppress(LabError):
            self.source.vr("policy-undefine", self.policy)
        if self.check:
            self.check.forget()

    def _unprotected(self):
        try:
            self.source.vr("unprotect", self.guest.name)
        except lab.VrError as e:
            return e.status == 4  # other errors: a job of before may still run
        return True

    @property
    def serial(self):
        return self.guest.serial()

    def points(self):
        return self.target.vr("rp-list", self.guest.uuid)

    def numbers(self):
        return [p["number"] for p in self.points()]

    def info(self):
        return self.source.vr("info", self.guest.uuid)

    def sync(self, *options, timeout=60):
        """The finished job, with its result."""
        return self.source.vr("sync", self.guest.name, *options, timeout=timeout)

    def sync_fails(self, *options, timeout=60):
        """(exit status, error text) of a sync that must not succeed."""
        status, out, err = self.source.run("virt-replica", "sync", self.guest.name, *options, check=False,
                                           timeout=timeout)
        if status == 0:
            raise LabError(f"sync of {self.guest.name} succeeded under a fault: {out}")
        return status, out + err

    def sync_begun(self, *options):
        """The running command; it waits through a restart of the daemon, for the job that goes on."""
        return self.source.popen("virt-replica", "sync", self.guest.name, *options, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)

    def start_source(self, fault="", timeout=30):
        """Restarts the source's daemon and waits for the cycle that each start begins with."""
        before = self.last_number()
        restart(self.source, VR_FAULT=fault)
        wait_for(lambda: self.last_number() > before, timeout, f"the cycle after the start with '{fault}'")
        self.settle(timeout)

    def settle(self, timeout=30):
        """Until no cycle is under way."""
        def idle():
            status, out, _ = self.source.virsh("domjobinfo", self.guest.name, check=False)
            return (status != 0 or "None" in out) and not self.info()["job"]
        wait_for(idle, timeout, "the source is idle")

    def last_number(self):
        points = self.points()
        return points[-1]["number"] if points else 0

    def scheduled(self):
        """The source will go on by itself."""
        info = self.info()
        if info["state"] != "protected" or not info["next_cycle"]:
            raise LabError(f"{self.guest.name} does not go on: {info}")


def sent_bytes(host):
    """What left the host on its network card so far."""
    return int(host.run("cat", "/sys/class/net/eth0/statistics/tx_bytes"))


def fill(host, image, size):
    """A qcow2 image with random data all over it."""
    host.run("sh", "-c", f"head -c {size} /dev/urandom >{image}.raw && "
             f"qemu-img convert -f raw -O qcow2 {image}.raw {image} && rm {image}.raw")


def fill_protected(host, guest, disk, size):
    """The same for a guest that is off and protected: no cycle reads the image meanwhile."""
    host.vr("pause", guest.name)
    fill(host, guest.disk(disk), size)
    host.vr("resume", guest.name)


def stored_bytes(host, guest):
    return sum(p["bytes"] for p in host.vr("rp-list", guest.name))

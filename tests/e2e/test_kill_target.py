# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 at every step of the target: of a cycle, of a merge, in the middle of an initial replication."""
import contextlib
import time

import lab
from protected import Protected, Witness, fill, restart, retained, sent_bytes
from lab import wait_for

RECENT = 2
MIB = 1 << 20
KEEP = 4.0  # seconds of points that the merge tests keep


def dies(p):
    """The target does, of this cycle or what follows it."""
    with contextlib.suppress(lab.VrError):
        p.sync()
    return p.target.daemon("state") == "gone"


def test_kill_at_every_step():
    with Protected("killed-target") as p, Witness(p.source, p.guest.name) as witness:
        restart(p.source, VR_FAULT="S8:stop")
        p.sync()
        p.check.check()
        for step in [f"T{i}" for i in range(1, 9)]:
            before = p.last_number()
            restart(p.target, VR_FAULT=f"{step}:kill" + ("#2" if step == "T8" else ""))
            if step == "T8":  # passed at the start, and behind an answer that may have been on its way
                wait_for(lambda: dies(p), 20, "T8 reached")
            else:
                p.sync_fails()
            assert p.target.daemon("wait") == "137", f"{step}: the daemon did not die by the fault"
            p.target.daemon("start")
            listed = p.numbers()
            # before the commit point the old one, unless the source has already gone on by itself
            allowed = [before + 1] if step in ("T6", "T7") else [before, before + 1]
            assert step == "T8" and listed[-1] > before or listed[-1] in allowed, (step, before, listed)
            job = p.sync()
            p.settle()
            p.scheduled()
            points = p.points()
            assert points[-1]["number"] >= job["result"]["number"]
            p.check.check(copies=witness.of([x for x in points if x["number"] > before]), recent=RECENT)
            witness.forget()
        p.check.check()


def test_long_hangs_in_the_commit():
    with Protected("hung-target") as p, Witness(p.source, p.guest.name) as witness:
        restart(p.source, VR_FAULT="S8:stop")
        p.sync()
        before = p.last_number()
        restart(p.target, VR_FAULT="T4:stop#1")
        began = time.monotonic()
        sync = p.sync_begun()
        wait_for(lambda: p.target.daemon("state") == "stopped", 30, "the target hangs")
        assert sync.wait(90) == 1, sync.stdout.read()
        error = p.info()["last_error"]
        assert error["code"] == "peer-unreachable" and "asked whether it is there" in error["message"], error
        assert time.monotonic() - began < 100 and p.guest.state() == "running"  # not the half hour of a COMMIT
        p.target.daemon("cont")
        wait_for(lambda: p.last_number() > before, 30, "cycles go on by themselves once it answers")
        p.settle()
        p.sync()
        p.check.check(copies=witness.of([x for x in p.points() if x["number"] > before]), recent=RECENT)


def test_kill_at_every_step_of_a_merge():
    policy = {"keep_all": f"{KEEP:g}s", "keep_hourly": 0, "keep_daily": 0}
    with Protected("killed-merge", policy=policy) as p, Witness(p.source, p.guest.name) as witness:
        restart(p.source, VR_FAULT="S8:stop")
        p.settle()
        for step in ("M1", "M2", "M3", "M4"):
            restart(p.target, VR_FAULT=f"{step}:kill")

            wait_for(lambda: dies(p), 60, f"{step} reached")
            assert p.target.daemon("wait") == "137"
            p.target.daemon("start")
            p.sync()
            p.sync()
            wait_for(lambda: retained(p.points(), KEEP), 20, f"after {step} the merge goes on: {p.points()}")
            p.settle()
            points = p.check.check(retention=True)
            # The first two points were made before the witness came.
            p.check.check(added=0, copies=witness.of([x for x in points if x["number"] > 3]))


def test_killed_initial_replication_resumes():
    size = 256 * MIB
    policy = {"bandwidth": "64MiB/s"}
    with Protected("killed-initial", policy=policy, protect=False, start=False, churn=0, extra_disks=("256M",)) as p:
        fill(p.guest.home, p.guest.disk("vdc"), size)
        p.guest.start()
        before = sent_bytes(p.source)
        restart(p.source, VR_FAULT="S7:kill")
        restart(p.target, VR_FAULT="T2:kill#15")
        protect = p.source.popen("virt-replica", "protect", p.guest.name, "--to", "kvm2", "--policy", p.policy)
        assert p.source.daemon("wait") == "137", "after the first body"
        p.source.daemon("start")
        assert p.target.daemon("wait") == "137", "after fifteen bodies"
        p.target.daemon("start")
        wait_for(lambda: progress(p) > 0.7, 60, "70 % sent")
        p.source.daemon("kill")
        assert p.numbers() == []
        p.source.daemon("start")
        assert protect.wait(60) == 0
        sent = sent_bytes(p.source) - before
        # What was under way at each of three kills (two bodies) is sent again.
        assert size < sent < 1.06 * size + 3 * 2 * 8 * MIB, f"{sent / MIB:.0f} MiB sent for {size / MIB:.0f} MiB"
        wait_for(lambda: p.last_number() >= 2, 20, "the first scheduled cycle")
        with Witness(p.source, p.guest.name) as witness:
            restart(p.source, VR_FAULT="S8:stop")
            p.sync()
            p.settle()
            points = p.points()
            p.check.check(copies=witness.of(points[-1:]))
        p.scheduled()


def progress(p):
    """Of the running job; what the replica holds already counts at once."""
    jobs = p.source.vr("job-list", p.guest.name)
    return jobs[0]["progress"] if jobs and jobs[0]["state"] == "running" else 0.0

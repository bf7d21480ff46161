# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirtd killed under a cycle: while a backup job runs, which survives it, and while one begins, which libvirt loses."""
import os
import signal

import lab
from lab import wait_for
from protected import Protected, Witness, restart, second_pass


def qemu_pid(host, domain):
    return next(p["pid"] for p in host.processes()
                if p["comm"].startswith("qemu-system") and f"guest={domain}," in " ".join(p["argv"]))


def kill_libvirtd(host):
    host.libvirtd("kill")
    host.libvirtd("start")


def stopped_cycle(p, step):
    """A sync that has come to that step, with the daemon stopped there."""
    p.start_source(f"{step}:stop#{second_pass(step)}")
    sync = p.sync_begun()
    wait_for(lambda: p.source.daemon("state") == "stopped", 20, f"{step} reached")
    return sync


def lose_job(p):
    """libvirtd is killed while QEMU has not yet answered what begins the job; returns the words of the sync."""
    sync = stopped_cycle(p, "S3")
    pid = qemu_pid(p.source, p.guest.name)
    os.kill(pid, signal.SIGSTOP)
    try:
        p.source.daemon("cont")
        wait_for(lambda: "async='backup'" in p.source.read(f"/run/libvirt/qemu/{p.guest.name}.xml"), 20,
                 "the job begins", 0.005)
        p.source.libvirtd("kill")
    finally:
        os.kill(pid, signal.SIGCONT)
    p.source.libvirtd("start")
    assert sync.wait(60) == 1, sync.stdout.read()
    wait_for(lambda: p.source.vr("status")["libvirt"]["connected"], 20, "the daemon is connected again")


def test_killed_while_a_job_runs():
    with Protected("libvirtd-job") as p:
        for step in ("S4", "S6", "S7", "S8"):
            sync = stopped_cycle(p, step)
            kill_libvirtd(p.source)
            p.source.daemon("cont")
            sync.wait(60)
            restart(p.source, VR_FAULT="S8:stop")
            with Witness(p.source, p.guest.name) as witness:
                number = p.sync()["result"]["number"]
                p.settle()
                points = [x for x in p.points() if x["number"] >= number]
                p.check.check(copies=witness.of(points), recent=2)
            p.scheduled()


def test_long_killed_while_a_job_begins():
    with Protected("libvirtd-lost") as p:
        before = p.last_number()
        lose_job(p)
        before = p.last_number()
        error = p.source.vr_fails(5, "sync", p.guest.name, code="backup-job-lost",
                                  contains=[p.guest.name, "libvirtd was killed", "Shut the domain off, restart libvirtd"])
        assert error.action
        assert p.info()["last_error"]["code"] == "backup-job-lost", p.info()
        assert p.last_number() == before and p.guest.state(p.source) == "running"
        p.guest.shutdown()
        kill_libvirtd(p.source)
        p.guest.start()
        wait_for(lambda: p.source.vr("status")["libvirt"]["connected"], 20, "the daemon is connected again")
        restart(p.source, VR_FAULT="S8:stop")
        with Witness(p.source, p.guest.name) as witness:
            number = p.sync()["result"]["number"]
            p.settle()
            p.check.check(copies=witness.of([x for x in p.points() if x["number"] >= number]), recent=2)
        p.scheduled()

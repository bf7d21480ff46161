# SPDX-License-Identifier: LGPL-2.1-or-later
"""The source's daemon is killed while a protection begins, is taken back or ends: the next start goes on with it."""
import os
import signal
import time

import checker
import lab
import ops
from lab import Guest
from test_protect import begin, check_gone, slow_replication

MOMENTS = (0.0, 0.1, 0.3, 0.8)  # seconds after the job was asked for


def run_killed(source, moment, *command):
    """Kills the daemon that far in that job; how it ended after the next start."""
    job = source.vr(*command, "--detach")["job"]
    time.sleep(moment)
    source.daemon("kill")
    source.daemon("start")
    return ops.wait_job(source, job)


def step_of(source, job):
    return next((s["name"] for s in source.vr("job-info", job)["steps"] if s["state"] == "running"), None)


def test_at_any_moment():
    source, target = ops.paired()
    lab.define_policy(source, "test", interval="1h", rpo_target="2h")
    with Guest(source, "guest", churn=256).define() as guest:
        guest.start().serial().wait_ack(5)
        for moment in MOMENTS:
            job = run_killed(source, moment, "protect", guest.name, "--to", "kvm2", "--policy", "test")
            assert job["state"] == "completed", job
            assert ops.state(source, guest.name) == "protected"
            lab.wait_for(lambda: source.vr("info", guest.name)["job"] is None, 10, "idle")
            judge = checker.Checker(guest.name, guest.uuid, source, target, guest)
            judge.check()
            judge.forget()
            source.vr("sync", guest.name)
            job = run_killed(source, moment, "unprotect", guest.name)
            assert job["state"] == "completed", job
            check_gone(guest, source, target)
    ops.reset()


def test_while_it_is_taken_back():
    source, target = ops.paired()
    with slow_replication(source) as guest:
        job = begin(source, guest)
        os.kill(target.daemon_pid(), signal.SIGSTOP)
        source.vr("job-cancel", job)
        lab.wait_for(lambda: "undo" in (source.vr("job-info", job)["result"] or {}), 30, "it is taken back")
        source.daemon("kill")
        target.daemon("cont")
        source.daemon("start")
        found = ops.wait_job(source, job)
        assert found["state"] == "cancelled", found
        check_gone(guest, source, target)
    ops.reset()


def test_while_it_ends():
    """In each of its steps that can be held up."""
    with ops.protected() as (guest, source, target):
        for host, service, step in ((target, "virt-replicad", "check"), (source, "libvirtd", "source")):
            lab.wait_for(lambda: len(ops.points(target, guest.name)) == 2, 30, "the cycle that follows the first copy")
            os.kill(host.daemon_pid(service), signal.SIGSTOP)
            job = source.vr("unprotect", guest.name, "--detach")["job"]
            lab.wait_for(lambda: step_of(source, job) == step, 30, f"it is at {step}")
            source.daemon("kill")
            os.kill(host.daemon_pid(service), signal.SIGCONT)
            source.daemon("start")
            found = ops.wait_job(source, job)
            assert found["state"] == "completed", found
            check_gone(guest, source, target)
            source.vr("protect", guest.name, "--to", "kvm2", "--policy", "test")

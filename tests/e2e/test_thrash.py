# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unknown unknowns: daemons and libvirtd killed at random moments while a domain replicates every second.

The seed is printed; VR_TEST_SEED repeats a run.
"""
import os
import random
import time

import lab
from checker import Checker
from lab import Guest


def kill_daemon(host):
    host.daemon("kill")
    time.sleep(random.uniform(0, 1))
    host.daemon("start")


def kill_libvirtd(host):
    host.libvirtd("kill")
    host.libvirtd("start")
    lab.wait_for(lambda: host.virsh("list", check=False)[0] == 0, 20, "libvirtd answers")


def stop_for_a_while(host):
    os.kill(host.daemon_pid(), 19)
    time.sleep(random.uniform(0.5, 2))
    host.daemon("cont")


def sync(host, guest):
    """libvirt loses a job that begins when it is killed (test_libvirtd.py), and says what to do then."""
    try:
        host.vr("sync", guest.name)
    except lab.VrError as e:
        if e.code != "backup-job-lost":
            raise
        print("libvirt lost a backup job", flush=True)
        guest.shutdown()
        kill_libvirtd(host)
        guest.start()
        host.vr("sync", guest.name)


def newest(source, guest):
    return source.vr("info", guest.name)["last_rp"]["number"]


def thrash(seconds):
    seed = int(os.environ.get("VR_TEST_SEED", time.time_ns() % 1000000))
    random.seed(seed)
    print(f"VR_TEST_SEED={seed}", flush=True)
    source, target = lab.hosts()
    lab.pair(source, target)
    lab.define_policy(source, "thrash", interval="1s", keep_all="10s", keep_hourly=1, keep_daily=1)
    with Guest(source, name="thrash", churn=256).define() as guest:
        serial = guest.start().serial()
        serial.wait_ack(5)
        source.vr("protect", guest.name, "--to", target.name, "--policy", "thrash")
        checker = Checker(guest.name, guest.uuid, source, target, guest)
        try:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                time.sleep(random.uniform(0.2, 3))
                host = random.choice([source, target])
                random.choice([kill_daemon, kill_daemon, stop_for_a_while, kill_libvirtd])(host)
            before = newest(source, guest)
            # A retry waits for minutes at most where the cause is not seen to be gone; a sync asks at once.
            sync(source, guest)
            assert newest(source, guest) > before
            source.vr("pause", guest.name)
            checker.check(retention=True, gap=5.0, open_cycles=1)
            last = serial.acked
            disks = [f"{lab.STORE}/{guest.uuid}/{d}/{newest(source, guest)}.qcow2" for d in ("vda", "vdb")]
            vda, vdb = target.boot_check(*disks)
            assert 0 < vdb <= vda <= vdb + 1 and vda <= last, (vda, vdb, last)
        finally:
            source.vr("unprotect", guest.name)
            checker.forget()
            source.vr("policy-undefine", "thrash")


def test_long_random_kills():
    thrash(600)

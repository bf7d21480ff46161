#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tour, on real guests: protect, recovery points, a copy of one booted, planned failover. `tests/lab demo`.

Each statement it prints was checked; it ends with status 1 at the first that does not hold.
"""
import re
import shlex
import sys
import time

import lab
import ops
from lab import Guest, LabError

BOLD, PLAIN = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
BEGAN = time.monotonic()


def chapter(text):
    print(f"\n{BOLD}== {text}{PLAIN}", flush=True)


def say(text):
    print(f"   {text}", flush=True)


def shell(host, *command, fails=False):
    """Shows a command as an administrator types it, and what it prints."""
    print(f"{host.name}# {shlex.join(map(str, command))}", flush=True)
    status, out, err = host.run(*command, check=False, timeout=120)
    for line in (out + err).rstrip("\n").splitlines():
        print("   " + line.rstrip())
    sys.stdout.flush()
    if (status != 0) != fails:
        raise LabError(f"{command[0]} ended with status {status}")
    return out + err


def prove(truth, text):
    if not truth:
        raise LabError("not true: " + text)
    say(f"proved: {text}")


def pairing(kvm1, kvm2):
    chapter("Two hosts get to know each other")
    print("kvm1# virt-replica peer-invite --name kvm2")
    token = kvm1.vr("peer-invite", "--name", "kvm2")["token"]
    say(f"{token[:40]}...   (one-time token, shown only here)")
    kvm2.write("/run/lab/token", token, 0o600)
    shell(kvm2, "virt-replica", "peer-join", "--token-file", "/run/lab/token", "--networks", "dr")
    shell(kvm1, "virt-replica", "peer-list")
    shell(kvm1, "virt-replica", "netmap-set", "kvm2", "prod", "dr")


def protection(kvm1, kvm2, guest):
    chapter("A guest writes numbered transactions, each to both of its disks")
    serial = guest.start().serial()
    serial.wait_ack(20)
    say(f"{guest.name} runs on kvm1; transaction {serial.acked} is on disk")

    chapter("Protect it, a recovery point every 2 seconds")
    kvm1.write("/run/lab/gold.conf", "[policy]\ninterval=2s\nrpo-target=10s\n")
    shell(kvm1, "virt-replica", "policy-define", "/run/lab/gold.conf")
    shell(kvm1, "virt-replica", "check", guest.name, "--to", "kvm2")
    shell(kvm1, "virt-replica", "protect", guest.name, "--to", "kvm2", "--policy", "gold")
    shell(kvm1, "virt-replica", "job-info", ops.newest_job(kvm1, "protect")["id"])

    chapter("Recovery points appear while it writes")
    seen, began = ops.points(kvm2, guest.name), time.monotonic()
    lab.wait_for(lambda: len(set(ops.points(kvm2, guest.name)) - set(seen)) >= 4, 20, "four more recovery points")
    seconds = time.monotonic() - began
    shell(kvm2, "virt-replica", "rp-list", guest.name)
    shell(kvm1, "virt-replica", "list")
    prove(seconds < 12, f"4 more points in {seconds:.1f} s, at an interval of 2 s")
    gap = serial.max_gap()
    prove(gap < 1, f"the guest's heartbeat (5 a second) was never late by more than {gap:.2f} s")


def consistency(kvm2, guest):
    chapter("Boot a copy of a recovery point")
    point = kvm2.vr("rp-list", guest.name)[-1]
    images = [f"{lab.STORE}/{guest.uuid}/{disk}/{point['number']}.qcow2" for disk in ("vda", "vdb")]
    say(f"point {point['number']} of {point['time']}, both disks, on overlays that are thrown away; its guest says:")
    vda, vdb = kvm2.boot_check(*images)
    say(f"FOUND vda={vda} vdb={vdb}, every block of them right")
    prove(vdb <= vda <= vdb + 1, "the two disks are of one instant (vdb is written right after vda)")


def failover(kvm1, kvm2, guest):
    chapter("Planned failover")
    serial = guest.serial()
    out = shell(kvm1, "virt-replica", "failover", guest.name, "--planned")
    job = kvm1.vr("job-info", ops.newest_job(kvm1, "failover")["id"])
    shell(kvm1, "virt-replica", "job-info", job["id"])
    last = serial.wait_line(r"^STOPPED (\d+)", 5)[1]
    replica = guest.moved_to(kvm2)
    first = replica.wait_line(r"^ACK (\d+)", 60)[1]
    say(f"last transaction of the source: {last}; found by the replica: {replica.found[-1]}; its first: {first}")
    prove(replica.found[-1] == (int(last), int(last)), "nothing was lost")
    prove(int(first) == int(last) + 1, f"the replica goes on with number {first}")
    prove(job["root_source"] == job["root_target"] and "equal" in out,
          f"the digest over all disks is equal on both hosts ({job['root_source'][:16]}...)")
    pause = min(t for t, line in replica.lines if line.startswith("ACK ")) - serial.last_ack_at
    prove(job["downtime_seconds"] < 30, f"downtime {job['downtime_seconds']:.1f} s by the job; "
          f"{pause:.1f} s between two transactions, the guest's boot included")


def ownership(kvm1, kvm2, guest):
    chapter("Only one of the two may run it")
    out = shell(kvm1, "virsh", "-q", "start", guest.name, fails=True)
    prove(re.search(r"failed over to 'kvm2'", out), "the old source refuses to start")
    prove(kvm1.virsh("domstate", guest.name) == "shut off" and kvm2.virsh("domstate", guest.name) == "running",
          "off on kvm1, running on kvm2")
    for host in (kvm1, kvm2):
        shell(host, "virt-replica", "list")
    prove("network='dr'" in kvm2.virsh("dumpxml", guest.name), "its network card is in kvm2's network 'dr'")


def main():
    kvm1, kvm2 = ops.reset()
    try:
        with Guest(kvm1, "shop", churn=512).define() as guest:
            pairing(kvm1, kvm2)
            protection(kvm1, kvm2, guest)
            consistency(kvm2, guest)
            failover(kvm1, kvm2, guest)
            ownership(kvm1, kvm2, guest)
            chapter(f"All of it took {time.monotonic() - BEGAN:.0f} s")
    except LabError as e:
        print(f"\nThe demonstration failed: {e}", flush=True)
        return 1
    finally:
        ops.reset()
    return 0


if __name__ == "__main__":
    sys.exit(main())

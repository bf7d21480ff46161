# SPDX-License-Identifier: LGPL-2.1-or-later
"""Protect, look at it, pause, change its policy, end it; what is interrupted goes on or leaves nothing."""
import os
import re
import time

import checker
import lab
import ops
from lab import Guest

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
NUMBER = (int, float)
OPTIONAL = type(None)


def check_keys(object_, **kinds):
    for key, kind in kinds.items():
        assert key in object_, f"no key {key!r} in {sorted(object_)}"
        if isinstance(kind, str):
            assert isinstance(object_[key], str) and re.fullmatch(kind, object_[key]), (key, object_[key])
        else:
            assert isinstance(object_[key], kind), (key, object_[key])
            assert not isinstance(object_[key], bool) or kind is bool, (key, object_[key])


def check_protection(object_, role):
    check_keys(object_, name=str, uuid=r"[0-9a-f-]{36}", role=role, state=str, health="ok|warning|critical",
               reasons=list, peer=str, store=str, policy=str, generation=str, rpo_seconds=(*NUMBER, OPTIONAL),
               last_rp=(dict, OPTIONAL), next_cycle=(str, OPTIONAL), job=(int, OPTIONAL))
    for reason in object_["reasons"]:
        check_keys(reason, code=r"[a-z-]+", message=str, since=TIME, action=str)
    if object_["last_rp"]:
        check_keys(object_["last_rp"], number=int, time=TIME, consistency="crash|app", root=r"[0-9a-f]{64}")


def check_job(object_, kind):
    check_keys(object_, id=int, kind=kind, domain=str, state="queued|running|waiting|completed|failed|cancelled",
               steps=list, progress=NUMBER, bytes_read=int, bytes_sent=int, started=TIME,
               ended=(str, OPTIONAL), error=(dict, OPTIONAL))
    assert 0 <= object_["progress"] <= 1
    for step in object_["steps"]:
        check_keys(step, name=str, state="pending|running|completed|failed", seconds=NUMBER)


def check_gone(guest, source, target):
    """Nothing of a protection is left on either host; the guest runs as ever."""
    for host in (source, target):
        assert host.vr("list", "--all") == [], host
        assert not [p for p in host.tree(ops.STATE) if guest.uuid in p], host
        assert not ops.rows(host)["rp"] and not ops.rows(host)["cycle"] and not ops.rows(host)["hold"], host
    assert not [p for p in target.tree(lab.STORE) if guest.uuid in p]
    judge = checker.Checker(guest.name, guest.uuid, source, target, guest)
    lab.wait_for(lambda: not source.virsh("checkpoint-list", guest.name, "--name"), 5, "no checkpoint")
    judge.check_source((0,))
    judge.check_guest()
    guest.serial().wait_ack(more=3)


def test_life_of_a_protection():
    with ops.protected(policy={"interval": "2s", "rpo_target": "10s"}) as (guest, source, target):
        job = ops.newest_job(source, "protect")
        check_job(job, "protect")
        assert [s["name"] for s in job["steps"]] == ["check", "create", "initial replication", "finalize"]
        assert all(s["state"] == "completed" for s in job["steps"]) and job["state"] == "completed"
        assert job["bytes_read"] > 0 and job["bytes_sent"] > 0 and job["ended"] and job["progress"] == 1
        for host, role in ((source, "source"), (target, "target")):
            listed = host.vr("list")
            assert [p["uuid"] for p in listed] == [guest.uuid]
            check_protection(listed[0], role)
            check_protection(host.vr("info", guest.name), role)
            assert host.vr("info", guest.uuid)["name"] == guest.name
        lab.wait_for(lambda: len(ops.points(target, guest.name)) >= 4, 15, "points every 2 s")
        for host in (source, target):
            points = host.vr("rp-list", guest.name)
            for point in points:
                check_keys(point, number=int, time=TIME, consistency="crash|app", root=r"[0-9a-f]{64}", bytes=int,
                           pinned=bool)
            assert host.vr("rp-info", guest.name, points[0]["number"])["root"] == points[0]["root"]
        assert source.vr("info", guest.name)["rpo_seconds"] < 6

        source.vr("pause", guest.name)  # nothing changes under the judge
        checker.Checker(guest.name, guest.uuid, source, target, guest).check(
            retention=True, open_cycles=1)  # the pause may have come in the middle of one
        ops.refused(source, 5, "protect", guest.name, "--to", "kvm2", code="already-protected", names=[guest.name])
        assert ops.state(source, guest.name) == "paused"
        stopped = ops.points(target, guest.name)
        time.sleep(4)
        assert ops.points(target, guest.name) == stopped, "a paused protection makes no points"
        ops.refused(source, 5, "sync", guest.name, names=["paused"])
        ops.refused(source, 5, "pause", guest.name, names=["paused"])
        source.vr("resume", guest.name)
        lab.wait_for(lambda: len(ops.points(target, guest.name)) > len(stopped), 10, "points again")
        source.vr_fails(5, "resume", guest.name, contains=["protected"])

        lab.define_policy(source, "test", interval="1h", rpo_target="2h")
        time.sleep(3)
        slow = len(ops.points(target, guest.name))
        time.sleep(4)
        assert len(ops.points(target, guest.name)) == slow, "the new interval holds at once"
        answer = source.vr("sync", guest.name)
        check_job(answer, "sync")
        assert len(ops.points(target, guest.name)) == slow + 1

        source.vr("unprotect", guest.name)
        check_gone(guest, source, target)


def test_protect_again():
    """What the target was sent in a protection's first life is gone with it; all of it comes again."""
    with ops.protected() as (guest, source, target):
        source.vr("unprotect", guest.name)
        check_gone(guest, source, target)
        source.vr("protect", guest.name, "--to", "kvm2")
        assert len(ops.points(target, guest.name)) >= 1


def test_policy_edited_by_hand():
    """What is saved takes hold at once; what cannot be read, or is gone, is refused and said, and what held before holds."""
    path = "/etc/virt-replica/policies/test.conf"
    with ops.protected(policy={"interval": "1h", "rpo_target": "2h"}) as (guest, source, target):
        def told():
            found = {r["code"]: r for r in source.vr("info", guest.name)["reasons"]}
            return found.get("policy-refused")

        def more_points():
            before = len(ops.points(target, guest.name))
            lab.wait_for(lambda: len(ops.points(target, guest.name)) > before + 1, 10, "points at the interval")
        source.write(path, "[policy]\ninterval = 1s\nrpo-target = 10s\n")
        more_points()
        for broken, words in (("[policy]\ninterval = soon\n", ("test.conf:2", "interval", "soon")),
                              ("[polici]\n", ("test.conf:1", "[policy]")), ("", ("test.conf:1", "[policy]"))):
            source.write(path, broken)
            reason = lab.wait_for(told, 5, f"{broken!r} is noticed")
            assert all(part in reason["message"] for part in (guest.name, *words)), reason
            lab.wait_for(lambda: words[0] in source.daemon_log(), 5, "the log says so")
        more_points()
        os.unlink(source.path(path))
        lab.wait_for(lambda: (told() or {"message": ""})["message"].endswith("there is no policy 'test'"), 5, "it is gone")
        more_points()
        lab.define_policy(source, "test", interval="1h", rpo_target="2h")
        lab.wait_for(lambda: not told(), 5, "it is right again")
        source.write(path, "[policy]\ninterval = soon\n")  # nothing is known to have held after a restart
        ops.restart(source)
        found = lab.wait_for(lambda: [r for r in source.vr("info", guest.name)["reasons"] if r["code"] == "blocked"], 15,
                             "it is blocked")
        assert "test.conf:2" in found[0]["message"], found
        before = len(ops.points(target, guest.name))
        source.write(path, "[policy]\ninterval = 1s\nrpo-target = 10s\n")
        lab.wait_for(lambda: len(ops.points(target, guest.name)) > before, 10, "it goes on by itself")


def test_excluded_disk():
    with ops.protected(exclude=["vdc"], extra_disks=["16M"]) as (guest, source, target):
        disks = {p.split("/")[-2] for p in target.tree(f"{lab.STORE}/{guest.uuid}")
                 if p.endswith(".qcow2") and "/incoming/" not in p}
        assert disks == {"vda", "vdb"}, disks
        source.vr("failover", guest.name, "--planned")
        assert "vdc" not in target.virsh("domblklist", guest.name)
        guest.moved_to(target).wait_line(r"^ACK ", 60)


def test_changed_while_it_goes_on():
    """Another policy, a disk less, and that disk again, of which alone all is sent; nothing is left on it meanwhile."""
    with ops.protected(extra_disks=["16M"], churn=32, area=4) as (guest, source, target):
        def disks():
            newest = ops.points(target, guest.uuid)[-1]
            return {p.split("/")[-2] for p in target.tree(f"{lab.STORE}/{guest.uuid}") if p.endswith(f"/{newest}.qcow2")}

        def bitmaps(disk):
            found = checker.Checker(guest.name, guest.uuid, source, target, guest).bitmaps()
            return [b for b in found[disk] if b.startswith(lab.PREFIX)]
        lab.define_policy(source, "fast", interval="1s", rpo_target="10s")
        ops.refused(source, 4, "policy-set", guest.name, "nosuch", code="no-such-policy")
        ops.refused(target, 5, "policy-set", guest.name, "fast", code="not-source", names=["kvm1"])
        source.vr("policy-set", guest.name, "fast")
        before = len(ops.points(target, guest.uuid))
        lab.wait_for(lambda: len(ops.points(target, guest.uuid)) > before + 2, 15, "the new interval holds")
        assert source.vr("info", guest.name)["policy"] == "fast"
        source.vr("policy-set", guest.name, "test")
        ops.refused(source, 4, "disk-exclude", guest.name, "vdx", code="no-such-disk", names=["vdx", guest.name])
        source.vr("sync", guest.name)
        assert disks() == {"vda", "vdb", "vdc"}
        ops.restart(source, VR_FAULT="S8:delay=3000")
        lab.wait_for(lambda: source.vr("info", guest.name)["cycle"], 20, "a cycle that a start begins with")
        source.vr("disk-exclude", guest.name, "vdc")
        assert source.vr("info", guest.name)["cycle"] is None, "disks changed in the middle of a cycle"
        ops.restart(source)
        source.vr("disk-exclude", guest.name, "vdc")  # as it is already
        source.vr("sync", guest.name)
        assert disks() == {"vda", "vdb"}, disks()
        assert not bitmaps("vdc") and bitmaps("vda"), (bitmaps("vdc"), bitmaps("vda"))
        source.vr("disk-include", guest.name, "vdc")
        job = source.vr("sync", guest.name)
        assert disks() == {"vda", "vdb", "vdc"}, disks()
        assert job["bytes_read"] < 24 << 20, job
        for disk in ("vda", "vdb"):
            source.vr("disk-exclude", guest.name, disk)
        source.vr_fails(5, "disk-exclude", guest.name, "vdc", code="no-disks")


def slow_replication(source, **options):
    """A guest whose initial replication takes long enough to be interrupted."""
    lab.define_policy(source, "slow", interval="1h", rpo_target="2h", bandwidth="1MiB/s", compression="off")
    guest = Guest(source, "slow", churn=1024, **options).define()
    guest.start().serial().wait_ack(40)
    return guest


def begin(source, guest):
    job = source.vr("protect", guest.name, "--to", "kvm2", "--policy", "slow", "--detach")["job"]
    lab.wait_for(lambda: source.vr("job-info", job)["bytes_sent"] > 1 << 20, 30, "some data sent")
    return job


def test_cancel_leaves_nothing():
    source, target = ops.paired()
    with slow_replication(source) as guest:
        job = begin(source, guest)
        began = time.monotonic()
        source.vr("job-cancel", job)
        assert ops.wait_job(source, job)["state"] == "cancelled"
        assert time.monotonic() - began < 15
        check_gone(guest, source, target)
        ops.refused(source, 5, "job-cancel", job, code="job-ended", names=[str(job)], action=False)
    ops.reset()


def test_changed_while_it_is_shut_off():
    """Nothing writes, and it is seen all the same: an edit, that it is gone, that it is back."""
    with ops.protected("edited", policy={"interval": "2s", "rpo_target": "1h"}, run=False) as (guest, source, target):
        lab.wait_for(lambda: source.vr("info", guest.name)["next_cycle"] is None, 30, "idle")
        edited = source.virsh("dumpxml", "--inactive", guest.name)
        edited = re.sub(r"<currentMemory.*?</currentMemory>", "<currentMemory unit='KiB'>102400</currentMemory>", edited)
        source.run("virsh", "-q", "define", "/dev/stdin", stdin=edited)

        def newest_xml():
            number = ops.points(target, guest.uuid)[-1]
            return target.read(f"{lab.STORE}/{guest.uuid}/rp/{number}/domain.xml")
        lab.wait_for(lambda: "102400</currentMemory>" in newest_xml(), 30, "the edit is on the target")
        lab.wait_for(lambda: source.vr("info", guest.name)["next_cycle"] is None, 30, "idle again")
        xml = source.virsh("dumpxml", "--inactive", guest.name)
        source.virsh("undefine", guest.name, "--checkpoints-metadata")
        lab.wait_for(lambda: source.vr("info", guest.uuid)["health"] == "critical", 30, "that it is gone is critical")
        source.run("virsh", "-q", "define", "/dev/stdin", stdin=xml)
        lab.wait_for(lambda: source.vr("info", guest.name)["health"] == "ok", 30, "it is back")


def test_server_is_slow_while_it_is_shut_off():
    """qemu-nbd has its socket some time before it listens there."""
    with ops.protected("off", run=False) as (guest, source, target):
        source.write("/run/lab/slow/qemu-nbd", "#!/bin/sh\nexec strace -D -f -o /dev/null -e trace=listen "
                     "-e inject=listen:delay_enter=300000 /usr/bin/qemu-nbd \"$@\"\n", mode=0o755)
        ops.restart(source, PATH="/run/lab/slow:/usr/sbin:/usr/bin:/sbin:/bin")
        source.vr("sync", guest.name)
        assert source.vr("info", guest.name)["last_error"] is None
        ops.restart(source)


def test_restart_goes_on():
    """The daemon of either host is killed within the initial replication."""
    source, target = ops.paired()
    with slow_replication(source) as guest:
        job = begin(source, guest)
        for host in (source, target):
            host.daemon("kill")
            host.daemon("start")
            time.sleep(1)
        lab.define_policy(source, "slow", interval="1h", rpo_target="2h")
        found = ops.wait_job(source, job, 150)
        assert found["state"] == "completed", found
        assert ops.state(source, guest.name) == "protected"
        lab.wait_for(lambda: source.vr("info", guest.name)["job"] is None, 10, "idle")
        checker.Checker(guest.name, guest.uuid, source, target, guest).check()
        source.vr("unprotect", guest.name)
        check_gone(guest, source, target)
    ops.reset()


def test_keep_replica():
    """Kept without end, whatever the target's grace; the target's own unprotect drops it."""
    with ops.protected() as (guest, source, target):
        points = ops.points(target, guest.name)
        source.vr("unprotect", guest.name, "--keep-replica")
        assert source.vr("list") == []
        kept = target.vr("info", guest.name)
        assert kept["kept"] and kept["kept_until"] is None and kept["health"] == "ok", kept
        assert ops.points(target, guest.name) == points
        target.vr("unprotect", guest.name)
        check_gone(guest, source, target)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fence: it comes back by itself, is known to work or not to work, and two owners are seen by both hosts."""
import contextlib
import json
import os
import re
import shutil
import time

import lab
import ops

HOOK = "/etc/libvirt/hooks/qemu.d/virt-replica"
FENCE = ops.STATE + "/fence"
DATABASE = ops.STATE + "/state.db"


def starts(host, guest):
    """What a person who tries to start it by hand gets: None if it starts, else the refusal."""
    status, _, err = host.run("virsh", "start", guest.name, check=False)
    return None if status == 0 else err


def record(host, guest):
    """What its fence record says, None without one."""
    if not host.exists(f"{FENCE}/{guest.uuid}"):
        return None
    return dict(re.findall(r"^(\w+) = (.*)$", host.read(f"{FENCE}/{guest.uuid}"), re.M))


def reasons(host, guest):
    """{code: reason} of its health."""
    return {r["code"]: r for r in host.vr("info", guest.name)["reasons"]}


def critical(host, guest, code, timeout=45):
    """Until info says so; returns the reason, which proposes something."""
    found = lab.wait_for(lambda: reasons(host, guest).get(code), timeout, f"{code} on {host}", 0.3)
    assert found["severity"] == "critical" and guest.name in found["message"] and found["action"], found
    assert host.vr("info", guest.name)["health"] == "critical"
    return found


def check(source, guest):
    """{code: finding} of both hosts; there are errors, so it fails."""
    status, out, _ = source.run("virt-replica", "--json", "check", guest.name, "--to", "kvm2", check=False)
    answer = json.loads(out)
    assert status == 5 and not answer["ok"], answer
    return {f["code"]: f for f in answer["findings"]}


def fresh(host):
    """status, not from what somebody has asked just before."""
    time.sleep(3.2)
    return host.vr("status")


@contextlib.contextmanager
def stopped(host):
    """The daemon is down for as long as this is entered."""
    host.daemon("stop")
    try:
        yield
    finally:
        host.daemon("start")


def lose_fence(host):
    shutil.rmtree(host.path(FENCE))


def fail_over(guest, source, target):
    source.vr("failover", guest.name, "--planned", timeout=180)
    return guest.moved_to(target)


def test_records_come_back():
    """Whatever happened to the directory, and with libvirt started before the daemon."""
    with ops.protected(run=False) as (guest, source, target):
        assert record(target, guest)["state"] == "replica"
        with stopped(target):
            lose_fence(target)
        assert record(target, guest)["state"] == "replica", "the replica's record is not written at start"
        fail_over(guest, source, target)
        assert record(target, guest) is None and "must not run here" in starts(source, guest)
        with stopped(source):
            lose_fence(source)
            source.libvirtd("stop")
            source.libvirtd("start")
        assert "must not run here" in (starts(source, guest) or ""), "it is started twice"
        lose_fence(source)
        lab.wait_for(lambda: record(source, guest), 45, "a record that is lost is written again", 0.3)
        assert record(source, guest)["generation"] == source.vr("info", guest.name)["generation"]
        # what the owner must not have, it does not get
        with stopped(target):
            pass
        assert record(target, guest) is None and guest.state(target) == "running"


def test_full_or_unwritable():
    """A record that cannot be written is said, and written when it can be."""
    with ops.protected(run=False) as (guest, source, target):
        with stopped(target):
            lose_fence(target)
            target.write(FENCE, "in the way\n")
        try:
            reason = critical(target, guest, "fence-record")
            assert "cannot be written" in reason["message"], reason
            assert any(f["code"] == "fence-record" for f in target.vr("status")["findings"])
            found = check(source, guest)
            assert found["fence-not-writable"]["severity"] == "error", found
        finally:
            os.unlink(target.path(FENCE))
        lab.wait_for(lambda: record(target, guest), 45, "the record is written", 0.3)
        lab.wait_for(lambda: "fence-record" not in reasons(target, guest), 20, "and nothing is wrong any more", 0.3)


def test_database_lost():
    """A host that has forgotten everything unfences nothing."""
    with ops.protected(run=False) as (guest, source, target):
        fail_over(guest, source, target)
        with stopped(source):
            for name in ("state.db", "state.db-wal", "state.db-shm"):
                if source.exists(f"{ops.STATE}/{name}"):
                    os.unlink(source.path(f"{ops.STATE}/{name}"))
        found = [f for f in source.vr("status")["findings"] if f["code"] == "fence-record"]
        assert len(found) == 1 and guest.uuid in found[0]["message"] and guest.uuid in found[0]["action"], found
        assert "must not run here" in starts(source, guest)
        assert guest.uuid in source.run("virt-replica", "status")


def check_inactive(host, guest, source, cause, command):
    status = fresh(host)
    assert status["fence"] == "inactive" and status["fence_checked"], status
    finding = next(f for f in status["findings"] if f["code"] == "fence-inactive")
    assert cause in finding["message"] and command in finding["action"], finding
    assert "inactive" in host.run("virt-replica", "status")
    reason = critical(host, guest, "fence-inactive", 1)
    assert command in reason["action"], reason
    found = check(source, guest)
    assert found["fence-inactive"]["severity"] == "error" and command in found["fence-inactive"]["action"], found
    error = source.vr_fails(5, "failover", guest.name, "--planned", contains=[guest.name])
    assert error.action and ops.state(source, guest.name) == "protected", error


def check_active(host, guest):
    status = fresh(host)
    assert status["fence"] == "active" and not status["findings"], status
    assert "fence-inactive" not in reasons(host, guest)


def test_hook_not_called():
    """Both sides, each cause with its own command, and well again without a restart of ours."""
    with ops.protected(run=False) as (guest, source, target):
        for host in (source, target):
            check_active(host, guest)
            host.run("chmod", "644", HOOK)
            try:
                check_inactive(host, guest, source, "not executable", "chmod 755 " + HOOK)
            finally:
                host.run("chmod", "755", HOOK)
            check_active(host, guest)
        target.run("mv", HOOK, "/root/hook")
        try:
            target.libvirtd("stop")
            target.libvirtd("start")
            lab.wait_for(lambda: reasons(target, guest).get("fence-inactive"), 30, "noticed by itself", 0.3)
            check_inactive(target, guest, source, "there is no hook", "systemctl reload libvirtd")
        finally:
            target.run("sh", "-c", f"cp /root/hook {HOOK} && rm /root/hook")
        check_inactive(target, guest, source, "looks for hooks only when it starts", "systemctl reload libvirtd")
        target.run("sh", "-c", "kill -HUP $(cat /run/lab/libvirtd.pid)")
        check_active(target, guest)


def test_status_with_libvirt_that_hangs():
    """It answers, and does not say what it does not know."""
    with ops.protected(run=False) as (guest, source, target):
        pid = int(target.read("/run/lab/libvirtd.pid"))
        target.run("kill", "-STOP", pid)
        try:
            began = time.monotonic()
            status = fresh(target)
            assert status["fence"] == "unknown" and time.monotonic() - began < 30, status
            assert any(f["code"] == "fence-unknown" for f in status["findings"]), status
        finally:
            target.run("kill", "-CONT", pid)
        lab.wait_for(lambda: fresh(target)["fence"] == "active", 60, "active again")


def old_database(host, keep):
    """keep: the database as it was; written back with the daemon down."""
    for name in ("state.db-wal", "state.db-shm"):
        if host.exists(f"{ops.STATE}/{name}"):
            os.unlink(host.path(f"{ops.STATE}/{name}"))
    shutil.copy(keep, host.path(DATABASE))


def copy_database(host, name):
    """With the daemon down. Kept outside of the host's directories."""
    keep = f"{lab.LAB_DIR}/{host.name}/{name}"
    shutil.copy(host.path(DATABASE), keep)
    return keep


def test_long_source_returns_from_an_old_backup():
    """It does not know that it was failed over. What it wrote itself is believed, what the peer says is not."""
    with ops.protected(run=False) as (guest, source, target):
        with stopped(source):
            before = copy_database(source, "before.db")
        fail_over(guest, source, target)
        generation = target.vr("info", guest.name)["generation"]
        lab.wait_for(lambda: record(source, guest)["generation"] == generation, 45, "its record names the new one", 0.3)

        # the fence record still stands: evidence of its own, so it learns
        with stopped(source):
            after = copy_database(source, "after.db")
            old_database(source, before)
        lab.wait_for(lambda: ops.state(source, guest.name) == "failed-over", 45, "learned", 0.3)
        info = source.vr("info", guest.name)
        assert info["generation"] == generation and not info["owner"], info
        assert "must not run here" in starts(source, guest) and guest.state(target) == "running"
        assert "two-owners" not in reasons(target, guest)

        # nothing of its own: both say so, nobody is touched
        with stopped(source):
            old_database(source, before)
            lose_fence(source)
            assert starts(source, guest) is None
        for host in (source, target):
            reason = critical(host, guest, "two-owners")
            assert "'kvm1'" in reason["message"] and "'kvm2'" in reason["message"], reason
        time.sleep(5)
        assert [guest.state(host) for host in (source, target)] == ["running", "running"]
        assert ops.state(source, guest.name) == "protected" and record(source, guest) is None

        # its own database says that it was failed over: the stale one is suspended, once
        with stopped(source):
            old_database(source, after)
        critical(source, guest, "two-owners")
        lab.wait_for(lambda: guest.state(source) == "paused", 30, "the stale domain is suspended")
        critical(target, guest, "two-owners")
        assert record(source, guest)["state"] == "failed-over" and guest.state(target) == "running"
        source.virsh("resume", guest.name)
        time.sleep(5)
        source.run("virsh", "suspend", guest.name)
        source.run("virsh", "resume", guest.name)
        time.sleep(35)
        assert guest.state(source) == "running", "an operator who resumes it is not obeyed"
        source.run("virsh", "destroy", guest.name)
        for host in (source, target):
            lab.wait_for(lambda: "two-owners" not in reasons(host, guest), 45, "and is over on " + host.name, 0.3)
        assert "must not run here" in starts(source, guest)


def test_record_that_nobody_needs_goes():
    """Left by a failover that could not be undone completely: both hosts agree on the owner, so it may start."""
    with ops.protected(run=False) as (guest, source, target):
        generation = source.vr("info", guest.name)["generation"]
        with stopped(source):
            source.write(f"{FENCE}/{guest.uuid}", "[fence]\nstate = failed-over\npeer = kvm2\n"
                         f"since = 2026-01-01T00:00:00Z\ngeneration = {generation}\n")
            assert "must not run here" in starts(source, guest)
            target.daemon("stop")
        assert record(source, guest), "taken away without asking the other host"
        critical(source, guest, "fence-record")
        target.daemon("start")
        lab.wait_for(lambda: record(source, guest) is None, 45, "the record goes", 0.3)
        assert "fence-record" not in reasons(source, guest) and starts(source, guest) is None

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store alone is enough: a target whose database is gone or damaged gets its replicas back."""
import contextlib
import os
import shutil
import time
import uuid as uuidlib

import checker
import lab
import ops
import protected

DB = f"{ops.STATE}/state.db"


def notices(host):
    return [n["code"] for n in host.vr("status")["findings"] if not n["code"].startswith("fence-")]


def test_database_gone():
    with ops.protected(run=False, churn=0, extra_disks=["48M"]) as (guest, source, target):
        protected.fill_protected(source, guest, "vdc", "32M")
        source.vr("sync", guest.name)
        assert protected.stored_bytes(target, guest) > 32 << 20
        guest.start().serial().wait_ack(5)
        for _ in range(2):
            source.vr("sync", guest.name)
        source.vr("pause", guest.name)
        lab.wait_for(lambda: source.vr("info", guest.name)["job"] is None, 10, "idle")
        before = target.vr("rp-list", guest.name)
        assert notices(target) == [] and len(before) >= 3
        assert [e["state"] for e in target.vr("store-scan", "default")] == ["known"]

        target.daemon("stop")
        os.unlink(target.path(DB))
        shutil.rmtree(target.path(f"{ops.STATE}/manifests"))
        said = len(target.daemon_log())
        target.daemon("start")
        assert notices(target) == ["state-made-anew", "replicas-orphaned"]
        assert "store-scan default" in target.daemon_log()[said:] and DB in target.daemon_log()[said:]
        assert target.vr("list") == []
        found, = target.vr("store-scan", "default")
        assert (found["state"], found["uuid"], found["name"], found["points"], found["paired"], found["peer"]) == (
            "orphaned", guest.uuid, guest.name, len(before), False, source.name), found
        assert found["newest"] == before[-1]["time"] and found["bytes"] > 1 << 20, found
        assert guest.name in target.vr_text("store-scan", "default")
        ops.refused(target, 5, "store-scan", "default", "--adopt", guest.name, code="peer-unknown",
                    names=[source.name, "peer-invite"])

        source.vr("peer-join", target.vr("peer-invite", "--name", source.name, "--networks", target.network)["token"],
                  "--name", target.name)
        assert notices(target) == ["state-made-anew", "replicas-orphaned"]
        ops.refused(target, 4, "store-scan", "default", "--adopt", "nobody", code="no-such-replica", names=["nobody"])
        assert target.vr("store-scan", "default", "--adopt", guest.name) == [
            {"uuid": guest.uuid, "name": guest.name, "was_known": False}]
        assert target.vr("store-scan", "default", "--adopt", guest.uuid) == [
            {"uuid": guest.uuid, "name": guest.name, "was_known": True}], "again"
        assert target.vr("store-scan", "default", "--adopt-all") == []
        assert notices(target) == []
        ops.refused(target, 5, "store-scan", "default", "--drop", guest.uuid, code="replica-known", names=[guest.name])
        assert target.vr("rp-list", guest.name) == before
        assert ops.state(target, guest.name) == "protected"
        assert target.exists(f"{ops.STATE}/fence/{guest.uuid}")

        source.vr("resume", guest.name)
        job = source.vr("sync", guest.name)
        assert job["bytes_sent"] < 16 << 20, job
        points = target.vr("rp-list", guest.name)
        assert points[:len(before)] == before and len(points) > len(before), points
        checker.Checker(guest.name, guest.uuid, source, target, guest).check()
        lab.set_delete_grace(target, 0)
        source.vr("failover", guest.name, "--planned")
        guest.moved_to(target).wait_line(r"^ACK ", 90)


def test_database_of_the_source_gone():
    """Its replica takes it back: paired and protected again, without a full copy and with all recovery points."""
    with ops.protected(run=False, churn=0, extra_disks=["48M"]) as (guest, source, target):
        protected.fill_protected(source, guest, "vdc", "32M")
        source.vr("sync", guest.name)
        guest.start().serial().wait_ack(5)
        source.vr("sync", guest.name)
        before = target.vr("rp-list", guest.name)
        source.daemon("stop")
        os.unlink(source.path(DB))
        shutil.rmtree(source.path(f"{ops.STATE}/manifests"))
        source.daemon("start")
        assert "state-made-anew" in notices(source)
        source.vr("peer-join", target.vr("peer-invite", "--name", source.name, "--networks", target.network)["token"],
                  "--name", target.name)
        source.vr("netmap-set", target.name, source.network, target.network)
        lab.set_delete_grace(target, 0)
        ops.restart(source, VR_FAULT="S7:delay=5000")
        job = source.vr("protect", guest.name, "--to", target.name, "--policy", "test", "--detach")["job"]
        lab.wait_for(lambda: [p for p in source.vr("list") if p["cycle"]], 20, "the first cycle")
        source.vr("job-cancel", job)
        assert ops.wait_job(source, job)["state"] == "cancelled"
        assert target.vr("rp-list", guest.name) == before and target.vr("info", guest.name)["kept"], "one that gives up"
        ops.restart(source)
        job = source.vr("protect", guest.name, "--to", target.name, "--policy", "test")
        assert job["bytes_sent"] < 16 << 20, job
        points = target.vr("rp-list", guest.name)
        assert points[:len(before)] == before and len(points) > len(before), points
        assert ops.state(source, guest.name) == ops.state(target, guest.name) == "protected"
        # a cycle follows the first one at once, and has two for a moment
        lab.wait_for(lambda: len(source.virsh("checkpoint-list", guest.name, "--name").split()) == 1, 20,
                     "no checkpoint of before is left")
        checker.Checker(guest.name, guest.uuid, source, target, guest).check()
        source.vr("failover", guest.name, "--planned")
        guest.moved_to(target).wait_line(r"^ACK ", 90)


@contextlib.contextmanager
def made_of(host, guest):
    """A running domain of somebody, whose disk is two images above a layer of the replica."""
    middle, top = f"{lab.IMAGES}/middle.qcow2", f"{lab.IMAGES}/top.qcow2"
    for path, below in ((middle, f"{lab.STORE}/{guest.uuid}/vda/1.qcow2"), (top, middle)):
        host.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below, path)
    host.write("/run/lab/tester.xml", f"""<domain type='qemu'><name>tester</name><memory unit='MiB'>64</memory>
      <os><type>hvm</type></os><devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='{top}'/><target dev='vdc' bus='virtio'/></disk></devices></domain>""")
    host.virsh("define", "/run/lab/tester.xml")
    try:
        yield
    finally:
        host.virsh("undefine", "tester")


def test_unprotected_while_a_layer_is_used():
    """What somebody has built over a layer is not pulled away from under it, whoever ends the protection."""
    with ops.protected(run=False, churn=0) as (guest, source, target):
        source.vr("sync", guest.name)
        lab.set_delete_grace(target, 0)
        with made_of(target, guest):
            error = source.vr_fails(5, "unprotect", guest.name, code="replica-in-use", contains=["tester", "kvm2"])
            assert error.action, error
            assert target.exists(f"{lab.STORE}/{guest.uuid}/vda/1.qcow2") and ops.points(target, guest.name)
            reason, = [r for r in source.vr("info", guest.name)["reasons"] if r["code"] == "unprotect-unfinished"]
            assert guest.name in reason["message"] and reason["action"], reason
        source.vr("unprotect", guest.name)
        assert not target.exists(f"{lab.STORE}/{guest.uuid}")


def test_database_older_than_the_store():
    """state.db of the target is put back from a backup: nothing is lost, and the operator is told what to do, once."""
    with ops.protected(run=False, churn=0, extra_disks=["8M"]) as (guest, source, target):
        source.vr("sync", guest.name)
        target.daemon("stop")
        shutil.copy2(target.path(DB), target.path(f"{DB}.backup"))
        target.daemon("start")
        for _ in range(2):
            protected.fill_protected(source, guest, "vdc", "8M")
            source.vr("sync", guest.name)
        before = target.vr("rp-list", guest.name)
        layers = ops.layers(target, guest.uuid)
        target.daemon("stop")
        os.replace(target.path(f"{DB}.backup"), target.path(DB))
        said = len(target.daemon_log())
        target.daemon("start")
        info = target.vr("info", guest.name)
        reason, = (r for r in info["reasons"] if r["code"] == "replica-unusable")
        assert info["health"] == "critical" and f"store-scan default --adopt {guest.uuid}" in reason["action"], info
        error = source.vr_fails(1, "sync", guest.name, code="state-older-than-store")
        assert "--adopt" in str(error), error
        found, = target.vr("store-scan", "default")
        assert (found["state"], found["points"]) == ("newer", len(before)), found
        time.sleep(11)  # two turns of the daemon's maintenance
        log = target.daemon_log()[said:]
        assert log.count("the state database is older") <= 2, log
        assert ops.layers(target, guest.uuid) == layers
        assert target.vr("store-scan", "default", "--adopt-all") == [
            {"uuid": guest.uuid, "name": guest.name, "was_known": False}]
        assert target.vr("rp-list", guest.name) == before
        assert target.exists(f"{ops.STATE}/fence/{guest.uuid}")
        lab.wait_for(lambda: len(target.vr("rp-list", guest.name)) > len(before), 30, "the source goes on by itself")
        for host in (source, target):
            lab.wait_for(lambda h=host: h.vr("info", guest.name)["health"] == "ok", 20, f"{host.name} is content")
        checker.Checker(guest.name, guest.uuid, source, target, guest).check()


def test_no_new_replica_over_a_lost_one():
    """The source has forgotten as well: protect does not begin over what lies there, and names the ways out."""
    with ops.protected() as (guest, source, target):
        source.vr("pause", guest.name)  # the cycle behind the first is not under way any more
        before = ops.layers(target, guest.uuid)
        for host in (source, target):
            host.daemon("stop")
            os.unlink(host.path(DB))
            shutil.rmtree(host.path(f"{ops.STATE}/manifests"))
        for uuid in source.virsh("checkpoint-list", guest.name, "--name").split():
            source.virsh("checkpoint-delete", guest.name, uuid)
        for host in (source, target):
            host.daemon("start")
        lab.pair(source, target)
        error = ops.refused(source, 5, "protect", guest.name, "--to", "kvm2", code="replica-orphaned",
                            names=["default"])
        assert guest.uuid in error.action and "--adopt" in error.action, error.action
        assert ops.layers(target, guest.uuid) == before and target.vr("list") == []
        ops.refused(target, 4, "store-scan", "default", "--drop", str(uuidlib.uuid4()), code="no-such-replica")
        os.rename(target.path(f"{lab.STORE}/{guest.uuid}/vda/1.qcow2"), target.path(f"{lab.STORE}/away"))
        found, = target.vr("store-scan", "default")
        assert found["state"] == "damaged" and "vda/1.qcow2" in found["damage"], found
        ops.refused(target, 5, "store-scan", "default", "--adopt", guest.uuid, code="replica-damaged",
                    names=["vda/1.qcow2"])
        os.rename(target.path(f"{lab.STORE}/away"), target.path(f"{lab.STORE}/{guest.uuid}/vda/1.qcow2"))
        with made_of(target, guest):
            ops.refused(target, 5, "store-scan", "default", "--drop", guest.uuid, code="replica-in-use",
                        names=["tester", "vdc"])
            assert ops.layers(target, guest.uuid) == before
        target.vr("store-scan", "default", "--drop", guest.uuid)
        assert not target.exists(f"{lab.STORE}/{guest.uuid}") and target.vr("store-scan", "default") == []
        source.vr("protect", guest.name, "--to", "kvm2")
        source.vr("unprotect", guest.name)


def refuses_to_start(host, what):
    said = len(host.daemon_log())
    try:
        host.daemon("start")
    except lab.CommandError:
        pass
    else:
        raise lab.LabError(f"the daemon started with a database that is {what}")
    words = host.daemon_log()[said:]
    assert all(part in words for part in (DB, "damaged", "backup", "store-scan")) or (
        DB in words and "store-scan" in words), (what, words[-600:])


def test_damaged_database():
    with ops.protected() as (guest, source, target):
        source.vr("pause", guest.name)
        lab.wait_for(lambda: source.vr("info", guest.name)["job"] is None, 10, "idle")
        before = target.vr("rp-list", guest.name)
        target.daemon("stop")
        with open(target.path(DB), "rb") as f:
            whole = f.read()
        pages = len(whole) // 4096
        damages = {"empty": b"", "cut": whole[:len(whole) // 2]}
        for page in (1, pages // 2, pages - 1):
            damages[f"garbage in page {page}"] = whole[:page * 4096] + os.urandom(4096) + whole[(page + 1) * 4096:]
        for what, content in damages.items():
            with open(target.path(DB), "wb") as f:
                f.write(content)
            refuses_to_start(target, what)
            with open(target.path(DB), "rb") as f:
                assert f.read() == content, "nothing was changed"
        with open(target.path(DB), "wb") as f:
            f.write(whole)
        target.daemon("start")
        assert target.vr("rp-list", guest.name) == before
        source.vr("resume", guest.name)
        source.vr("sync", guest.name)

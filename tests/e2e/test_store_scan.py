# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store alone is enough: a target whose database is gone or damaged gets its replicas back."""
import os
import shutil
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
        protected.fill(source, guest.disk("vdc"), "32M")
        assert source.vr("sync", guest.name)["bytes_sent"] > 32 << 20
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
        assert target.vr("store-scan", "default", "--adopt", guest.name) == [{"uuid": guest.uuid}]
        assert target.vr("store-scan", "default", "--adopt", guest.uuid) == [{"uuid": guest.uuid}], "again"
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
        os.unlink(target.path(f"{lab.STORE}/away"))
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

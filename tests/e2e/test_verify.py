# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is stored is what was proven: a flipped byte, a missing and a cut layer are found before a guest is shut down."""
import json
import os
import re
import shutil
import struct
import subprocess

import lab
import ops
from lab import wait_for
from test_planned_failover import check_moved

CHUNK = 65536
OFFSET = 0x00fffffffffffe00


def layer(host, guest, disk, number):
    return host.path(f"{lab.STORE}/{guest.uuid}/{disk}/{number}.qcow2")


def entries(path):
    """{chunk: file offset} of the data clusters of one qcow2 file, read without any program of ours."""
    found = {}
    with open(path, "rb") as f:
        f.seek(36)
        l1_size, l1 = struct.unpack(">IQ", f.read(12))
        f.seek(l1)
        tables = struct.unpack(f">{l1_size}Q", f.read(8 * l1_size))
        for i, table in enumerate(tables):
            if not table & OFFSET:
                continue
            f.seek(table & OFFSET)
            for k, entry in enumerate(struct.unpack(">8192Q", f.read(CHUNK))):
                if entry & OFFSET:
                    found[i * 8192 + k] = entry & OFFSET
    return found


def flip(host, guest, disk="vda"):
    """One bit of a chunk that shows in the newest recovery point, of the lowest layer that has one. Returns (layer, chunk)."""
    numbers, above, shown = ops.points(host, guest.uuid), set(), {}
    for number in reversed(numbers):
        mine = entries(layer(host, guest, disk, number))
        shown = {chunk: offset for chunk, offset in mine.items() if chunk not in above} or shown
        above |= set(mine)
        lowest = number if set(shown) <= set(mine) else lowest
    chunk, offset = max(shown.items())
    with open(layer(host, guest, disk, lowest), "r+b") as f:
        f.seek(offset + 1234)
        byte = f.read(1)[0]
        f.seek(offset + 1234)
        f.write(bytes([byte ^ 0x10]))
    return lowest, chunk


def codes(host, guest):
    info = host.vr("info", guest.name)
    return {r["code"]: r for r in info["reasons"]}, info["health"]


def assert_running(guest, source, target):
    """It was not even asked to shut down."""
    assert guest.state(source) == "running"
    status, out, _ = target.virsh("domstate", guest.name, check=False)
    assert status != 0 or out.strip() == "shut off", out
    assert "STOPPED" not in guest.serial(source).text()
    guest.serial(source).wait_ack(more=5)


def refused(guest, source, target, *options):
    status, out, err = source.run("virt-replica", "failover", guest.name, "--planned", *options, check=False,
                                  timeout=120)
    assert status != 0, out
    assert_running(guest, source, target)
    assert ops.state(source, guest.name) == "protected"
    return out + err


def test_flipped_byte():
    with ops.protected("flipped", churn=64, area=4) as (guest, source, target):
        source.vr("sync", guest.name)
        found = source.vr("verify", guest.name)["result"]
        assert found["bytes_compared"] > 0 and found["layers_read"] >= 4 and found["bad_chunks"] == 0, found
        newest = target.vr("rp-list", guest.name)[-1]
        assert newest["verified"] and not newest["damaged"], newest
        number, chunk = flip(target, guest)
        text = source.vr_fails(5, "verify", guest.name, code="replica-damaged")
        assert "vda" in str(text), text
        for host in (source, target):
            reasons, health = codes(host, guest)
            assert health == "critical" and "1 chunks of disk 'vda'" in reasons["replica-damaged"]["message"], reasons
        points = target.vr("rp-list", guest.name)
        assert all(p["damaged"] for p in points), points
        assert "damaged" in refused(guest, source, target)
        assert "damaged" in refused(guest, source, target, "--no-verify")
        job = source.vr("sync", guest.name)  # the chunk, and what the guest has written meanwhile
        assert job["bytes_sent"] < 16 << 20, job
        for host in (source, target):
            assert "replica-damaged" not in codes(host, guest)[0]
        points = target.vr("rp-list", guest.name)
        assert points[0]["damaged"] and not points[-1]["damaged"], points
        found = target.vr("verify", guest.name)["result"]
        assert found["rp"] == points[-1]["number"] and found["damaged_chunks"] == 0, found
        target.vr_fails(5, "verify", guest.name, "--rp", str(points[0]["number"]), code="replica-damaged")
        job = source.vr("failover", guest.name, "--planned")
        check_moved(guest, source, target, job)


def test_not_known_before():
    """Nobody has looked: the failover does."""
    with ops.protected("unknown") as (guest, source, target):
        source.vr("sync", guest.name)
        flip(target, guest)
        assert "damaged" in refused(guest, source, target)
        assert "replica-damaged" in codes(target, guest)[0]
        source.vr("sync", guest.name)
        check_moved(guest, source, target, source.vr("failover", guest.name, "--planned"))


def test_flipped_attachment():
    """A file beside the disks, which all recovery points share: the cycles send it again by themselves."""
    with ops.protected("flipped-file", policy={"interval": "3s", "rpo_target": "1h"}) as (guest, source, target):
        source.vr("sync", guest.name)
        directory = target.path(f"{lab.STORE}/{guest.uuid}/attachments")
        path = max((f"{directory}/{name}" for name in os.listdir(directory)), key=os.path.getsize)
        with open(path, "r+b") as f:
            f.seek(4096)
            byte = f.read(1)[0]
            f.seek(4096)
            f.write(bytes([byte ^ 1]))
        target.vr_fails(5, "verify", guest.name, code="replica-damaged")
        damaged = [p["number"] for p in target.vr("rp-list", guest.name) if p["damaged"]]
        assert damaged[0] == 1, damaged
        wait_for(lambda: not target.vr("rp-list", guest.name)[-1]["damaged"], 30, "a cycle mends it")
        wait_for(lambda: "replica-damaged" not in codes(source, guest)[0], 30, "the source knows it")
        assert "blocked" not in codes(source, guest)[0], codes(source, guest)
        assert not any(p["damaged"] for p in target.vr("rp-list", guest.name)), "the older ones have it as well"
        target.vr("verify", guest.name, "--rp", "1")
        check_moved(guest, source, target, source.vr("failover", guest.name, "--planned"))


def test_store_away_for_a_while():
    """Its file system is not mounted: both sides say so, and once it is all goes on by itself, without a full copy."""
    with ops.protected("away", policy={"interval": "2s", "rpo_target": "1h"}) as (guest, source, target):
        source.vr("sync", guest.name)
        path = target.path(f"{lab.STORE}/{guest.uuid}")
        os.rename(path, path + ".unmounted")
        for restarted in (False, True):
            if restarted:
                ops.restart(target)
            wait_for(lambda: codes(target, guest)[1] == "critical", 20, "the target says it")
            wait_for(lambda: codes(source, guest)[1] == "critical", 20, "the source says it")
            assert "replica-unusable" in codes(target, guest)[0], codes(target, guest)
            assert not os.path.exists(path), "nothing is made where it was"
        os.rename(path + ".unmounted", path)
        newest = ops.points(target, guest.uuid)[-1]
        wait_for(lambda: ops.points(target, guest.uuid)[-1] > newest, 30, "it goes on by itself")
        job = source.vr("sync", guest.name)
        assert job["bytes_read"] < 8 << 20, job
        for host in (source, target):
            assert codes(host, guest)[1] == "ok", codes(host, guest)
        assert not any(p["damaged"] for p in target.vr("rp-list", guest.name))


def test_missing_and_cut():
    with ops.protected("cut") as (guest, source, target):
        source.vr("sync", guest.name)
        path = layer(target, guest, "vda", ops.points(target, guest.uuid)[0])
        os.rename(path, path + ".away")
        assert "damaged" in refused(guest, source, target) or "layer" in refused(guest, source, target)
        os.rename(path + ".away", path)
        shutil.copy2(path, path + ".whole")
        os.truncate(path, os.stat(path).st_size // 2)
        for options in ((), ("--no-verify",)):
            assert "layer" in refused(guest, source, target, *options)
        os.rename(path + ".whole", path)
        target.run("chmod", "0400", f"{lab.STORE}/{guest.uuid}/vda/{os.path.basename(path)}")
        check_moved(guest, source, target, source.vr("failover", guest.name, "--planned"))


def test_lost_layers():
    """They do not come back: all of the disk is sent again, the newest point is whole within a cycle."""
    with ops.protected("lost", churn=64, area=4) as (guest, source, target):
        source.vr("sync", guest.name)
        numbers = ops.points(target, guest.uuid)
        os.unlink(layer(target, guest, "vda", numbers[0]))
        assert "layer" in refused(guest, source, target)
        for host in (source, target):
            wait_for(lambda h=host: "replica-damaged" in codes(h, guest)[0], 10, f"{host.name} knows of it")
        source.vr("sync", guest.name)
        newest = ops.points(target, guest.uuid)[-1]
        sums = target.path(f"{lab.STORE}/{guest.uuid}/vdb/{newest}.sums")
        for host in (source, target):
            assert "replica-damaged" not in codes(host, guest)[0]
        found = target.vr("verify", guest.name)["result"]
        assert found["rp"] == newest and found["damaged_chunks"] == found["layers_unreadable"] == 0, found
        chain = re.findall(r"^image: (.*)$", target.run(
            "qemu-img", "info", "-U", "-f", "qcow2", "--backing-chain",
            f"{lab.STORE}/{guest.uuid}/vda/{newest}.qcow2"), re.M)
        assert len(chain) == 1, chain
        os.truncate(sums, os.stat(sums).st_size - 7)  # of the other disk: only reading it finds that
        target.vr_fails(5, "verify", guest.name, code="replica-damaged")
        source.vr("sync", guest.name)
        assert "replica-damaged" not in codes(target, guest)[0]
        check_moved(guest, source, target, source.vr("failover", guest.name, "--planned"))


def damage(host, guest, kind):
    """One kind of damage to what the newest recovery point stands on."""
    numbers = ops.points(host, guest.uuid)
    home = host.path(f"{lab.STORE}/{guest.uuid}")
    lowest, newest = (f"{home}/vda/{n}" for n in (numbers[0], numbers[-1]))
    if kind == "flip":
        flip(host, guest)
    elif kind == "layer":
        os.unlink(f"{lowest}.qcow2")
    elif kind == "head":
        os.unlink(f"{newest}.qcow2")
    elif kind == "cut":
        os.truncate(f"{lowest}.qcow2", os.stat(f"{lowest}.qcow2").st_size // 2)
    elif kind == "digests":
        os.truncate(f"{newest}.sums", max(os.stat(f"{newest}.sums").st_size - 7, 1))
    elif kind == "disk":
        shutil.rmtree(f"{home}/vdb", ignore_errors=True)  # beside retention
    elif kind == "index":
        os.unlink(f"{home}/manifest.json")
    elif kind == "definition":
        os.unlink(f"{home}/rp/{numbers[-1]}/domain.xml")
    elif kind == "header":
        with open(f"{newest}.qcow2", "r+b") as f:
            f.write(bytes(64))


def whole_again(host, guest):
    """Nothing that is known and nothing that reading finds is wrong with the newest recovery point."""
    newest = host.vr("rp-list", guest.name)[-1]
    status, _, err = host.run("virt-replica", "verify", guest.name, check=False, timeout=120)
    return not newest["damaged"] and status == 0 or (newest, err)


def mends(kinds):
    """After each kind of damage, and several at once, one cycle makes the newest point whole; nothing is left of it."""
    with ops.protected("mended", churn=64, area=4, policy={"keep_all": "1s", "keep_hourly": 0, "keep_daily": 0}) as (
            guest, source, target):
        for kind in kinds:
            for _ in range(2):
                source.vr("sync", guest.name)
            for each in kind.split("+"):
                damage(target, guest, each)
            target.run("virt-replica", "verify", guest.name, check=False, timeout=120)
            source.run("virt-replica", "sync", guest.name, check=False, timeout=120)
            source.vr("sync", guest.name)
            assert whole_again(target, guest) is True, (kind, whole_again(target, guest))
        guest.destroy()
        source.vr("sync", guest.name)
        for _ in range(3):  # retention goes on: what is damaged goes with its points
            source.vr("sync", guest.name)
        newest = ops.points(target, guest.uuid)[-1]
        for disk in ("vda", "vdb"):
            found = subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", source.path(guest.disk(disk)),
                                    layer(target, guest, disk, newest)], capture_output=True, text=True)
            assert found.returncode == 0, (disk, found)
        wait_for(lambda: not merging(target, guest), 30, "no merge is stuck")


def test_damage_is_mended():
    mends(("flip+digests", "layer", "disk"))


def test_long_damage_is_mended():
    one = ("flip", "layer", "head", "cut", "digests", "disk", "index", "definition", "header")
    mends(one + ("flip+layer", "disk+index", "flip+digests+head", "cut+definition", "layer+disk"))


def merging(host, guest):
    """The recovery points that retention is merging into the next ones right now."""
    with open(host.path(f"{lab.STORE}/{guest.uuid}/manifest.json"), encoding="utf-8") as f:
        return json.load(f)["retiring"]


def fail_over_while_merging(name):
    """Retention has much to merge, is at it when the failover is asked for, and still is when the replica is taken."""
    with ops.protected(name) as (guest, source, target):
        for _ in range(8):
            source.vr("sync", guest.name)
        assert len(ops.points(target, guest.uuid)) >= 9
        ops.restart(target, VR_FAULT="M2:delay=400")  # between moving the data and renaming the layer
        lab.define_policy(source, "test", interval="1h", rpo_target="2h", keep_all="1s", keep_hourly=0, keep_daily=0)
        source.vr("sync", guest.name)
        wait_for(lambda: merging(target, guest), 20, "a merge", 0.002)
        before = len(ops.points(target, guest.uuid))
        job = source.vr("failover", guest.name, "--planned", "--no-verify")
        after = len(ops.points(target, guest.uuid))
        assert 2 < after <= before, f"no merge during the failover: {before} recovery points before, {after} after"
        check_moved(guest, source, target, job)


def test_failover_while_merging():
    fail_over_while_merging("merging")


def test_long_failover_while_merging():
    for i in range(20):
        fail_over_while_merging(f"merging{i}")

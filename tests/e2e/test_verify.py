# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is stored is what was proven: a flipped byte, a missing and a cut layer are found before a guest is shut down."""
import os
import shutil
import struct

import lab
import ops
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
    """One bit of a chunk of the lowest layer that shows in the newest recovery point. Returns (layer, chunk)."""
    numbers = ops.points(host, guest.uuid)
    low = entries(layer(host, guest, disk, numbers[0]))
    for number in numbers[1:]:
        for chunk in entries(layer(host, guest, disk, number)):
            low.pop(chunk, None)
    chunk, offset = max(low.items())
    with open(layer(host, guest, disk, numbers[0]), "r+b") as f:
        f.seek(offset + 1234)
        byte = f.read(1)[0]
        f.seek(offset + 1234)
        f.write(bytes([byte ^ 0x10]))
    return numbers[0], chunk


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


def test_failover_while_merging():
    """Retention has much to merge at the moment the replica is wanted."""
    with ops.protected("merging") as (guest, source, target):
        for _ in range(8):
            source.vr("sync", guest.name)
        assert len(ops.points(target, guest.uuid)) >= 9
        lab.define_policy(source, "test", interval="1h", rpo_target="2h", keep_all="1s", keep_hourly=0, keep_daily=0)
        source.vr("sync", guest.name)
        job = source.vr("failover", guest.name, "--planned", "--no-verify")
        check_moved(guest, source, target, job)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every recovery point is what the source held at its instant, whatever happens to the domain between two of them."""
import json

import lab
from lab import wait_for
from protected import Protected, Witness, fill, restart, sent_bytes

MIB = 1 << 20
BALLAST = 64 * MIB  # what a full copy would have to send


def witnessed(p):
    """From here on the source's daemon stops itself at each point until the witness has copied it."""
    restart(p.source, VR_FAULT="S8:stop")
    p.settle()


def sync_and_compare(p, witness, **check):
    """One cycle, judged by the witness's copy. Returns (point, job)."""
    job = p.sync()
    p.settle()
    points = p.points()
    point = next(x for x in points if x["number"] == job["result"]["number"])
    p.check.check(copies=witness.of(points[-1:]), recent=4, **check)
    witness.forget()
    return point, job


def test_every_point_of_a_run():
    with Protected("every-point", churn=4096, rate=40, area=16, vdb_size="32M") as p, \
            Witness(p.source, p.guest.name) as witness:
        first = p.last_number()
        witnessed(p)
        acked = []
        for _ in range(6):
            acked.append((p.serial.acked, p.sync()["result"]["number"]))
        p.settle()
        points = [x for x in p.points() if x["number"] > first]
        numbers = {number for _, number in acked}
        assert len(numbers) == 6 and numbers <= {x["number"] for x in points}, (acked, points)
        p.check.check(copies=witness.of(points))
        for before, number in (acked[2], acked[-1]):
            vda, vdb = p.target.boot_check(p.check.layer("vda", number), p.check.layer("vdb", number))
            assert before <= vda <= p.serial.acked + 1 and vdb <= vda <= vdb + 1, (before, vda, vdb)
        p.check.check(added=0)


def test_quiesced_point_needs_no_repair():
    with Protected("quiesced-point", churn=2048) as p:
        p.guest.wait_agent()
        job = p.sync("--quiesce")
        point = next(x for x in p.points() if x["number"] == job["result"]["number"])
        assert point["consistency"] == "app", point
        # A file system that was frozen has an empty journal.
        layer = p.check.layer("vda", point["number"])
        p.target.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", layer, "/run/lab/frozen.raw")
        features = p.target.run("dumpe2fs", "-h", "/run/lab/frozen.raw")
        p.target.run("rm", "/run/lab/frozen.raw")
        assert "has_journal" in features and "needs_recovery" not in features, features
        p.check.check()


def quiet(name):
    """A guest that writes little: a block of 4 KiB makes a chunk of 64 KiB change."""
    return Protected(name, start=False, protect=False, churn=0, extra_disks=(str(BALLAST),))


def ballast(p):
    fill(p.source, p.guest.disk("vdc"), BALLAST)
    p.guest.start()
    p.protect()


def test_crash_of_qemu_is_no_full_copy():
    with quiet("crashed-qemu") as p, Witness(p.source, p.guest.name) as witness:
        ballast(p)
        witnessed(p)
        p.check.check()
        for _ in range(2):
            before = sent_bytes(p.source)
            p.guest.kill_qemu()
            p.guest.wait_state("shut off")
            p.guest.start()
            _, job = sync_and_compare(p, witness)
            assert job["bytes_sent"] < 8 * MIB, job
            assert sent_bytes(p.source) - before < 12 * MIB
            p.scheduled()
        p.check.check(added=0)


def test_disks_come_grow_and_go():
    with quiet("changing-disks") as p, Witness(p.source, p.guest.name) as witness:
        ballast(p)
        witnessed(p)
        p.check.check()
        path = p.guest.disk("vdd")
        fill(p.source, path, 16 * MIB)
        p.source.virsh("attach-disk", p.guest.name, path, "vdd", "--driver", "qemu", "--subdriver", "qcow2",
                       "--live", "--config")
        p.guest.sizes["vdd"] = "16M"
        point, job = sync_and_compare(p, witness)
        assert p.target.exists(p.check.layer("vdd", point["number"]))
        assert 16 * MIB <= job["bytes_sent"] < 32 * MIB, job  # only the new disk in full

        p.source.virsh("blockresize", p.guest.name, "vdd", "24M")
        point, job = sync_and_compare(p, witness)
        assert size_of(p, "vdd", point["number"]) == 24 * MIB
        assert job["bytes_sent"] < 32 * MIB, job

        p.source.virsh("detach-disk", p.guest.name, "vdd", "--live", "--config")
        wait_for(lambda: "vdd" not in p.source.virsh("domblklist", p.guest.name), 20, "vdd is gone")
        point, job = sync_and_compare(p, witness)
        assert not p.target.exists(p.check.layer("vdd", point["number"]))
        assert job["bytes_sent"] < 8 * MIB, job
        p.check.check(added=0)


def size_of(p, disk, number):
    out = p.target.run("qemu-img", "info", "-U", "-f", "qcow2", "--output=json", p.check.layer(disk, number))
    return json.loads(out)["virtual-size"]


def qemu_io(p, disk, command):
    """As the guest's own request to that disk."""
    backend = f"/machine/peripheral/virtio-disk{ord(disk[-1]) - ord('a')}/virtio-backend"
    p.source.virsh("qemu-monitor-command", p.guest.name, "--hmp", f'qemu-io -d {backend} "{command}"')


def test_trimmed_and_zeroed_areas_cost_nothing():
    with quiet("trimmed") as p, Witness(p.source, p.guest.name) as witness:
        ballast(p)
        witnessed(p)
        p.check.check()
        for command in ("discard 1M 16M", "write -z -u 20M 16M", "write -z 40M 8M", "write -P 0 50M 4M"):
            qemu_io(p, "vdc", command)
            _, job = sync_and_compare(p, witness)
            assert job["bytes_sent"] < 4 * MIB, (command, job)


def test_shut_off_and_started_again():
    with quiet("shut-off") as p, Witness(p.source, p.guest.name) as witness:
        ballast(p)
        p.check.check()
        for turn in range(2):
            acked = p.guest.shutdown()
            job = p.sync()
            assert job["bytes_sent"] < 8 * MIB, job
            p.check.check(recent=2)
            number = job["result"]["number"]
            copies = {disk: f"{lab.IMAGES}/off-{disk}.raw" for disk in p.guest.sizes}
            for disk, copy in copies.items():
                p.source.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", p.guest.disk(disk), copy)
            p.check.compare(number, copies)
            p.source.run("rm", *copies.values())
            assert p.target.boot_check(p.check.layer("vda", number), p.check.layer("vdb", number)) == (acked, acked)
            p.guest.start()
            if turn == 1:
                witnessed(p)
            job = p.sync()
            assert job["bytes_sent"] < 8 * MIB, job
            p.settle()
            p.scheduled()
            points = p.check.check(recent=2)
            if turn == 1:
                p.check.check(added=0, copies=witness.of(points[-1:]))
        p.check.check()

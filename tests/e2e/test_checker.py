# SPDX-License-Identifier: LGPL-2.1-or-later
"""The checker finds what it is for: a replica made by hand with virsh and qemu-img passes, each damage is named."""
import contextlib
import json
import os
import shutil
import socket
import subprocess
import time

import checker
import lab
from checker import GAP, Broken
from lab import Guest


class HandMade(checker.Checker):
    """Judges a replica that no daemon made: the listing is given."""
    points = ()

    def listing(self):
        return [{"number": n, "root": f"root{n}"} for n in self.points]

    def source_info(self):
        return None


class Replica:
    def __init__(self, guest, source, target):
        self.guest, self.source, self.target = guest, source, target
        self.root = f"{lab.STORE}/{guest.uuid}"
        self.check = HandMade(guest.name, guest.uuid, source, target, guest)
        self.number = 0
        self.copies = {}

    def begin(self, number):
        run = "/run/lab/backup"
        name = f"{lab.PREFIX}hand.{number}"
        disks = "".join(f"<disk name='{d}' backup='yes' type='file'><scratch file='{run}/{d}.{number}.scratch'/></disk>"
                        for d in self.guest.sizes)
        marks = "".join(f"<disk name='{d}' checkpoint='bitmap'/>" for d in self.guest.sizes)
        self.source.run("install", "-d", "-o", "libvirt-qemu", run)
        self.source.write("/run/lab/backup.xml", f"<domainbackup mode='pull'><server transport='unix' "
                          f"socket='{run}/nbd.sock'/><disks>{disks}</disks></domainbackup>")
        self.source.write("/run/lab/checkpoint.xml", f"<domaincheckpoint><name>{name}</name>"
                          f"<disks>{marks}</disks></domaincheckpoint>")
        self.source.virsh("backup-begin", self.guest.name, "/run/lab/backup.xml", "/run/lab/checkpoint.xml")

    def end(self):
        self.source.virsh("domjobabort", self.guest.name)
        lab.wait_for(lambda: "None" in self.source.virsh("domjobinfo", self.guest.name), 10, "no job")
        shutil.rmtree(self.source.path("/run/lab/backup"))

    def make_point(self):
        """One cycle by hand, in full."""
        self.number += 1
        number, base = self.number, self.number - 1
        self.begin(number)
        self.copies[number] = lab.copy_exports(self.source, self.guest.name, f"{lab.IMAGES}/copies/{number}")
        self.end()
        if base:
            self.source.virsh("checkpoint-delete", self.guest.name, f"{lab.PREFIX}hand.{base}")
        self.target.run("mkdir", "-p", f"{self.root}/rp/{number}", f"{self.root}/incoming")
        for disk, raw in self.copies[number].items():
            layer = f"{self.root}/{disk}/{number}.qcow2"
            self.target.run("mkdir", "-p", os.path.dirname(layer))
            sent = "/run/lab/sent.raw"
            subprocess.run(["cp", "--sparse=always", self.source.path(raw), self.target.path(sent)], check=True)
            backing = ["-B", f"{base}.qcow2", "-F", "qcow2"] if base else []
            self.target.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *backing, sent, layer)
            os.unlink(self.target.path(sent))
            self.sums(disk, number)
        self.check.points = (*self.check.points, number)

    def sums(self, disk, number):
        """The manifest that the target would keep."""
        directory = self.target.path(f"/var/lib/virt-replica/manifests/{self.guest.uuid}")
        os.makedirs(directory, exist_ok=True)
        with open(f"{directory}/{disk}.sums", "wb") as f:
            for chunk, digest in self.check.content(disk, number)[1].items():
                f.seek(chunk * 16)
                f.write(digest)

    def remove(self):
        self.check.forget()
        for host, path in ((self.target, self.root), (self.source, f"{lab.IMAGES}/copies"),
                           (self.target, f"/var/lib/virt-replica/manifests/{self.guest.uuid}")):
            shutil.rmtree(host.path(path), ignore_errors=True)
        self.source.run("rm", "-f", "/run/lab/backup.xml", "/run/lab/checkpoint.xml", "/run/lab/spare.qcow2")
        self.target.run("rm", "-f", "/run/lab/saved")


@contextlib.contextmanager
def replica(**options):
    source, target = lab.hosts()
    with Guest(source, "checked", churn=1024, **options).define() as guest:
        made = Replica(guest, source, target)
        try:
            guest.start().serial().wait_ack(20)
            yield made
        finally:
            made.remove()


def expect(rule, made, **arguments):
    try:
        made.check.check(settle=0, **arguments)
    except Broken as e:
        assert e.rule == rule, f"{e.rule} instead of {rule}: {e}"
        return
    raise AssertionError(f"{rule} was not found broken")


def test_checker_names_each_rule():
    with replica() as made:
        source, target, guest, check = made.source, made.target, made.guest, made.check
        made.make_point()
        check.check(added=1, copies={1: made.copies[1]})
        guest.serial().wait_ack(more=20)
        made.make_point()
        check.check(added=1, copies=made.copies)
        check.check(added=0, copies=made.copies)

        expect("I-1", made, copies={2: made.copies[1]})
        expect("I-4", made, added=1)

        manifest = target.path(f"/var/lib/virt-replica/manifests/{guest.uuid}/vda.sums")
        with open(manifest, "r+b") as f:
            f.write(b"wrong")
        expect("I-2", made)
        made.sums("vda", 2)

        check.points = (2,)
        expect("I-3", made)
        check.points = (2, 1)
        expect("I-3", made)
        check.points = (1, 2)

        layer = check.layer("vdb", 2)
        target.run("cp", "--sparse=always", layer, "/run/lab/saved")
        target.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 40M 64k", layer)
        expect("I-4", made)
        with open(target.path(layer), "r+b") as f:
            f.seek(int.from_bytes(header(target.path(layer))[40:48], "big"))
            f.write(b"\x80" + b"\xff" * 7)
        expect("I-5", made)
        target.run("cp", "--sparse=always", "/run/lab/saved", layer)
        check.check(added=0)

        for stray in (f"{made.root}/incoming/0123/vda.qcow2", f"{made.root}/vda/9.qcow2", f"{made.root}/rp/9/domain.xml",
                      f"{made.root}/vda/9.sums"):
            target.write(stray, "")
            expect("I-6", made)
            parent = os.path.dirname(stray)
            os.unlink(target.path(stray))
            if parent.split("/")[-1] in ("0123", "9"):
                os.rmdir(target.path(parent))
        os.rmdir(target.path(f"{made.root}/rp/1"))
        expect("I-6", made)
        os.mkdir(target.path(f"{made.root}/rp/1"))
        check.check(added=0)


def header(path):
    with open(path, "rb") as f:
        return f.read(104)


def test_checker_sees_what_a_source_keeps():
    with replica() as made:
        source, guest, check = made.source, made.guest, made.check
        made.make_point()
        check.check()

        made.begin(7)
        expect("I-7", made)  # the job
        made.end()
        expect("I-7", made)  # the second checkpoint
        source.virsh("checkpoint-delete", guest.name, f"{lab.PREFIX}hand.7", "--metadata")
        expect("I-7", made)  # its bitmaps, which nobody lists any more
        for disk in guest.sizes:
            node = bitmap_node(source, guest, disk)
            source.virsh("qemu-monitor-command", guest.name,
                         '{"execute":"block-dirty-bitmap-remove","arguments":{"node":"%s","name":"%shand.7"}}'
                         % (node, lab.PREFIX))
        check.check()

        path = source.path("/run/virt-replica/left.sock")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        left = socket.socket(socket.AF_UNIX)
        os.chdir(os.path.dirname(path))
        left.bind("left.sock")
        expect("I-7", made)
        os.unlink("left.sock")
        os.chdir("/")

        source.write(f"{lab.IMAGES}/{guest.name}/vda.scratch.qcow2", "")
        expect("I-7", made)
        os.unlink(source.path(f"{lab.IMAGES}/{guest.name}/vda.scratch.qcow2"))

        source.make_disk("/run/lab/spare.qcow2", "1M")
        helper = source.popen("qemu-nbd", "-r", "-t", "-f", "qcow2", "-k", "/run/lab/helper.sock",
                              "/run/lab/spare.qcow2")
        lab.wait_for(lambda: source.exists("/run/lab/helper.sock"), 5, "qemu-nbd")
        expect("I-7", made)
        for process in source.processes():
            if process["comm"] == "qemu-nbd":
                os.kill(process["pid"], 15)
        helper.wait(10)
        lab.wait_for(lambda: not [p for p in source.processes() if p["comm"] == "qemu-nbd"], 5, "qemu-nbd gone")
        check.check()

        source.virsh("suspend", guest.name)
        expect("I-8", made)  # paused
        time.sleep(GAP + 0.2)
        source.virsh("resume", guest.name)
        time.sleep(0.5)
        expect("I-8", made)  # and was
        check.since = time.monotonic()
        check.check()

        guest.wait_agent()
        guest.agent("guest-fsfreeze-freeze")
        time.sleep(0.3)
        expect("I-9", made)
        guest.agent("guest-fsfreeze-thaw")
        time.sleep(0.5)
        check.check()


def bitmap_node(host, guest, disk):
    answer = json.loads(host.virsh("qemu-monitor-command", guest.name, '{"execute":"query-block"}'))
    for device in answer["return"]:
        inserted = device.get("inserted", {})
        if guest.disk(disk) in (inserted.get("file"), inserted.get("image", {}).get("filename")):
            return inserted["node-name"]
    raise AssertionError(disk)

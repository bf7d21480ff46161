# SPDX-License-Identifier: LGPL-2.1-or-later
"""What cannot be done has its own exit status, names object and cause, says what to do, and changes nothing."""
import contextlib
import json
import os
import re
import signal
import subprocess
import time
import uuid

import lab
import ops
from lab import Guest


class Odd(Guest):
    """A guest whose definition, or first disk, is not as usual."""

    def __init__(self, host, name="odd", edit=lambda xml: xml, options="compat=1.1", **more):
        super().__init__(host, name, mode="idle", **more)
        self.edit, self.options = edit, options

    def xml(self):
        return self.edit(super().xml())

    def define(self, make_disks=True):
        super().define(make_disks)
        if self.options != "compat=1.1":
            self.home.make_disk(self.disk("vda"), self.sizes["vda"], options=self.options)
        return self


@contextlib.contextmanager
def odd(run=False, **options):
    """(guest, source, target), paired, the guest not protected."""
    source, target = ops.paired()
    with Odd(source, **options).define() as guest:
        if run:
            guest.start()
        yield guest, source, target
    ops.reset()


def cannot_protect(guest, source, code, *names):
    """check tells it as a finding and protect refuses it, in the same words."""
    with ops.nothing_changes():
        status, out, _ = source.run("virt-replica", "--json", "check", guest.name, "--to", "kvm2", check=False)
        answer = json.loads(out)
        assert status == 5 and answer["ok"] is False, (status, answer)
        finding = next((f for f in answer["findings"] if f["code"] == code), None)
        assert finding and finding["severity"] == "error" and finding["action"], answer["findings"]
        assert all(name in finding["message"] for name in names), finding
    error = ops.refused(source, 5, "protect", guest.name, "--to", "kvm2", code=code, names=[guest.name, *names])
    assert finding["message"] in error.message, (finding, error.message)
    assert source.vr("list", "--all") == []


def test_names_that_are_not_there():
    with odd() as (guest, source, target):
        ops.refused(source, 4, "protect", "nowhere", "--to", "kvm2", names=["nowhere"])
        ops.refused(source, 4, "check", "nowhere", "--to", "kvm2", names=["nowhere"])
        ops.refused(source, 4, "protect", guest.name, "--to", "siteb", names=["siteb"])
        ops.refused(source, 4, "protect", guest.name, "--to", "kvm2", "--policy", "gold", names=["gold"])
        for command in ("info", "sync", "pause", "resume", "unprotect", "rp-list"):
            ops.refused(source, 4, command, guest.name, names=[guest.name])
        ops.refused(source, 4, "failover", guest.name, "--planned", names=[guest.name])
        ops.refused(source, 4, "job-info", "4711", names=["4711"])
        ops.refused(source, 4, "job-cancel", "4711", names=["4711"])
        ops.refused(source, 4, "policy-dump", "gold", names=["gold"])
        ops.refused(source, 4, "store-info", "tape", names=["tape"])
        ops.refused(source, 4, "store-undefine", "tape", names=["tape"])
        for name in ("..", "a/b", "line\nfeed", "x" * 300):
            assert source.vr_fails(4, "info", name).action
            assert source.vr_fails(4, "sync", name).action
        source.vr_fails(4, "peer-info", "..", contains=[".."])
        source.vr_fails(4, "policy-dump", "../../etc/passwd", contains=["passwd"])
        source.vr_fails(4, "protect", guest.name, "--to", "x" * 100, contains=["x" * 60])
        ops.refused(source, 5, "protect", guest.name, "--to", "kvm2", "--store", "tape", code="no-such-store",
                    names=["tape", "kvm2"])


def test_usage():
    source = lab.Host("kvm1")
    for args in (["frobnicate"], ["protect"], ["protect", "x"], ["info"], ["info", "a", "b"], ["sync", "x", "--wrong"],
                 ["job-info", "twelve"], ["protect", "x", "--to"], ["failover", "x"], ["peer-invite", "--expires", "0"],
                 ["peer-invite", "--expires", "8d"], ["peer-invite", "--name", "x" * 64],
                 ["store-define", "../x", "--path", "/tmp"]):
        error = source.vr_fails(2, *args)
        assert error.action and error.code, args
    source.write("/run/lab/bad.conf", "[policy]\ninterval=soon\n")
    ops.refused(source, 2, "policy-define", "/run/lab/bad.conf", names=["/run/lab/bad.conf", "interval", "soon"])
    source.write("/run/lab/bad.conf", "[policy]\ninterval=30s\nrpo-target=5s\n")
    ops.refused(source, 2, "policy-define", "/run/lab/bad.conf", names=["rpo-target"])


def test_shell():
    """Without a command the lines of standard input are run; one that fails does not end it, and is not forgotten."""
    source = ops.reset()[0]
    lines = "# comment\n\ninfo 'no such'; peer-info nobody\nstatus\nquit\nlist\n"
    status, out, err = source.run("virt-replica", check=False, stdin=lines)
    assert status == 4 and "nobody" in err and "no such" in err and "Fingerprint" in out and "Domain " not in out, (status, out, err)
    assert source.run("virt-replica", check=False, stdin="info nowhere")[0] == 4
    assert source.run("virt-replica", check=False, stdin="")[:2] == (0, "")


def test_no_disks():
    with odd(edit=lambda xml: re.sub(r"<disk .*?</disk>", "", xml, flags=re.S)) as (guest, source, target):
        cannot_protect(guest, source, "no-disks", guest.name)


def test_raw_disk():
    def raw(xml):
        return xml.replace("type='qcow2'", "type='raw'", 1)
    with odd(edit=raw) as (guest, source, target):
        cannot_protect(guest, source, "disk-not-qcow2", "vda", "raw")


def test_iothread_disk():
    def threaded(xml):
        return xml.replace("<os>", "<iothreads>1</iothreads><os>", 1).replace("discard='unmap'",
                                                                              "discard='unmap' iothread='1'", 1)
    with odd(edit=threaded) as (guest, source, target):
        cannot_protect(guest, source, "disk-iothread", "vda")


def test_old_qcow2():
    with odd(options="compat=0.10") as (guest, source, target):
        cannot_protect(guest, source, "disk-qcow2-v2", "vda", guest.disk("vda"))


def test_foreign_backup():
    with odd(run=True) as (guest, source, target):
        source.run("install", "-d", "-o", "libvirt-qemu", "/run/lab/theirs")
        source.write("/run/lab/theirs.xml", "<domainbackup mode='pull'><server transport='unix' socket="
                     "'/run/lab/theirs/s'/><disks><disk name='vda' backup='yes' type='file'><scratch file="
                     "'/run/lab/theirs/scratch'/></disk><disk name='vdb' backup='no'/></disks></domainbackup>")
        source.virsh("backup-begin", guest.name, "/run/lab/theirs.xml")
        cannot_protect(guest, source, "backup-job-running", guest.name)
        assert "Backup" in source.virsh("domjobinfo", guest.name), "the other program's job goes on"
        source.virsh("domjobabort", guest.name)
        source.run("rm", "-rf", "/run/lab/theirs", "/run/lab/theirs.xml")
        lab.wait_for(lambda: "None" in source.virsh("domjobinfo", guest.name), 10, "no job")
        copy = f"{lab.IMAGES}/{guest.name}/copy.qcow2"
        source.virsh("blockcopy", guest.name, "vdb", copy, "--transient-job")
        cannot_protect(guest, source, "block-job-running", guest.name, "vdb", "copy")
        source.virsh("blockjob", guest.name, "vdb", "--abort")
        source.vr("protect", guest.name, "--to", "kvm2")


def test_odd_names():
    """They work, or are refused as what they look like: a name is never part of a path or a command."""
    for name in ("two words", "naïve-Ünïcode-日本", "it's \"quoted\" & <so> $(on)", "-dash", "..", "x" * 80):
        xml_name = name.replace("&", "&amp;").replace("<", "&lt;")
        source, target = ops.paired()
        with Guest(source, "plain", mode="idle", vda_size="8M", vdb_size="8M").define() as guest:
            source.virsh("undefine", "plain")
            status, _, err = source.run("virsh", "define", "/dev/stdin", check=False,
                                        stdin=guest.xml().replace("<name>plain", "<name>" + xml_name, 1))
            if status != 0:
                continue  # not for libvirt either
            try:
                if name.startswith("-"):
                    ops.refused(source, 2, "protect", "--to", "kvm2", "--", name, names=[name])
                    continue
                source.vr("protect", "--to", "kvm2", "--", name)
                assert source.vr("info", guest.uuid)["name"] == name
                assert target.vr("info", guest.uuid)["name"] == name
                for host in (source, target):
                    assert guest.uuid in [p["uuid"] for p in host.vr("list")]
                    host.vr_text("list")
                source.vr("sync", "--", name)
                source.vr("unprotect", "--", name)
                assert source.vr("list", "--all") == [] and target.vr("list", "--all") == []
            finally:
                source.run("virsh", "-q", "undefine", guest.uuid, "--checkpoints-metadata", check=False)
    ops.reset()


def test_peer_is_down():
    with odd() as (guest, source, target):
        target.daemon("stop")
        try:
            before = (ops.rows(source), ops.domains(source), ops.files(source))
            error = source.vr_fails(1, "protect", guest.name, "--to", "kvm2", contains=["kvm2"], timeout=60)
            assert error.action, error.message
            source.vr_fails(1, "check", guest.name, "--to", "kvm2", contains=["kvm2"], timeout=60)
            assert (ops.rows(source), ops.domains(source), ops.files(source)) == before
        finally:
            target.daemon("start")
    with ops.protected(mode="idle", run=False) as (guest, source, target):
        target.daemon("stop")
        try:
            for command in (["failover", guest.name, "--planned"], ["unprotect", guest.name]):
                error = source.vr_fails(1, *command, contains=["kvm2"], timeout=60)
                assert error.action, error.message
                assert ops.state(source, guest.name) == "protected"
        finally:
            target.daemon("start")
        source.vr("sync", guest.name)


@contextlib.contextmanager
def small_store(target, size):
    """Store 'small' of the target: a file system of that size."""
    target.run("mkdir", "-p", "/run/lab/small")
    target.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "small", "/run/lab/small")
    try:
        target.vr("store-define", "small", "--path", "/run/lab/small")
        yield "/run/lab/small"
    finally:
        target.run("umount", "-l", "/run/lab/small", check=False)


def test_store_full():
    with odd() as (guest, source, target):
        with small_store(target, "100M"):
            ops.refused(source, 5, "protect", guest.name, "--to", "kvm2", "--store", "small", code="store-full",
                        names=["small", "kvm2"])


def test_store_not_writable():
    with odd() as (guest, source, target):
        with small_store(target, "400M") as path:
            target.run("mount", "-o", "remount,ro", path)
            ops.refused(source, 5, "protect", guest.name, "--to", "kvm2", "--store", "small",
                        code="store-not-writable", names=["small", "kvm2", path])


def test_store_fills_up():
    """A cycle that does not fit fails with the cause and gives back what it took; a part of the store stays free for
    others; what is there stays; with room again it goes on by itself."""
    with odd(run=False) as (guest, source, target), small_store(target, "300M") as path:
        source.vr("protect", guest.name, "--to", "kvm2", "--store", "small")
        source.vr("sync", guest.name)  # after the cycle that follows protect
        before = ops.points(target, guest.name)
        kept = {p: k for p, k in target.tree(path).items() if "/incoming" not in p}
        def free():
            return int(target.run("df", "--output=avail", "-B1", path).split()[-1])
        reserve = 300 << 18  # a quarter of so small a store
        target.run("fallocate", "-l", free() - reserve - (70 << 20), path + "/filler")
        left = free()
        source.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 100M", guest.disk("vda"))
        error = source.vr_fails(1, "sync", guest.name, contains=["kvm2", "small"], code="store-full")
        assert error.action and f"{reserve >> 20} MiB stay free" in error.text, error.text
        assert ops.points(target, guest.name) == before
        assert left - free() < 2 << 20, (left, free())
        failed = {r["code"]: r for r in source.vr("info", guest.name)["reasons"]}["cycle-failed"]
        assert failed["cause"] == "store-full" and failed["severity"] == "critical", failed
        target.run("rm", path + "/filler")
        after = {p: k for p, k in target.tree(path).items() if "/incoming" not in p}
        assert after == kept, set(after) ^ set(kept)
        lab.wait_for(lambda: len(ops.points(target, guest.name)) == len(before) + 1, 30, "it goes on by itself")
        source.vr("unprotect", guest.name)
        assert not [p for p in target.tree(path) if guest.uuid in p]


@contextlib.contextmanager
def small_images(host, size):
    """The images of the guest 'odd' lie on a file system of that size; yields what makes it full but for so many MiB."""
    images = f"{lab.IMAGES}/odd"
    host.run("mkdir", "-p", images)
    host.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "images", images)

    def fill(left):
        free = int(host.run("df", "--output=avail", "-B1", images).split()[-1])
        host.run("fallocate", "-l", free - (left << 20), images + "/filler")
    try:
        yield fill
    finally:
        host.run("virsh", "-q", "destroy", "odd", check=False)
        host.run("umount", "-l", images, check=False)


def test_no_room_for_scratch():
    """Beside the images: found by check, and while it is protected told with the way out, which is taken at once."""
    source, target = ops.paired()
    with small_images(source, "700M") as fill:
        guest = Odd(source).define().start(wait=False)
        filler = guest.disk("vda").replace("vda.qcow2", "filler")
        fill(200)
        cannot_protect(guest, source, "scratch-no-space", "vda", "200 MiB")
        source.run("rm", filler)
        source.vr("protect", guest.name, "--to", "kvm2")
        source.virsh("suspend", guest.name)  # nobody answers in it
        made = source.vr("sync", guest.name, "--quiesce")["result"]
        source.virsh("resume", guest.name)
        assert made["consistency"] == "crash" and made["not_frozen"], made
        fill(200)
        source.vr_fails(1, "sync", guest.name, code="scratch-no-space", contains=["MiB free", "320 MiB needed"])
        failed = {r["code"]: r for r in source.vr("info", guest.name)["reasons"]}["cycle-failed"]
        assert failed["cause"] == "scratch-no-space" and failed["severity"] == "critical", failed
        before = ops.points(target, guest.name)
        source.run("rm", filler)
        lab.wait_for(lambda: ops.points(target, guest.name) != before, 30, "it goes on by itself")
        guest.destroy()
        fill(200)  # one that is off needs none, and can be moved away
        source.vr("failover", guest.name, "--planned")
        assert guest.state(target) == "running"
    ops.reset()


def test_network_not_mapped():
    with odd() as (guest, source, target):
        for host, peer, network in ((source, "kvm2", "prod"), (target, "kvm1", "dr"), (target, "kvm1", "prod")):
            host.run("virt-replica", "netmap-unset", peer, network, check=False)
        cannot_protect(guest, source, "network-not-mapped", "prod", "kvm2")
        source.vr("netmap-set", "kvm2", "prod", "nonet")
        cannot_protect(guest, source, "network-not-offered", "nonet", "kvm2")
        target.vr("peer-set", "kvm1", "--networks", "dr,nonet")
        cannot_protect(guest, source, "network-missing", "nonet", "kvm2")
        source.vr("netmap-set", "kvm2", "prod", "dr")
        target.virsh("net-destroy", "dr")
        try:
            cannot_protect(guest, source, "network-inactive", "dr", "kvm2")
        finally:
            target.virsh("net-start", "dr")


def test_machine_type_missing():
    """A QEMU on the source that knows one type more: the target's libvirt is asked, not believed."""
    with odd() as (guest, source, target):
        xml = source.virsh("dumpxml", guest.name, "--inactive")
        source.write(f"/etc/libvirt/qemu/{guest.name}.xml",
                     re.sub(r"machine='pc-[^']*'", "machine='pc-i440fx-99.0'", xml))
        source.libvirtd("stop")
        source.libvirtd("start")
        lab.wait_for(lambda: source.vr("status")["libvirt"]["connected"], 20, "libvirt is back")
        assert guest.name in source.virsh("list", "--all", "--name").split(), "libvirt does not load the definition"
        cannot_protect(guest, source, "machine-type-missing", "pc-i440fx-99.0")


def test_target_has_it_already():
    with odd() as (guest, source, target):
        disks = re.sub(r"<(disk|interface|serial|channel) .*?</\1>|<kernel>.*?</cmdline>", "", guest.xml(), flags=re.S)
        target.virsh("define", "/dev/stdin", stdin=disks.replace(guest.uuid, str(uuid.uuid4())))
        cannot_protect(guest, source, "domain-exists-name", guest.name, "kvm2")
        target.virsh("undefine", guest.name)
        target.virsh("define", "/dev/stdin", stdin=disks.replace(f"<name>{guest.name}", "<name>another"))
        cannot_protect(guest, source, "domain-exists-uuid", "another", "kvm2")
        target.virsh("undefine", "another")


def interrupt(source, *command):
    """SIGINT to a waiting command; returns its status, output and the job that goes on."""
    waiting = source.popen("virt-replica", *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lab.wait_for(lambda: source.vr("job-list"), 10, "the job")
    job = source.vr("job-list")[0]["id"]
    time.sleep(0.3)
    for process in source.processes():
        if process["comm"] == "virt-replica" and process["argv"][1:] == list(command):
            os.kill(process["pid"], signal.SIGINT)
    out, err = waiting.communicate(timeout=20)
    return waiting.returncode, out + err, job


def test_interrupted_command():
    with odd(run=True) as (guest, source, target):
        ops.restart(source, VR_FAULT="S7:delay=3000")  # Ctrl-C is looked for once a second
        lab.wait_for(lambda: source.vr("status")["libvirt"]["connected"], 10, "libvirt")
        for command in (("protect", guest.name, "--to", "kvm2"), ("sync", guest.name)):
            status, text, job = interrupt(source, *command)
            assert status == 3 and f"job {job} goes on" in text, (status, text)
            assert ops.wait_job(source, job)["state"] == "completed"
            lab.wait_for(lambda: source.vr("info", guest.name)["job"] is None, 20, "no job")
        late = source.vr_fails(3, "sync", guest.name, "--timeout", "1s")
        assert "goes on" in late.text
        ops.wait_job(source, ops.newest_job(source, "sync")["id"])


def test_daemon_does_not_run():
    source = ops.reset()[0]
    source.daemon("stop")
    try:
        for command in (["status"], ["list"], ["protect", "x", "--to", "kvm2"], ["job-wait", "1"]):
            error = source.vr_fails(6, *command, contains=["/run/virt-replica/virt-replica.sock"])
            assert error.action, command
    finally:
        source.daemon("start")


def test_second_daemon():
    source = ops.reset()[0]
    before = source.vr("status")["fingerprint"]
    status, out, err = source.run("timeout", "20", "virt-replicad", check=False)
    assert status not in (0, 124) and "in use" in err + out and ops.STATE in err + out, (status, out, err)
    status, out, err = source.run("timeout", "20", "virt-replicad", "--state-dir", "/run/lab/state", "--listen",
                                  "127.0.0.1:16999", check=False)
    assert status not in (0, 124) and "/run/virt-replica/virt-replica.sock" in err + out, (status, out, err)
    source.run("rm", "-rf", "/run/lab/state")
    assert source.vr("status")["fingerprint"] == before, "the first one goes on"


def test_wrong_states():
    with ops.protected(mode="idle", run=False) as (guest, source, target):
        ops.refused(source, 5, "protect", guest.name, "--to", "kvm2", code="already-protected", names=[guest.name])
        ops.refused(source, 5, "resume", guest.name, names=[guest.name, "protected"])
        for command in ("sync", "pause", "resume", "unprotect"):
            ops.refused(target, 5, command, guest.name, code="not-source", names=[guest.name])
        ops.refused(source, 5, "peer-remove", "kvm2", names=["kvm2"])
        ops.refused(target, 5, "store-undefine", "default", names=["default"])
        ops.refused(source, 5, "policy-undefine", "test", names=["test"])
        job = ops.newest_job(source, "protect")["id"]
        ops.refused(source, 5, "job-cancel", job, code="job-ended", names=[str(job)], action=False)
        source.vr("pause", guest.name)
        for command in (["sync", guest.name], ["pause", guest.name], ["failover", guest.name, "--planned"]):
            ops.refused(source, 5, *command, names=[guest.name, "paused"])


def test_one_job_at_a_time():
    with ops.protected(mode="idle", run=False) as (guest, source, target):
        ops.restart(source, VR_FAULT="S7:delay=2000")
        lab.wait_for(lambda: source.vr("status")["libvirt"]["connected"], 10, "libvirt")
        job = source.vr("sync", guest.name, "--detach")["job"]
        for command in (["sync", guest.name], ["unprotect", guest.name], ["failover", guest.name, "--planned"],
                        ["unprotect", guest.name, "--force"], ["pause", guest.name]):
            error = source.vr_fails(5, *command, contains=[guest.name, str(job)])
            assert error.action and error.code == "job-running", error
            assert ops.state(source, guest.name) == "protected", command
        assert ops.wait_job(source, job)["state"] == "completed"

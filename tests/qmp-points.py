#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Points on a real libvirt and QEMU, in a running lab: qmp-points.py [NAME...]. Needs qmp-probe in VR_BUILD/plugin."""
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "e2e"))
import lab  # noqa: E402
from lab import Guest, Host  # noqa: E402

OUT = "/var/lib/libvirt/images/probe-out"


class Probe:
    def __init__(self, guest):
        self.guest, self.host = guest, guest.home
        self.host.run("rm", "-rf", OUT)
        self.host.run("mkdir", "-p", OUT)

    def run(self, *steps, ok=True, timeout=120):
        status, out, err = self.host.run("qmp-probe", self.guest.name, *steps, check=False, timeout=timeout)
        if ok and status != 0:
            raise AssertionError(f"probe {steps}: {status}\n{out}{err}")
        return out

    def start(self, *steps):
        return self.host.popen("qmp-probe", self.guest.name, *steps, stdout=subprocess.PIPE)

    def until(self, process, line):
        while True:
            text = process.stdout.readline()
            assert text, f"probe ended before '{line}'"
            if text.startswith(line):
                return

    def name(self, out):
        return re.search(r"^checkpoint (\S+)", out, re.M).group(1)

    def compare(self, point):
        """What the probe wrote against an independent copy of the same point."""
        for target in "vda", "vdb":
            self.host.run("qemu-img", "compare", "-f", "raw", "-F", "raw", f"{OUT}/{target}.raw", f"{OUT}/{point}-{target}")

    def independent(self, label):
        """While a point is held: its exports through qemu-img."""
        xml = self.host.virsh("backup-dumpxml", self.guest.name)
        socket = re.search(r"socket='([^']+)'", xml).group(1)
        for target in "vda", "vdb":
            self.host.run("qemu-img", "convert", "-f", "raw", "-O", "raw",
                          f"nbd+unix:///{target}?socket={socket}", f"{OUT}/{label}-{target}")

    def clean(self, checkpoints=()):
        host, name = self.host, self.guest.name
        have = host.virsh("checkpoint-list", name, "--name").split()
        assert sorted(have) == sorted(checkpoints), f"checkpoints {have}, expected {checkpoints}"
        for path in host.tree("/var/lib/libvirt/images", "/var/lib/libvirt/qemu"):
            assert "scratch" not in path and not re.search(r"virt-replica-.*\.sock", path), f"left: {path}"
        status, out, _ = host.run("virsh", "-q", "backup-dumpxml", name, check=False)
        assert status != 0, f"a job is left: {out}"
        mine = [p for p in host.processes() if p["comm"] in ("qemu-nbd", "qmp-probe") and p["state"] != "Z"]
        assert not mine, mine

    def bitmaps(self, target):
        import json
        info = json.loads(self.host.run("qemu-img", "info", "-U", "--output=json", "-f", "qcow2", self.guest.disk(target)))
        return [b["name"] for b in info["format-specific"]["data"].get("bitmaps", [])]


def begin_steps(freeze=False):
    return ["new", "prepare"] + (["freeze"] if freeze else []) + ["begin", "thaw", "connect"]


END = ["release", "end", "cleanup"]


def test_full_and_incremental(guest, probe):
    """Three points under a writing guest: each read by us, each equal to qemu-img's own copy of it."""
    base = None
    for round_number in range(3):
        steps = [f"base={base}"] if base else []
        process = probe.start(*steps, *begin_steps(), f"read={OUT}", "sleep=4000", *END)
        lines = []
        while not (lines and lines[-1].startswith("ok read")):
            line = process.stdout.readline()
            assert line, lines
            lines.append(line)
        probe.independent(str(round_number))
        out = "".join(lines) + process.stdout.read()
        assert process.wait() == 0, out
        print(out)
        probe.compare(str(round_number))
        new = probe.name(out)
        if base:
            probe.run(f"delete={base}")
        base = new
        probe.clean([base])
        guest.serial().wait_ack(more=20)
    assert guest.serial().max_gap() < 2
    probe.run("sweep-checkpoints")
    probe.clean()


def test_freeze(guest, probe):
    guest.wait_agent()
    out = probe.run(*begin_steps(freeze=True), "abort")
    print(out)
    assert "consistency app" in out
    probe.clean()
    # Killed while frozen: the helper thaws, the guest writes on.
    process = probe.start("new", "prepare", "freeze", "sleep=60000")
    probe.until(process, "ok freeze")
    assert guest.agent("guest-fsfreeze-status") == "frozen"
    serial = guest.serial()
    began = time.monotonic()
    for p in probe.host.processes():
        if p["comm"] == "qmp-probe" and "--freeze-helper" not in p["argv"]:
            os.kill(p["pid"], signal.SIGKILL)
    lab.wait_for(lambda: guest.agent("guest-fsfreeze-status") == "thawed", 3, "thawed after kill -9")
    print("thawed", time.monotonic() - began)
    process.wait()
    serial.wait_ack(more=5)
    # Held too long: thawed at the deadline and the point is crash-consistent.
    out = probe.run("new", "prepare", "freeze", "sleep=6500", "begin", "thaw", "abort")
    print(out)
    assert "consistency crash" in out
    lab.wait_for(lambda: guest.agent("guest-fsfreeze-status") == "thawed", 3, "thawed")
    # Killed with its helper: recovery thaws.
    process = probe.start("journal=/run/lab/journal", "new", "prepare", "freeze", "sleep=60000")
    probe.until(process, "ok freeze")
    for p in probe.host.processes():
        if p["comm"] == "qmp-probe":
            os.kill(p["pid"], signal.SIGKILL)
    process.wait()
    assert guest.agent("guest-fsfreeze-status") == "frozen"
    probe.run("journal=/run/lab/journal", "recover")
    assert guest.agent("guest-fsfreeze-status") == "thawed"
    serial.wait_ack(more=5)
    lab.wait_for(lambda: not [p for p in probe.host.processes() if p["comm"] == "qmp-probe"], 15, "helpers gone")
    probe.run("sweep")
    probe.clean()


def test_kill_everywhere(guest, probe):
    """kill -9 after each step, then recover; the base stays and the next incremental is right."""
    base = probe.name(probe.run(*begin_steps(), f"read={OUT}", *END))
    guest.wait_agent()
    steps = ["new", "prepare", "freeze", "begin", "thaw", "connect", f"read={OUT}/x", "release", "end", "cleanup"]
    probe.host.run("mkdir", "-p", OUT + "/x")
    for n in range(1, len(steps) + 1):
        guest.serial().wait_ack(more=3)
        probe.run(f"base={base}", "journal=/run/lab/journal", *steps[:n], "kill", ok=False)
        out = probe.run("journal=/run/lab/journal", "recover", "recover")
        lab.wait_for(lambda: not [p for p in probe.host.processes() if p["comm"] == "qmp-probe"], 15, "helpers gone")
        probe.clean([base])
        print("killed after", steps[n - 1], out.split("\n")[0])
    process = probe.start(f"base={base}", *begin_steps(), f"read={OUT}", "sleep=4000", *END)
    probe.until(process, "ok read")
    probe.independent("k")
    assert process.wait() == 0
    probe.compare("k")
    assert guest.serial().max_gap() < 8, guest.serial().max_gap()
    probe.run("sweep-checkpoints")
    probe.clean()


def test_foreign_and_stray(guest, probe):
    host = probe.host
    directory = host.run("sh", "-c", f"echo /var/lib/libvirt/qemu/domain-{host.virsh('domid', guest.name)}-*").strip()
    host.write("/run/lab/foreign.xml", f"<domainbackup mode='pull'><server transport='unix' socket='{directory}/f.sock'/>"
               "<disks><disk name='vda' type='file'><scratch file='/var/lib/libvirt/images/foreign.qcow2'/></disk>"
               "<disk name='vdb' backup='no'/></disks></domainbackup>")
    host.virsh("backup-begin", guest.name, "/run/lab/foreign.xml")
    out = probe.run("expect=backup-job-running", "new", ok=False)
    out = probe.run("journal=/run/lab/journal", "new", "expect=backup-job-running", "prepare")
    print(out)
    assert "f.sock" in out
    probe.run("journal=/run/lab/journal", "recover", "sweep", "sweep-checkpoints")
    assert "f.sock" in host.virsh("backup-dumpxml", guest.name), "the foreign job was ended"
    host.virsh("domjobabort", guest.name)
    time.sleep(0.5)
    # Our job without a journal, and with it a stray scratch file: sweep finds both.
    probe.run("new", "prepare", "begin", "kill", ok=False)
    host.write(f"{os.path.dirname(guest.disk('vda'))}/.virt-replica-{guest.uuid[:8]}-vda-00000000.scratch.qcow2", "x")
    probe.run("sweep", "sweep-checkpoints")
    probe.clean()
    # Ended by somebody else while we read.
    process = probe.start(*begin_steps(), "sleep=1500", "release", "expect=backup-job-lost", "end", "abort")
    probe.until(process, "ok connect")
    host.virsh("domjobabort", guest.name)
    assert process.wait() == 0, process.stdout.read()
    probe.clean()
    # A foreign checkpoint stays.
    host.write("/run/lab/cp.xml", "<domaincheckpoint><name>theirs</name><disks><disk name='vda' checkpoint='bitmap'/></disks></domaincheckpoint>")
    host.virsh("checkpoint-create", guest.name, "/run/lab/cp.xml")
    probe.run(*begin_steps(), *END, "sweep-checkpoints", "expect=foreign-checkpoint", "delete=theirs")
    probe.clean(["theirs"])
    host.virsh("checkpoint-delete", guest.name, "theirs")


def test_qemu_crash(guest, probe):
    base = probe.name(probe.run(*begin_steps(), *END))
    guest.kill_qemu()
    guest.wait_state("shut off")
    guest.start()
    print(probe.run(f"base={base}", "new", "expect=tracking-lost", "prepare", "abort", "free"))
    new = probe.name(probe.run(*begin_steps(), f"read={OUT}", *END))
    probe.run(f"delete={base}", f"base={new}", "sweep-checkpoints")
    probe.clean([new])
    # Stopped and started cleanly: still good. Then killed with a bitmap on disk: inconsistent.
    guest.wait_agent()
    guest.shutdown()
    guest.start()
    probe.run(f"base={new}", *begin_steps(), "abort")
    guest.kill_qemu()
    guest.wait_state("shut off")
    probe.run(f"base={new}", "kind=offline", "name=none", "new", "expect=tracking-lost", "prepare", "free")
    guest.start()
    probe.run(f"base={new}", "new", "expect=tracking-lost", "prepare", "free", "base=none", "sweep-checkpoints")
    probe.clean()
    assert not probe.bitmaps("vda") and not probe.bitmaps("vdb")
    # Bitmaps without metadata.
    stray = probe.name(probe.run(*begin_steps(), *END))
    guest.shutdown()
    probe.host.virsh("checkpoint-delete", guest.name, stray, "--metadata")
    guest.start()
    probe.run("sweep-checkpoints")
    guest.shutdown()
    assert not probe.bitmaps("vda") and not probe.bitmaps("vdb"), probe.bitmaps("vda")
    guest.start()


def test_guest_stops_meanwhile(guest, probe):
    """Between two steps the guest powers off: no refusal for good, the next point is one of a shut-off domain."""
    for before, then in (["new"], "prepare"), (["new", "prepare"], "begin"):
        guest.wait_agent()
        probe.run(*before, "shutdown", "expect=domain-changing", then, "abort")
        probe.clean()
        probe.run("expect=domain-not-running", "new")
        guest.start()
    probe.run("kind=offline", "expect=domain-running", "new")


def test_partial_bitmaps(guest, probe):
    """A checkpoint whose bitmap is missing in one image: those in the others go with it."""
    host, images = probe.host, [os.path.join(os.path.dirname(guest.disk("vda")), n) for n in ("c.qcow2", "d.qcow2")]

    def attach(path):
        host.run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
        host.virsh("attach-disk", guest.name, path, "vdc", "--driver", "qemu", "--subdriver", "qcow2", "--live")

    guest.wait_agent()
    attach(images[0])
    base = probe.name(probe.run("disks=vda,vdb,vdc", *begin_steps(), *END))
    host.virsh("detach-disk", guest.name, "vdc", "--live")
    lab.wait_for(lambda: "vdc" not in host.virsh("domblklist", guest.name), 20, "vdc is gone")
    attach(images[1])
    probe.run(f"delete={base}")
    probe.clean()
    guest.shutdown()
    host.run("rm", *images)
    assert not probe.bitmaps("vda") and not probe.bitmaps("vdb"), probe.bitmaps("vda")
    # Added while it was shut off, and started before libvirt knew.
    name = f"virt-replica.{guest.uuid[:8]}.0123abcd"
    host.run("qemu-img", "bitmap", "--add", "-f", "qcow2", guest.disk("vda"), name)
    guest.start()
    guest.wait_agent()
    probe.run(f"delete={name}")
    guest.shutdown()
    assert not probe.bitmaps("vda"), probe.bitmaps("vda")


def test_offline(guest, probe):
    host = probe.host
    base = probe.name(probe.run(*begin_steps(), f"read={OUT}", *END))
    guest.serial().wait_ack(more=20)
    guest.wait_agent()
    print(probe.run("shutdown"))
    new = probe.name(probe.run("kind=offline", f"base={base}", *begin_steps(), f"read={OUT}", *END, f"delete={base}"))
    for target in "vda", "vdb":
        host.run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", f"{OUT}/{target}.raw", guest.disk(target))
    probe.clean([new])
    assert probe.bitmaps("vda") == [new], probe.bitmaps("vda")
    # Started again: the offline checkpoint is a base like any other.
    probe.run("start")
    guest.serial().wait_ack(more=20)
    process = probe.start(f"base={new}", *begin_steps(), f"read={OUT}", "sleep=4000", *END)
    probe.until(process, "ok read")
    probe.independent("o")
    out = process.stdout.read()
    assert process.wait() == 0, out
    probe.compare("o")
    probe.run("sweep-checkpoints")
    # Without a base: everything allocated.
    guest.wait_agent()
    guest.shutdown()
    host.run("rm", f"{OUT}/vda.raw", f"{OUT}/vdb.raw")
    print(probe.run("kind=offline", "name=none", *begin_steps(), f"read={OUT}", *END))
    for target in "vda", "vdb":
        host.run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", f"{OUT}/{target}.raw", guest.disk(target))
    # Killed: the servers die with it. Recover removes the rest. Giving way lets it start.
    probe.run("kind=offline", "journal=/run/lab/journal", *begin_steps(), "kill", ok=False)
    probe.run("journal=/run/lab/journal", "recover")
    probe.clean()
    assert probe.bitmaps("vda") == []
    probe.run("kind=offline", "name=none", *begin_steps(), "give-way", "start", "expect=domain-starting", "release", "abort")
    assert guest.state() == "running"
    probe.clean()


def test_scratch(guest, probe):
    """Guest writes much: our limit ends the point, the guest does not notice."""
    guest.wait_agent()
    process = probe.start("limit=1500000", *begin_steps(), "sleep=8000", "expect=scratch-full", "release",
                          "abort")
    out = process.stdout.read()
    print(out)
    assert process.wait() == 0, out
    probe.clean()
    assert guest.state() == "running" and guest.serial().max_gap() < 2
    host = probe.host
    probe.run("reserve=100000000000000", "new", "expect=scratch-no-space", "prepare", "free")
    probe.clean()


def fill_scratch(guest, probe, directory, *steps):
    """A point whose scratch directory is filled up while the probe is stopped: QEMU pauses the guest."""
    process = probe.start(f"scratch={directory}", "reserve=1000000", *steps)
    probe.until(process, "ok begin")
    mine = [p["pid"] for p in probe.host.processes() if p["comm"] == "qmp-probe"]
    for pid in mine:
        os.kill(pid, signal.SIGSTOP)
    probe.host.run("dd", "if=/dev/zero", f"of={directory}/filler", "bs=1M", check=False)
    lab.wait_for(lambda: "I/O error" in guest.state_reason(), 30, "paused by an I/O error")
    return process, mine


def test_enospc(guest, probe):
    host, directory = probe.host, "/var/lib/libvirt/images/small"
    guest.wait_agent()
    guest.shutdown()
    host.run("mkdir", "-p", directory)
    host.run("mount", "-t", "tmpfs", "-o", "size=80M", "none", directory)
    try:
        guest.start()
        process, pids = fill_scratch(guest, probe, directory, "new", "prepare", "begin", "sleep=5000",
                                  "expect=scratch-full", "release", "abort")
        for pid in pids + [process.pid]:  # nsenter has stopped itself as well
            os.kill(pid, signal.SIGCONT)
        lab.wait_for(lambda: guest.state() == "running", 5, "resumed")
        out = process.stdout.read()
        assert process.wait() == 0, out
        host.run("rm", f"{directory}/filler")
        guest.serial().wait_ack(more=10)
        probe.clean()
        # The same, and nobody is there to help until recovery.
        process, pids = fill_scratch(guest, probe, directory, "journal=/run/lab/journal", "new", "prepare", "begin", "sleep=60000")
        for pid in pids + [process.pid]:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        host.run("rm", f"{directory}/filler")
        host.virsh("domjobabort", guest.name)  # a recovery that was killed when it had got so far
        lab.wait_for(lambda: host.run("virsh", "backup-dumpxml", guest.name, check=False)[0] != 0, 10, "the job's end")
        assert "I/O error" in guest.state_reason()
        probe.run("journal=/run/lab/journal", "recover")
        assert guest.state() == "running"
        guest.serial().wait_ack(more=10)
        probe.clean()
        assert not host.tree(directory) or host.tree(directory) == [directory], host.tree(directory)
        guest.serial()
    finally:
        guest.destroy()
        host.run("umount", directory)


def test_libvirtd_restart(guest, probe):
    """kill -9 of libvirtd while a point is open: reading goes on, the job is ended after the reconnect."""
    base = probe.name(probe.run(*begin_steps(), *END))
    process = probe.start(f"base={base}", "new", "prepare", "begin", "connect", "sleep=3000", f"read={OUT}", "wait", *END)
    probe.until(process, "ok connect")
    probe.host.libvirtd("kill")
    time.sleep(1)
    probe.host.libvirtd("start")
    out = process.stdout.read()
    print(out)
    assert process.wait() == 0, out
    probe.run(f"delete={base}", "sweep-checkpoints")
    probe.clean()


def test_qemu_stopped(guest, probe):
    """QEMU does not answer: reads fail in time."""
    process = probe.start("new", "prepare", "begin", "connect", "sleep=1000", "expect=source-stalled", f"read={OUT}", "sleep=2000",
                          "release", "end", "abort")
    probe.until(process, "ok connect")
    pid = [p["pid"] for p in probe.host.processes() if p["comm"].startswith("qemu-system")][0]
    os.kill(pid, signal.SIGSTOP)
    probe.until(process, "failed read")
    os.kill(pid, signal.SIGCONT)
    out = process.stdout.read()
    assert process.wait() == 0, out
    probe.clean()


def main():
    tests = {n[5:]: f for n, f in globals().items() if n.startswith("test_")}
    failed = 0
    for name in sys.argv[1:] or tests:
        with Guest(Host("kvm1"), name="points", churn=1024).define() as guest:
            guest.start()
            try:
                tests[name](guest, Probe(guest))
                print("ok", name, flush=True)
            except Exception as error:
                print("not ok", name, type(error).__name__, error, flush=True)
                failed += 1
                if os.environ.get("KEEP"):
                    os._exit(1)
    sys.exit(failed != 0)


main()

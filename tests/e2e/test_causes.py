# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever ends replication is told on both hosts, with its words and an action, and when it is over replication goes
on by itself: a table of causes, printed with the seconds that each took."""
import contextlib
import os
import signal
import time

import lab
import ops
from lab import LabError, wait_for
from protected import wall

INTERVAL = 3
TOLD = 15  # seconds, or two intervals
HEALED = INTERVAL + 5


class Case:
    """One guest protected to kvm2 at a short interval, to which things happen."""

    def __init__(self, guest, source, target):
        self.guest, self.source, self.target = guest, source, target

    def reasons(self, host):
        return {r["code"]: r for r in host.vr("info", self.guest.uuid)["reasons"]}

    def told(self, host, code, words, action):
        """Seconds until `host` says it, with all of the words in the message and the action's part."""
        began = time.monotonic()

        def said():
            reason = self.reasons(host).get(code)
            return reason if reason and all(w in reason["message"] for w in words) else None
        reason = wait_for(said, 3 * TOLD, f"{host.name} does not say {code} {words}", 0.2)
        seconds = time.monotonic() - began
        assert action in reason["action"] and "nterval" not in reason["action"], reason
        return seconds

    def between_cycles(self, *command):
        """What libvirt refuses while a cycle's own backup job runs, and makes a cycle wait for that just begins."""
        answers = []

        def done():
            before = ops.points(self.target, self.guest.uuid)[-1]
            wait_for(lambda: ops.points(self.target, self.guest.uuid)[-1] > before, 20, "a cycle")
            answers.append(self.source.run("virsh", "-q", *command, check=False))
            return answers[-1][0] == 0
        try:
            wait_for(done, 20, f"virsh {command[0]}")
        except LabError as e:
            raise LabError(f"{e}: {answers[-1][2]}") from None

    def healed(self):
        """Seconds until there is a new recovery point and neither host complains any more."""
        began, before = time.monotonic(), ops.points(self.target, self.guest.uuid)[-1]
        wait_for(lambda: ops.points(self.target, self.guest.uuid)[-1] > before, HEALED + 30, "no new recovery point", 0.2)
        seconds = time.monotonic() - began
        for host in (self.source, self.target):
            wait_for(lambda h=host: not set(self.reasons(h)) - {"cycles-missed"}, 40,
                     f"{host.name} still says {self.reasons(host)}", 0.5)
        return seconds


    def shut_off(self):
        """Nothing is newer than the replica: its age does not count, on neither side, until the peer is silent."""
        self.guest.destroy()
        for host in (self.source, self.target):
            wait_for(lambda h=host: h.vr("info", self.guest.uuid)["rpo_seconds"] == 0, 45, f"{host.name} knows that it is off")
        self.source.daemon("stop")
        wait_for(lambda: self.target.vr("info", self.guest.uuid)["rpo_seconds"] > 0, 45, "nobody knows now")
        self.source.daemon("start")


def peer_dead(case):
    """And when it was seen last is true, though nobody asked for it in between."""
    time.sleep(5)
    stopped = time.time()
    case.target.daemon("stop")
    seen = case.source.vr("peer-list")[0]["last_seen"]
    assert stopped - wall(seen) < 10, (stopped, seen)
    yield case.source, "peer-unreachable", ["kvm2"], "Check the other host"
    case.target.daemon("start")


def source_dead(case):
    case.source.daemon("kill")
    yield case.target, "peer-unreachable", ["kvm1"], "Check the other host"
    case.source.daemon("start")


def peer_hangs(case):
    """The connection stands, nobody is behind it."""
    os.kill(case.target.daemon_pid(), signal.SIGSTOP)
    yield case.source, "peer-unreachable", ["kvm2"], "Check the other host"
    case.target.daemon("cont")


def link_cut(case):
    """Packets are lost without a word, in both directions."""
    case.target.run("ip", "link", "set", "eth0", "down")
    yield case.source, "peer-unreachable", ["kvm2"], "Check the other host"
    yield case.target, "peer-unreachable", ["kvm1"], "Check the other host"
    case.target.run("ip", "link", "set", "eth0", "up")


def libvirtd_dead(case):
    case.source.libvirtd("kill")
    yield case.source, "libvirt-unreachable", ["kvm1"], "Check that libvirtd"
    case.source.libvirtd("start")


def libvirtd_hangs(case):
    os.kill(case.source.daemon_pid("libvirtd"), signal.SIGSTOP)
    yield case.source, "libvirt-unreachable", ["kvm1", "not answered"], "Check that libvirtd"
    case.source.libvirtd("cont")


def other_block_job(case):
    copy = f"{lab.IMAGES}/{case.guest.name}/copy.qcow2"
    case.between_cycles("blockcopy", case.guest.name, "vdb", copy, "--transient-job")
    yield case.source, "cycle-failed", ["vdb", "copy"], "virsh blockjob"
    case.source.virsh("blockjob", case.guest.name, "vdb", "--abort")


def other_backup(case):
    scratch = f"{lab.IMAGES}/{case.guest.name}/other.scratch"
    case.source.write("/tmp/backup.xml", "<domainbackup mode='pull'><server transport='unix' socket='/var/lib/libvirt/"
                      "qemu/other.sock'/><disks><disk name='vda' backup='no'/><disk name='vdb' type='file'>"
                      f"<scratch file='{scratch}'/></disk></disks></domainbackup>")
    case.between_cycles("backup-begin", case.guest.name, "/tmp/backup.xml")
    yield case.source, "cycle-failed", ["backup"], "domjobabort"
    case.source.virsh("domjobabort", case.guest.name)


def over_quota(case):
    case.target.vr("peer-set", "kvm1", "--quota", "1MiB")
    yield case.source, "quota-exceeded", ["kvm2"], ""
    case.target.vr("peer-set", "kvm1", "--quota", "0")


def undefined(case):
    """Its QEMU goes on without a definition; then it is defined again."""
    xml = case.source.virsh("dumpxml", "--inactive", case.guest.name)
    case.guest.destroy()
    case.source.virsh("undefine", case.guest.name, *ops.UNDEFINE)
    yield case.source, "blocked", [case.guest.name], ""
    case.source.virsh("define", "/dev/stdin", stdin=xml)
    case.guest.start(wait=False)


def qemu_killed(case):
    pid = next(p["pid"] for p in case.source.processes() if p["comm"].startswith("qemu-system"))
    os.kill(pid, signal.SIGKILL)
    time.sleep(INTERVAL)
    case.guest.start(wait=False)
    yield from ()


CAUSES = [peer_dead, source_dead, peer_hangs, link_cut, libvirtd_dead, libvirtd_hangs, other_block_job, other_backup,
          over_quota, qemu_killed, undefined]
SHORT = [peer_dead, libvirtd_hangs, other_block_job, over_quota, undefined]


def table(causes, strict):
    """Strict: in the time that it may take on a machine that has nothing else to do."""
    slow = []
    with ops.protected("table", policy={"interval": f"{INTERVAL}s", "rpo_target": "10min"}, churn=32, area=4) as all_of_it:
        case = Case(*all_of_it)
        for cause in causes:
            happens, told = cause(case), []
            with contextlib.closing(happens):
                for host, code, words, action in happens:
                    told.append(case.told(host, code, words, action))
                healed = case.healed()
            print(f"{cause.__name__:16} told after {', '.join(f'{s:.1f} s' for s in told) or '-'}, "
                  f"replicated again after {healed:.1f} s")
            slow += [cause.__name__] if max(told + [0]) > TOLD or healed > HEALED else []
        if strict:
            case.shut_off()
    if slow and strict:
        raise LabError(f"told later than {TOLD} s or healed later than {HEALED} s: {', '.join(slow)}")


def test_table():
    table(SHORT, strict=False)


def test_long_table():
    table(CAUSES, strict=True)

#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A running guest's random data against nbdcopy, a delta of 16 MiB, an idle cycle. `tests/lab bench`.

Both read the same kind of export, a pull backup of the running guest, in turns; nbdcopy writes to a qcow2 image that
qemu-nbd serves on the other host. Prints medians and never asserts: both hosts are on one machine, so the numbers
compare only with each other.
"""
import argparse
import collections
import contextlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time

import lab
import ops
from lab import Guest, wait_for
from protected import sent_bytes

ROUNDS = 5
MIB = 1 << 20
GIB = 1 << 30
DELTA = 16 * MIB
PSK = "/run/lab/psk"
EXPORT = "/var/lib/libvirt/qemu/bench.sock"
FLUSHES = ("fsync", "fdatasync", "syncfs", "sync_file_range", "msync")


def fill(host, guest, size):
    raw = guest.disk("vda") + ".raw"
    host.run("sh", "-c", f"head -c {size} /dev/urandom >{raw}", timeout=120)
    host.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1", raw, guest.disk("vda"), timeout=120)
    host.run("rm", raw)


def timed(function):
    began = time.monotonic()
    function()
    return time.monotonic() - began


# Processor time

def cpu_of(host, comm):
    """Seconds so far of the host's processes of that name and of the children they waited for."""
    ticks = 0
    for process in host.processes():
        if process["comm"].startswith(comm):
            with open(f"/proc/{process['pid']}/stat") as f:
                ticks += sum(int(n) for n in f.read().rsplit(")", 1)[1].split()[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Cpu:
    """What the readings grow by: {name: seconds}."""

    def __init__(self, **readings):
        self.readings = readings
        self.begin = {name: read() for name, read in readings.items()}

    def grown(self):
        return {name: read() - self.begin[name] for name, read in self.readings.items()}


# Initial replication: (seconds, {process: processor seconds})

def ours(source, target, guest):
    """From the command to its end: checked, sent, digests equal, durable, committed."""
    cpu = Cpu(source=lambda: cpu_of(source, "virt-replicad"), target=lambda: cpu_of(target, "virt-replicad"),
              qemu=lambda: cpu_of(source, "qemu-system"))
    seconds = timed(lambda: source.vr("protect", guest.name, "--to", "kvm2", "--policy", "bench", timeout=300))
    used = cpu.grown()
    forget(source, target, guest)
    return seconds, used


def forget(source, target, guest):
    """On both hosts, so that the next one is an initial replication again; the target may have kept it for a grace."""
    source.vr("unprotect", guest.name)
    with contextlib.suppress(lab.VrError):
        target.vr("unprotect", guest.name)


@contextlib.contextmanager
def export(source, guest):
    """A pull backup of the running guest's vda."""
    source.virsh("backup-begin", guest.name, "/dev/stdin",
                 stdin=f"<domainbackup mode='pull'><server transport='unix' socket='{EXPORT}'/><disks>"
                       f"<disk name='vda' backup='yes' type='file'><scratch file='{lab.IMAGES}/bench-scratch'/></disk>"
                       "<disk name='vdb' backup='no'/></disks></domainbackup>")
    try:
        yield f"nbd+unix:///vda?socket={EXPORT}"
    finally:
        source.virsh("domjobabort", guest.name)


@contextlib.contextmanager
def served(target, image, options):
    server = target.popen("qemu-nbd", "-t", "-f", "qcow2", "-e", "8", "-p", "10809", *options, image)
    try:
        wait_for(lambda: target.run("sh", "-c", "ss -ltn | grep -q :10809", check=False)[0] == 0, 10, "qemu-nbd", 0.02)
        yield
    finally:
        for process in target.processes():
            if process["comm"] == "qemu-nbd":
                os.kill(process["pid"], 15)
        server.wait(20)


def theirs(source, target, guest, size, tls):
    """nbdcopy --flush from the export to a qcow2 on the other host; what prepares and ends it is not in the seconds."""
    copy = f"{lab.IMAGES}/copy.qcow2"
    target.run("qemu-img", "create", "-q", "-f", "qcow2", copy, str(size))
    options = ["--object", f"tls-creds-psk,id=tls,endpoint=server,dir={PSK}", "--tls-creds", "tls"] if tls else []
    to = f"nbds://bench@kvm2:10809/?tls-psk-file={PSK}/keys.psk" if tls else "nbd://kvm2:10809/"
    try:
        with export(source, guest) as uri:
            cpu = Cpu(nbdcopy_and_server=cpu_of_children, qemu=lambda: cpu_of(source, "qemu-system"))
            with served(target, copy, options):
                seconds = timed(lambda: source.run("nbdcopy", "--flush", uri, to, timeout=300))
            return seconds, cpu.grown()
    finally:
        target.run("rm", "-f", copy)


def tls_works(source, target, guest, size):
    key = os.urandom(32).hex()
    for host in (source, target):
        host.run("mkdir", "-p", PSK)
        host.write(f"{PSK}/keys.psk", f"bench:{key}\n", 0o600)
    try:
        theirs(source, target, guest, size, True)
        return True
    except lab.LabError as e:
        print(f"nbdcopy over TLS does not work here, plain TCP instead: {str(e)[-200:]}", file=sys.stderr)
        return False


def summary(runs, size):
    """Of [(seconds, {process: processor seconds})]."""
    return {"seconds": median([s for s, _ in runs]), "runs": [round(s, 3) for s, _ in runs],
            "cpu_seconds_per_gib": {name: median([used[name] * GIB / size for _, used in runs]) for name in runs[0][1]}}


def median(values):
    return round(statistics.median(values), 3)


def initial(source, target, guest, size, count):
    tls = tls_works(source, target, guest, size)
    pairs = [(ours(source, target, guest), theirs(source, target, guest, size, tls)) for _ in range(count)]
    return {"bytes": size, "pairs": count, "nbdcopy_tls": tls,
            "virt_replica": summary([p[0] for p in pairs], size), "nbdcopy": summary([p[1] for p in pairs], size),
            "ratio": median([p[1][0] / p[0][0] for p in pairs])}


# Cycles

def node_of(source, guest, disk):
    answer = source.virsh("qemu-monitor-command", guest.name, '{"execute":"query-block"}')
    for device in json.loads(answer)["return"]:
        inserted = device.get("inserted", {})
        if guest.disk(disk) in (inserted.get("file"), inserted.get("image", {}).get("filename")):
            return inserted["node-name"]
    raise lab.LabError(f"no node of {disk}")


class Flushes:
    """Counts the daemon's calls that wait for a disk. It is slower meanwhile."""

    def __init__(self, host):
        self.host, self.path = host, f"{lab.LAB_DIR}/{host.name}-flushes"
        self.tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", self.path, "-e", "trace=" + ",".join(FLUSHES),
                                        "-p", str(host.daemon_pid())], stdin=subprocess.DEVNULL)
        wait_for(self._attached, 10, f"strace of virt-replicad on {host}")

    def _attached(self):
        with open(f"/proc/{self.host.daemon_pid()}/status") as f:
            return re.search(r"^TracerPid:\s+[1-9]", f.read(), re.M)

    def end(self):
        """{call: how often}"""
        self.tracer.terminate()
        self.tracer.wait(20)
        with open(self.path) as f:
            return collections.Counter(re.findall(r"^\d+ +(\w+)\(", f.read(), re.M))


def flushes(hosts, function):
    """Per call of the function, of ROUNDS: {host: {call: how often}}."""
    counting = [Flushes(host) for host in hosts]
    for _ in range(ROUNDS):
        function()
    return {each.host.name: {call: n / ROUNDS for call, n in sorted(each.end().items())} for each in counting}


def cycles(source, target, guest):
    source.vr("protect", guest.name, "--to", "kvm2", "--policy", "bench", timeout=300)
    source.vr("sync", guest.name)
    node = node_of(source, guest, "vda")
    delta, idle, wire = [], [], []
    for i in range(ROUNDS):
        write = f'qemu-io {node} "write -P {i + 1} {i * DELTA} {DELTA}"'
        source.virsh("qemu-monitor-command", guest.name, "--hmp", write)
        delta.append(timed(lambda: source.vr("sync", guest.name)))
        before = sent_bytes(source)
        idle.append(timed(lambda: source.vr("sync", guest.name)))
        wire.append(sent_bytes(source) - before)
    waits = flushes((source, target), lambda: source.vr("sync", guest.name))
    forget(source, target, guest)
    return ({"bytes": DELTA, "seconds": median(delta), "runs": [round(s, 3) for s in delta]},
            {"seconds": median(idle), "runs": [round(s, 3) for s in idle], "wire_bytes": int(statistics.median(wire)),
             "flushes": waits})


# Output

def row(name, measured, size=None):
    rate = f"{size / MIB / measured['seconds']:7.0f} MiB/s" if size else ""
    print(f"  {name:<44} {measured['seconds']:7.3f} s {rate:>16}   ({', '.join(f'{s:.3f}' for s in measured['runs'])})")


def table(results):
    first, delta, idle = results["initial"], results["delta"], results["idle"]
    print(f"initial replication of a running guest, {first['bytes'] // MIB} MiB of random data, "
          f"medians of {first['pairs']} alternating pairs")
    row("virt-replica protect (digests, commit, TLS)", first["virt_replica"], first["bytes"])
    wire = "TLS" if first["nbdcopy_tls"] else "plain TCP"
    row(f"nbdcopy to a remote qcow2 ({wire})", first["nbdcopy"], first["bytes"])
    print(f"  median of the pairs' ratios, nbdcopy / virt-replica: {first['ratio']:.2f}")
    for name in ("virt_replica", "nbdcopy"):
        used = first[name]["cpu_seconds_per_gib"]
        print(f"  processor seconds per GiB, {name.replace('_', '-')}: {sum(used.values()):.2f} ("
              + ", ".join(f"{process.replace('_', ' ')} {seconds:.2f}" for process, seconds in used.items()) + ")")
    print(f"cycles of the running guest, {ROUNDS} each, medians, the command included")
    row("16 MiB changed", delta, delta["bytes"])
    row("nothing changed", idle)
    print(f"  sent by the source for an idle cycle: {idle['wire_bytes']} bytes (with TLS, TCP and Ethernet)")
    for host, calls in idle["flushes"].items():
        print(f"  flushes of an idle cycle on {host}: {sum(calls.values()):g} ("
              + ", ".join(f"{call} {n:g}" for call, n in calls.items()) + ")")
    print(f"{results['machine']['processors']} processors, load {results['machine']['load']:.1f} at the end")


def main():
    parser = argparse.ArgumentParser(prog="tests/lab bench")
    parser.add_argument("--pairs", type=int, default=5, help="initial replications of each kind (default 5)")
    parser.add_argument("--mib", type=int, default=1024, help="size of the disk (default 1024)")
    parser.add_argument("--json", action="store_true", help="one JSON value instead of the table")
    options = parser.parse_args()
    if options.pairs < 1 or options.mib * MIB < (ROUNDS + 1) * DELTA:
        parser.error(f"--pairs: at least 1; --mib: at least {(ROUNDS + 1) * DELTA // MIB}")
    size = options.mib * MIB
    source, target = ops.paired()
    lab.define_policy(source, "bench", interval="1h", rpo_target="2h")
    try:
        with Guest(source, "bench", mode="idle", vda_size=size, vdb_size="8M").define() as guest:
            fill(source, guest, size)
            guest.start()
            results = {"initial": initial(source, target, guest, size, options.pairs)}
            results["delta"], results["idle"] = cycles(source, target, guest)
            results["machine"] = {"processors": os.cpu_count(), "load": os.getloadavg()[0]}
    finally:
        ops.reset()
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        table(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Initial replication of 1 GiB of random data against nbdcopy, a delta of 16 MiB, an idle cycle. `tests/lab bench`.

Prints medians and never asserts: both hosts are on one machine, so the numbers compare only with each other.
"""
import json
import os
import statistics
import sys
import time

import lab
import ops
from lab import Guest, wait_for

PAIRS = 3
ROUNDS = 5
GIB = 1 << 30
PSK = "/run/lab/psk"


def fill(host, guest):
    raw = guest.disk("vda") + ".raw"
    host.run("sh", "-c", f"head -c {GIB} /dev/urandom >{raw}", timeout=120)
    host.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1", raw, guest.disk("vda"), timeout=120)
    host.run("rm", raw)


def timed(function):
    began = time.monotonic()
    function()
    return time.monotonic() - began


def ours(source, guest):
    """From the command to its end: checked, sent, digests equal, durable, committed."""
    seconds = timed(lambda: source.vr("protect", guest.name, "--to", "kvm2", "--policy", "bench", timeout=300))
    source.vr("unprotect", guest.name)
    return seconds


def serve(host, socket_or_port, image, *options):
    server = host.popen("qemu-nbd", "-t", "-f", "qcow2", "-e", "8", *socket_or_port, *options, image)
    wait_for(lambda: host.run("sh", "-c", f"test -S {socket_or_port[1]} || ss -ltn | grep -q :{socket_or_port[1]}",
                              check=False)[0] == 0, 10, "qemu-nbd", 0.02)
    return server


def stop(host, server):
    for process in host.processes():
        if process["comm"] == "qemu-nbd":
            os.kill(process["pid"], 15)
    server.wait(20)


def theirs(source, target, guest, tls):
    """nbdcopy --flush from an export of the image to a qcow2 on the other host, served by qemu-nbd."""
    copy = f"{lab.IMAGES}/copy.qcow2"
    target.run("qemu-img", "create", "-q", "-f", "qcow2", copy, str(GIB))
    options = ["--object", f"tls-creds-psk,id=tls,endpoint=server,dir={PSK}", "--tls-creds", "tls"] if tls else []
    uri = f"nbds://bench@kvm2:10809/?tls-psk-file={PSK}/keys.psk" if tls else "nbd://kvm2:10809/"
    reader = serve(source, ("-k", "/run/lab/bench.sock"), guest.disk("vda"), "-r")
    writer = serve(target, ("-p", "10809"), copy, *options)
    try:
        return timed(lambda: source.run("nbdcopy", "--flush", "nbd+unix:///?socket=/run/lab/bench.sock", uri,
                                        timeout=300))
    finally:
        stop(source, reader)
        stop(target, writer)
        target.run("rm", "-f", copy)


def tls_works(source, target, guest):
    key = os.urandom(32).hex()
    for host in (source, target):
        host.run("mkdir", "-p", PSK)
        host.write(f"{PSK}/keys.psk", f"bench:{key}\n", 0o600)
    try:
        theirs(source, target, guest, True)
        return True
    except lab.LabError as e:
        print(f"nbdcopy over TLS does not work here, plain TCP instead: {str(e)[-200:]}")
        return False


def row(name, seconds, size=None):
    rate = f"{size / (1 << 20) / statistics.median(seconds):7.0f} MiB/s" if size else ""
    print(f"  {name:<44} {statistics.median(seconds):7.3f} s {rate:>16}   "
          f"({', '.join(f'{s:.3f}' for s in seconds)})", flush=True)


def initial(source, target, guest):
    tls = tls_works(source, target, guest)
    pairs = [(ours(source, guest), theirs(source, target, guest, tls)) for _ in range(PAIRS)]
    print(f"initial replication of 1 GiB of random data, {PAIRS} alternating pairs, medians")
    row("virt-replica protect (digests, commit, TLS)", [p[0] for p in pairs], GIB)
    row(f"nbdcopy to a remote qcow2 ({'TLS' if tls else 'plain TCP'})", [p[1] for p in pairs], GIB)
    print(f"  ratio of the medians, nbdcopy / virt-replica: "
          f"{statistics.median(p[1] for p in pairs) / statistics.median(p[0] for p in pairs):.2f}")


def node_of(source, guest, disk):
    answer = source.virsh("qemu-monitor-command", guest.name, '{"execute":"query-block"}')
    for device in json.loads(answer)["return"]:
        inserted = device.get("inserted", {})
        if guest.disk(disk) in (inserted.get("file"), inserted.get("image", {}).get("filename")):
            return inserted["node-name"]
    raise lab.LabError(f"no node of {disk}")


def sent_bytes(host):
    return int(host.read("/sys/class/net/eth0/statistics/tx_bytes"))


def cycles(source, guest):
    guest.start()
    source.vr("protect", guest.name, "--to", "kvm2", "--policy", "bench", timeout=300)
    source.vr("sync", guest.name)
    node = node_of(source, guest, "vda")
    delta, idle, wire = [], [], []
    for i in range(ROUNDS):
        source.virsh("qemu-monitor-command", guest.name, "--hmp", f'qemu-io {node} "write -P {i + 1} {i * 16}M 16M"')
        delta.append(timed(lambda: source.vr("sync", guest.name)))
        before = sent_bytes(source)
        idle.append(timed(lambda: source.vr("sync", guest.name)))
        wire.append(sent_bytes(source) - before)
    print(f"cycles of the running guest, {ROUNDS} each, medians, the command included")
    row("16 MiB changed", delta, 16 << 20)
    row("nothing changed", idle)
    print(f"  bytes that the source sent for an idle cycle: {statistics.median(wire):.0f} (with TLS, TCP and Ethernet)")
    source.vr("unprotect", guest.name)


def main():
    source, target = ops.paired()
    lab.define_policy(source, "bench", interval="1h", rpo_target="2h")
    try:
        with Guest(source, "bench", mode="idle", vda_size="1G", vdb_size="8M").define() as guest:
            fill(source, guest)
            initial(source, target, guest)
            cycles(source, guest)
    finally:
        ops.reset()
    return 0


if __name__ == "__main__":
    sys.exit(main())

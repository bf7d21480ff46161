# SPDX-License-Identifier: LGPL-2.1-or-later
"""Cycles back to back: memory, descriptors, threads and checkpoints stay flat, points are as the policy says."""
import statistics
import time

import checker
import lab
from lab import wait_for
from protected import Protected, retained

MIB = 1 << 20
LAYERS = 128  # at most, whatever the policy
GROWTH = 24 * MIB  # of private memory from SETTLED on
KEEP = 10.0  # seconds of points in the second half
SETTLED = 150  # cycles after which nothing may grow


def numbers(p):
    return {host.name: checker.daemon_numbers(host) for host in (p.source, p.target)}


def ours(p):
    return [c for c in p.source.virsh("checkpoint-list", p.guest.name, "--name").split() if c.startswith(lab.PREFIX)]


def kept(p, wanted):
    """Until retention is done and what is listed is what was wanted."""
    wait_for(lambda: wanted(p.points()), 120, "retention catches up", 0.5)


def cycles(p, count):
    """Seconds of each; the command's own time is not counted."""
    took = []
    for _ in range(count):
        took.append(p.sync()["steps"][0]["seconds"])
    return took


def endure(count):
    """More than twice the points that are kept at most: in the second half nothing is there of the first."""
    policy = {"keep_all": "1h", "keep_hourly": 0, "keep_daily": 0}
    with Protected("endurance", policy=policy, churn=64, rate=10, area=8) as p:
        first, began = p.last_number(), time.monotonic()
        took = cycles(p, SETTLED)
        assert len(p.points()) <= LAYERS + 16, f"{len(p.points())} points"
        before, bitmaps = numbers(p), {disk: len(names) for disk, names in p.check.bitmaps().items()}
        took += cycles(p, count // 2 - SETTLED)
        kept(p, lambda points: len(points) == LAYERS)
        p.check.check(retention=True, recent=4)

        lab.define_policy(p.source, p.policy, interval="24h", keep_all=f"{KEEP:g}s", keep_hourly=0, keep_daily=0)
        took += cycles(p, count - count // 2)
        assert p.last_number() - first >= count
        after = numbers(p)
        kept(p, lambda points: retained(points, KEEP))
        print(f"{count} cycles in {time.monotonic() - began:.0f} s; a cycle takes {1000 * statistics.median(took):.0f} ms, "
              f"first hundred {1000 * statistics.median(took[:100]):.0f} ms, last {1000 * statistics.median(took[-100:]):.0f} ms")
        for host in before:
            grown = {key: after[host][key] - before[host][key] for key in ("private", "fds", "threads")}
            print(f"{host}: grown since cycle {SETTLED} by {grown['private'] / MIB:.1f} MiB, {grown['fds']} descriptors, "
                  f"{grown['threads']} threads; private memory {after[host]['private'] / MIB:.1f} MiB")
            assert grown["private"] < GROWTH and grown["fds"] <= 4 and grown["threads"] <= 4, (host, before, after)
        assert len(ours(p)) == 1, ours(p)
        assert {disk: len(names) for disk, names in p.check.bitmaps().items()} == bitmaps
        assert statistics.median(took[-100:]) < 2 * statistics.median(took[:100]) + 0.05, "cycles get slower"
        p.scheduled()
        p.check.check(retention=True, settle=30)


def test_long_hundreds_of_cycles():
    endure(300)


def test_long_thousands_of_cycles():
    endure(3000)

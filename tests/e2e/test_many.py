# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many domains on a host that cannot carry them: everybody's interval gets longer alike, and the host says why."""
import statistics
import time

import lab
import ops
from lab import Guest, wait_for

DOMAINS = 60
INTERVAL = 3
SECONDS = 120


def rpos(source):
    return [p["rpo_seconds"] for p in source.vr("list")]


def test_long_sixty_domains():
    source, target = ops.paired()
    lab.define_policy(source, "seldom", interval="1h", rpo_target="2h")
    for i in range(DOMAINS):  # paused before their first instruction: a QEMU each, and no load
        guest = Guest(source, f"many{i}", mode="idle", vda_size="8M", vdb_size="8M", memory_mib=64).define()
        source.virsh("start", guest.name, "--paused")
        source.vr("protect", guest.name, "--to", "kvm2", "--policy", "seldom")
    lab.define_policy(source, "seldom", interval=f"{INTERVAL}s", rpo_target="10min")
    time.sleep(60)  # until all have their turn at the new pace
    worst, means = [], []
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        found = rpos(source)
        worst.append(max(found))
        means.append(statistics.mean(found))
        time.sleep(2)
    print(f"{DOMAINS} domains at {INTERVAL} s: RPO {statistics.mean(means):.1f} s in the mean, {max(worst):.1f} s at most")
    assert max(worst) < 3 * statistics.mean(means), (max(worst), statistics.mean(means))
    wait_for(lambda: [f for f in source.vr("status")["findings"] if f["code"] == "host-overloaded"] or
             statistics.mean(means) < INTERVAL, 30, "the host says that it is overloaded")
    ops.reset()

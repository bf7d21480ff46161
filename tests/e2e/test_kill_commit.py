# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 of the source around the COMMIT: what changed since stays known, whole disks are not compared again."""

from lab import LabError, wait_for
from ops import restart
from protected import Protected

# Each is the second pass: that of the sync behind the cycle that a start begins with.
AROUND = [f"S{i}:kill#2" for i in (10, 11, 9, 12)]
DISKS = (96 + 16) << 20  # SMALL
FEW = DISKS // 8  # the guest writes less than that between two cycles


def last_cycle(p):
    cycle = p.info()["last_cycle"]
    return cycle if cycle and cycle["kind"] and cycle["state"] == "completed" else None


def kill_at(p, fault):
    """Returns the bytes read by the cycle behind the restart and by the one after it."""
    p.start_source(fault)
    sync = p.sync_begun()
    assert p.source.daemon("wait") == "137", f"{fault}: the daemon did not die by the fault"
    before = p.last_number()
    restart(p.source)
    seen = []

    def went_on():
        """The states seen on the way, too."""
        seen.append(p.info()["state"])
        return p.last_number() > before and last_cycle(p)
    cycle = wait_for(went_on, 60, f"{fault}: a cycle behind the restart")
    sync.communicate(timeout=60)
    p.settle()
    cycles = (cycle, last_cycle(p))
    for found in cycles:
        if found["kind"] != "delta" or found["bytes_read"] > FEW:
            raise LabError(f"{fault}: the next cycle was no small delta: {found}")
    if set(seen) != {"protected"}:
        raise LabError(f"{fault}: states on the way: {seen}")
    log = p.source.daemon_log()
    if "everything is compared" in log[log.rindex("--- "):]:
        raise LabError(f"{fault}: the tracking was lost")
    return [found["bytes_read"] for found in cycles]


def kill_around_commit(rounds):
    with Protected("killed-at-commit", churn=64) as p:
        for fault in AROUND * rounds:
            kill_at(p, fault)
        p.check.check(recent=2)


def test_tracking_survives():
    kill_around_commit(1)


def test_long_tracking_survives():
    kill_around_commit(5)


def test_long_killed_at_commit():
    """The answer of COMMIT is the last that the source saw, 20 times: never are whole disks compared."""
    read = []
    with Protected("killed-at-s10", churn=64) as p:
        for _ in range(20):
            read += kill_at(p, "S10:kill#2")
        p.check.check(recent=2)
    print(f"{len(read)} cycles behind 20 kills, all deltas: {max(read) >> 10} KiB read at most, "
          f"{sum(read) // len(read) >> 10} KiB on average, of {DISKS >> 10}")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""An interval of one second holds on a guest that writes."""
import time

from protected import Protected, wall

SECONDS = 30
RPO = 3.0


def test_one_second():
    with Protected("each-second", policy={"interval": "1s", "rpo_target": "3s"}, churn=1024) as p:
        first, began = p.last_number(), time.monotonic()
        worst = 0.0
        while time.monotonic() < began + SECONDS:
            time.sleep(0.5)
            worst = max(worst, p.info()["rpo_seconds"])
        points = p.points()
        made = points[-1]["number"] - first
        times = [wall(x["time"]) for x in points if x["number"] >= first]
        gaps = [b - a for a, b in zip(times, times[1:])]
        print(f"{made} recovery points in {SECONDS} s, RPO at most {worst:.2f} s, "
              f"between two points at most {max(gaps):.2f} s")
        assert made >= 20, f"{made} recovery points in {SECONDS} s"  # another lab may run beside
        assert worst <= RPO and max(gaps) <= RPO, (worst, max(gaps))
        info = p.info()
        assert info["health"] == "ok", info["reasons"]
        p.source.vr("pause", p.guest.name)
        p.check.check(recent=10, open_cycles=1)  # the pause may have come in the middle of one

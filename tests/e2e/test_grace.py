# SPDX-License-Identifier: LGPL-2.1-or-later
"""A source may end replication, not destroy: what is on the target stays for the grace its operator gave the peer."""
import json
import os
import time
import uuid as uuidlib

import lab
import ops
import protected

HERE = os.path.dirname(os.path.abspath(__file__))
DAY = 24 * 3600
LONG = "interval=5s\\nkeep-all=24h\\nkeep-hourly=24\\nkeep-daily=7\\n"
SHORT = "interval=1s\\nkeep-all=1s\\nkeep-hourly=0\\nkeep-daily=0\\n"


def hostile(source, uuid, script):
    """Runs a script on the source that has `s`, a peer_client.Source; returns what it puts into `out`."""
    text = ("import json, time\nfrom peer_client import *\n"
            f"s, out = Source('10.77.0.2', '{uuid}', 'theirs'), {{}}\n{script}\nprint(json.dumps(out))\n")
    return json.loads(source.run("env", f"PYTHONPATH={HERE}", "python3", "-B", "-c", text, timeout=120))


def history(policy=LONG):
    """Five recovery points of hours that the source made up."""
    return (f"assert s.put('{policy}')[0] == 200\n"
            "for i in range(5):\n"
            "    answer = s.cycle(i + 1, time.time() * 1e6 - 3600e6 * (5 - i))\n"
            "    assert answer[0] == 200, answer\n"
            "out['before'] = s.points()\n")


def attack(source, target, script):
    """(points before, points after, out)"""
    uuid = str(uuidlib.uuid4())
    out = hostile(source, uuid, history() + script)
    time.sleep(3)  # retention works behind the answer
    return out["before"], ops.points(target, uuid), out


def paired(grace=7 * DAY):
    hosts = ops.reset()
    lab.pair(*hosts, grace=grace)
    return hosts


def test_a_key_alone_takes_no_history():
    source, target = paired()
    for name, script in {
        "future": "for k in range(3): out['last'] = s.cycle(90 + k, time.time() * 1e6 + 10 * 365 * 86400e6 + k)\n",
        "past": "for k in range(3): out['last'] = s.cycle(90 + k, 0)\n",
        "hours": "for k in range(30): out['last'] = s.cycle(90 + k, time.time() * 1e6 - 86400e6 + k * 3600e6)\n",
        "policy": f"assert s.put('{SHORT}')[0] == 200\n"
                  f"assert s.put('{LONG}')[0] == 200\nassert s.put('{SHORT}')[0] == 200\n"
                  "for k in range(3): out['last'] = s.cycle(90 + k)\n",
        "delete": "for k in range(2): out['last'] = s.delete()\nout['refused'] = s.cycle(9)\n",
    }.items():
        before, after, out = attack(source, target, script)
        assert out["last"][0] == 200, (name, out)
        assert len(before) == 5 and [n for n, _ in before] == after[:5], (name, before, after)
        if name in ("future", "past"):
            assert abs(out["last"][1]["time_us"] / 1e6 - time.time()) < (60 if name == "future" else 31 * DAY)
            assert out["last"][1]["time_us"] <= out["last"][1]["stored_us"]
        if name == "delete":
            assert out["refused"][0] == 409 and "replica-kept" in str(out["refused"]), out
    ops.reset()


def test_what_the_operator_says():
    """Grace 0: a shorter policy and the end of replication take hold at once. A short one runs out."""
    source, target = paired(grace=0)
    _, after, _ = attack(source, target, f"assert s.put('{SHORT}')[0] == 200\ntime.sleep(1.5)\n"
                         "out['last'] = s.cycle(9)\ntime.sleep(1)\nout['last'] = s.cycle(10)\n")
    assert after[-1] == 7 and after[0] > 4, after
    uuid = str(uuidlib.uuid4())
    hostile(source, uuid, history() + "out['last'] = s.delete()")
    ops.refused(target, 4, "info", uuid)
    assert not target.exists(f"{lab.STORE}/{uuid}")

    lab.set_delete_grace(target, 4)
    uuid = str(uuidlib.uuid4())
    hostile(source, uuid, history() + "out['last'] = s.delete()")
    assert target.vr("info", uuid)["kept"]
    lab.wait_for(lambda: not target.exists(f"{lab.STORE}/{uuid}"), 30, "the grace is over")
    ops.refused(target, 4, "info", uuid)
    assert not target.exists(f"{ops.STATE}/fence/{uuid}")
    ops.reset()


def test_who_may_revive():
    source, target = paired()
    uuid = str(uuidlib.uuid4())
    out = hostile(source, uuid, history() + f"""
s.new_generation(); out['anew'] = s.put('{LONG}'), s.put('{LONG}', store='elsewhere'), s.points()
out['end'] = s.delete()
out['owner'] = s.put('{LONG}', generation=f'1 {{secrets.token_hex(16)}} ' + 'ab' * 32 + ' -')
out['kept'] = s.put('{LONG}')
s.new_generation(); out['store'] = s.put('{LONG}', store='elsewhere')
out['revived'] = s.put('{LONG}')
out['cycle'] = s.cycle(77)
out['after'] = s.points()
""")
    # as one that has lost its database does; it is the owner all the same
    assert out["anew"][0][0] == 200 and out["anew"][1][0] in (200, 409) and out["anew"][2] == out["before"], out
    assert out["end"][1]["kept_until_us"] / 1e6 - time.time() - 7 * DAY < 60, out
    for name, code in (("owner", "generation-owner"), ("kept", "replica-kept"), ("store", "store-differs")):
        assert code in str(out[name]), out
    assert out["revived"][0] == 200 and out["cycle"][0] == 200, out
    assert out["after"][:5] == out["before"] and len(out["after"]) == 6, out
    found = target.vr("info", uuid)
    assert found["state"] == "protected" and "kept" not in found, found
    out = hostile(source, str(uuidlib.uuid4()), f"assert s.put('{LONG}')[0] == 200\nout['end'] = s.delete()")
    assert out["end"] == [200, {"kept_until_us": 0}], "nothing was sent, nothing is kept"
    ops.reset()


def test_unprotect_and_back():
    """Listed until then, started by nobody, revived without a full copy, dropped at once where it lies."""
    with ops.protected(run=False, churn=0, extra_disks=["48M"]) as (guest, source, target):
        lab.set_delete_grace(target, 7 * DAY)
        protected.fill_protected(source, guest, "vdc", "32M")
        source.vr("sync", guest.name)
        assert protected.stored_bytes(target, guest) > 32 << 20
        guest.start().serial().wait_ack(5)
        source.vr("sync", guest.name)
        before = target.vr("rp-list", guest.name)
        until = source.vr("unprotect", guest.name)["result"]["kept_until"]
        assert abs(protected.wall(until) - time.time() - 7 * DAY) < 60, until
        kept = target.vr("info", guest.name)
        assert kept["kept_until"] == until and kept["state"] == "paused", kept
        assert [r["code"] for r in kept["reasons"]] == ["kept-until"], kept["reasons"]
        assert source.vr("list") == [] and target.vr("list")[0]["kept_until"] == until
        assert target.vr("rp-list", guest.name) == before
        assert target.exists(f"{ops.STATE}/fence/{guest.uuid}")
        ops.restart(target)
        assert target.vr("rp-list", guest.name) == before

        source.vr("protect", guest.name, "--to", "kvm2", "--policy", "test")
        again = ops.newest_job(source, "protect")
        assert again["bytes_sent"] < 16 << 20, again
        points = target.vr("rp-list", guest.name)
        assert points[:len(before)] == before and len(points) > len(before)
        assert "kept" not in target.vr("info", guest.name)
        source.vr("sync", guest.name)
        source.vr("failover", guest.name, "--planned")
        guest.moved_to(target).wait_line(r"^ACK ", 90)

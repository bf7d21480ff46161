# SPDX-License-Identifier: LGPL-2.1-or-later
"""kill -9 and an error at every step of the source, under a guest that writes."""
from protected import Protected, Witness, restart, second_pass

STEPS = [f"S{i}" for i in range(1, 14)]
COMMITTED = ("S10", "S11", "S12", "S13")  # the target has the recovery point before the step is done
RECENT = 2  # points that are read in full after each step; all of them at the end
FROZEN = ("S3", "S4", "S5")


def kill_at(p, witness, step, fault, options):
    p.start_source(fault)
    p.check.check(recent=RECENT)
    acked = p.serial.acked
    sync = p.sync_begun(*options)
    assert p.source.daemon("wait") == "137", f"{step}: the daemon did not die by the fault"
    # Nobody helps the guest now; a freeze must end by itself.
    p.serial.wait_ack(acked + 1, timeout=10)
    p.serial.wait_ack(more=3, timeout=10)

    before = p.last_number()
    restart(p.source, VR_FAULT="S8:stop")
    # The command waited for its job, which goes on.
    out = sync.communicate(timeout=60)[0]
    assert sync.returncode == 0, f"{step}: {out}"
    p.settle()
    p.scheduled()
    new = [x for x in p.points() if x["number"] > before]
    assert new, f"{step}: no recovery point after the restart"
    p.check.check(copies=witness.of(new), recent=RECENT)
    witness.forget()
    # That of the sync and, before or behind it, that of the cycle that each start begins with.
    assert ("app" in [x["consistency"] for x in new]) == bool(options), (step, new)


def kill_at_steps(steps):
    with Protected("killed-source") as p:
        p.guest.wait_agent()
        with Witness(p.source, p.guest.name) as witness:
            for step in steps:
                options = ("--quiesce",) if step in FROZEN else ()
                kill_at(p, witness, step, f"{step}:kill#{second_pass(step)}", options)
            kill_at(p, witness, "S7 at its end", "S7:kill#4", ())
            p.check.check()


def test_kill_at_some_steps():
    """Of those where something outlives the daemon: the freeze, the job, the recovery point, the base."""
    kill_at_steps(("S4", "S8", "S10", "S11"))


def test_long_kill_at_every_step():
    kill_at_steps(STEPS)


def test_error_at_every_step():
    """One run: the sync that fails at step n passes all steps before it, so the next one fails at step n + 1."""
    with Protected("failing-source") as p:
        p.start_source(",".join(f"{step}:errno=EIO#{second_pass(step)}" for step in STEPS))
        p.check.check()
        for step in STEPS:
            _, text = p.sync_fails()
            assert f"step {step} " in text, (step, text)
            p.settle()
            committed = step in COMMITTED
            p.check.check(added=1 if committed else 0, open_cycles=0 if committed else 1,
                          recent=RECENT)
            assert p.info()["state"] == "protected", (step, p.info())
        p.sync()
        p.scheduled()
        p.check.check(added=1)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the target notices of its layers by itself, without any command of anybody."""
import contextlib
import os

import lab
import ops
from test_verify import codes, flip, layer

CONF = "/etc/virt-replica/virt-replicad.conf"


@contextlib.contextmanager
def configured(host, **keys):
    """The daemon with these settings; afterwards as it was."""
    before = host.read(CONF) if host.exists(CONF) else None
    host.write(CONF, "[daemon]\n" + "".join(f"{k.replace('_', '-')} = {v}\n" for k, v in keys.items()))
    try:
        ops.restart(host)
        yield
    finally:
        if before is None:
            os.unlink(host.path(CONF))
        else:
            host.write(CONF, before)
        ops.restart(host)


def damaged(host, guest):
    reasons, health = codes(host, guest)
    return health == "critical" and "replica-damaged" in reasons


def test_long_flipped_byte_is_found_in_the_background():
    """Within verify-interval, and the next cycle mends it."""
    with ops.protected("scrubbed", policy={"verify_interval": "1min"}, churn=64, area=4) as (guest, source, target):
        source.vr("sync", guest.name)
        before = target.vr("rp-list", guest.name)[-1]["verified"]
        lab.wait_for(lambda: target.vr("rp-list", guest.name)[-1]["verified"] != before, 150, "a pass of the scrub", 2)
        assert not damaged(target, guest)
        flip(target, guest)
        lab.wait_for(lambda: damaged(target, guest), 180, "the flipped byte is found", 2)
        assert all(p["damaged"] for p in target.vr("rp-list", guest.name))
        source.vr("sync", guest.name)
        assert not damaged(target, guest) and not damaged(source, guest)


def test_missing_layer_is_found_by_the_look():
    """At each look-interval; also while a reading that is paced to take for ever goes on."""
    with ops.protected("looked-at", policy={"verify_interval": "1min"}, churn=64, area=4) as (guest, source, target):
        source.vr("sync", guest.name)
        source.vr("pause", guest.name)
        with configured(target, look_interval="2s", verify_rate="1KiB/s"):
            assert not damaged(target, guest)
            path = layer(target, guest, "vda", ops.points(target, guest.uuid)[0])
            os.rename(path, path + ".away")
            lab.wait_for(lambda: damaged(target, guest), 15, "the missing layer is found", 0.5)
            os.rename(path + ".away", path)
            lab.wait_for(lambda: not damaged(target, guest), 15, "the layer is there again", 0.5)

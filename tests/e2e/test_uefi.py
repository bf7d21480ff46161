# SPDX-License-Identifier: LGPL-2.1-or-later
"""Content beside the disks: the firmware's variables, kernel and initrd of a UEFI guest travel, their paths do not."""
import re

import lab
import ops
from lab import Guest

CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
NVRAM = "/var/lib/libvirt/qemu/nvram/uefi_VARS.fd"


class UefiGuest(Guest):
    def xml(self):
        return super().xml().replace(
            "<type arch='x86_64' machine='pc'>hvm</type>",
            f"""<type arch='x86_64' machine='q35'>hvm</type>
    <loader readonly='yes' type='pflash'>{CODE}</loader>
    <nvram template='{VARS}'>{NVRAM}</nvram>""")


def digest(host, path):
    return host.run("sha256sum", path).split()[0]


def test_firmware_variables_travel():
    source, target = ops.paired()
    lab.define_policy(source, "test", interval="1h", rpo_target="2h")
    with UefiGuest(source, "uefi").define() as guest:
        serial = guest.start(timeout=120).serial()
        serial.wait_ack(3, timeout=120)
        source.vr("protect", guest.name, "--to", target.name, "--policy", "test")
        job = source.vr("failover", guest.name, "--planned")
        assert job["root_source"] == job["root_target"]
        number = source.vr("info", guest.name)["last_rp"]["number"]
        kept = f"{lab.STORE}/{guest.uuid}/rp/{number}"
        assert digest(target, f"{kept}/nvram") == digest(source, NVRAM)
        for name in ("kernel", "initrd"):
            path = re.search(rf"<{name}>([^<]+)", guest.xml())[1]
            assert digest(target, f"{kept}/{name}") == digest(source, path)
        definition = target.virsh("dumpxml", guest.name)
        for name in ("nvram", "kernel", "initrd"):
            path = re.search(rf"<{name}[^>]*>([^<]+)", definition)[1]
            assert path.startswith(f"{lab.STORE}/{guest.uuid}/"), path
        replica = guest.moved_to(target)
        replica.wait_ack(serial.acked + 2, timeout=120)
        assert replica.found[-1] == (serial.acked, serial.acked)
    ops.reset()

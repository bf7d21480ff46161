# SPDX-License-Identifier: LGPL-2.1-or-later
"""The lab itself: hosts, guest, writer. Everything later stands on these."""
import os
import time

import lab
from lab import Guest, Host, LabError


def test_hosts_are_apart():
    kvm1, kvm2 = lab.hosts()
    kvm1.write("/run/lab/probe", "x")
    assert not kvm2.exists("/run/lab/probe") and not os.path.exists("/run/lab/probe")
    os.unlink(kvm1.path("/run/lab/probe"))
    assert kvm1.run("hostname").strip() == "kvm1" and kvm2.run("hostname").strip() == "kvm2"
    assert kvm1.virsh("net-list", "--name").split() == ["prod"]
    assert kvm2.virsh("net-list", "--name").split() == ["dr"]
    listener = kvm2.popen("python3", "-c", "import socket; s = socket.create_server(('10.77.0.2', 5599)); "
                          "s.settimeout(10); s.accept()")
    lab.wait_for(lambda: kvm1.run("python3", "-c", "import socket; socket.create_connection(('kvm2', 5599), 2)",
                                  check=False)[0] == 0, 10, "kvm2 reached from kvm1")
    assert listener.wait(10) == 0


def test_hook_is_installed():
    build = os.environ["VR_BUILD"]
    for host in lab.hosts():
        if os.path.exists(build + "/plugin/virt-replica-hook"):
            assert os.access(host.path("/etc/libvirt/hooks/qemu.d/virt-replica"), os.X_OK), host


def test_guest_writes_and_powers_off():
    with Guest(Host("kvm1"), churn=1024).define() as guest:
        serial = guest.start().serial()
        assert serial.found == [(0, 0)]
        serial.wait_ack(10)
        guest.wait_agent()
        last = guest.shutdown()
        assert "STOPPED %d" % last in serial.text()
        guest.start()
        assert serial.found[-1] == (last, last)
        assert serial.acked == last + 1 or serial.wait_ack(last + 1)
        guest.wait_agent()
        last = guest.shutdown("agent")
        assert guest.home.boot_check(guest.disk("vda"), guest.disk("vdb")) == (last, last)
        assert serial.max_gap() < 5, serial.max_gap()


def test_guest_survives_a_crash():
    with Guest(Host("kvm1"), churn=2048).define() as guest:
        serial = guest.start().serial()
        for _ in range(2):
            last = serial.wait_ack(more=15)
            guest.kill_qemu()
            guest.wait_state("shut off")
            guest.start()
            vda, vdb = serial.found[-1]
            assert vda >= last and vdb >= last and vdb <= vda <= vdb + 1, (last, vda, vdb)


def test_freeze_is_seen():
    with Guest(Host("kvm1")).define() as guest:
        serial = guest.start().serial()
        guest.wait_agent()
        assert guest.agent("guest-fsfreeze-freeze") == 1
        time.sleep(0.3)
        acked = serial.acked
        try:
            serial.wait_ack(acked + 1, timeout=1)
            raise AssertionError("a frozen guest writes")
        except LabError:
            pass
        assert serial.max_gap() < 1, "the heartbeat must go on while frozen"
        guest.agent("guest-fsfreeze-thaw")
        serial.wait_ack(acked + 3, timeout=5)


def test_writer_sees_a_mixed_copy():
    """Disks of different instants must not pass: the test of the test."""
    host = Host("kvm1")
    with Guest(host, churn=512).define() as guest:
        serial = guest.start().serial()
        serial.wait_ack(20)
        guest.shutdown()
        old = guest.disk("vdb") + ".old.qcow2"
        host.run("cp", guest.disk("vdb"), old)
        guest.start()
        serial.wait_ack(more=20)
        guest.shutdown()
        try:
            host.boot_check(guest.disk("vda"), old)
        except LabError as e:
            assert "different instants" in str(e), e
        else:
            raise AssertionError("a mixed copy passed")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Planned failover: nothing lost, one owner at every instant, and all as before when it cannot be done."""
import os
import re
import subprocess
import threading
import time
import xml.etree.ElementTree as ET

import lab
import ops
from lab import Guest


class Watch:
    """Looks for QEMU processes of a guest on both hosts as long as it is entered; two at once are a fault."""

    def __init__(self, guest):
        self.guest, self.both, self.looks = guest, 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def on(self, host):
        return any(p["comm"].startswith("qemu-system") and p["state"] != "Z" and
                   f"guest={self.guest.name}," in " ".join(p["argv"]) for p in host.processes())

    def _run(self):
        hosts = lab.hosts()
        while not self._stop.wait(0.03):
            self.looks += 1
            self.both += all(self.on(host) for host in hosts)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *unused):
        self._stop.set()
        self._thread.join()
        if kind is None:
            assert self.looks > 5 and self.both == 0, f"on both hosts in {self.both} of {self.looks} looks"


def start_by_hand(guest, *hosts):
    """What an operator or autostart might do at any time; only the owner may obey."""
    return {host.name: host.run("virsh", "start", guest.name, check=False)[0] == 0 for host in hosts}


def check_moved(guest, source, target, job, complete=False):
    """After a failover that completed: the whole promise."""
    time.sleep(0.1)
    last = int(re.findall(r"^STOPPED (\d+)", guest.serial(source).text(), re.M)[-1])
    replica = guest.moved_to(target)
    first = int(replica.wait_line(r"^ACK (\d+)", 60)[1])
    assert replica.found[-1] == (last, last), f"the source stopped at {last}, the replica found {replica.found[-1]}"
    assert first == last + 1 and not replica.corrupt
    assert job["state"] == "completed" and job["error"] is None
    # a job that went on after a restart, and one that follows the source's, have not seen every step
    assert {s["state"] for s in job["steps"]} <= {"completed", "pending"}, job["steps"]
    assert not complete or [s["state"] for s in job["steps"]] == ["completed"] * 6, job["steps"]
    result = {key: job[key] for key in ("downtime_seconds", "root_source", "root_target")}
    assert re.fullmatch("[0-9a-f]{64}", result["root_source"]) and result["root_source"] == result["root_target"]
    assert 0 < result["downtime_seconds"] < 60, result
    infos = [host.vr("info", guest.name) for host in (source, target)]
    assert [i["state"] for i in infos] == ["failed-over"] * 2, infos
    assert infos[0]["generation"] == infos[1]["generation"]
    assert infos[0]["last_rp"]["root"] == infos[1]["last_rp"]["root"] == result["root_source"]
    assert guest.state(source) == "shut off" and guest.state(target) == "running"
    check_definition(guest, target)
    refusal = source.run("virsh", "start", guest.name, check=False)
    assert refusal[0] != 0 and re.search(rf"domain '{guest.name}' was failed over to 'kvm2'.*must not run here",
                                         refusal[2]), refusal
    return infos[0]["generation"]


def check_definition(guest, target):
    """The replica's XML is of this host: its network, overlays on its own layers, its paths."""
    root = ET.fromstring(target.virsh("dumpxml", guest.name, "--inactive"))
    assert [s.get("network") for s in root.findall("./devices/interface/source")] == [target.network]
    disks = {d.find("target").get("dev"): d.find("source").get("file")
             for d in root.findall("./devices/disk[@device='disk']")}
    base = f"{lab.STORE}/{guest.uuid}"
    for name, path in disks.items():
        assert path == f"{base}/active/{name}.qcow2", path
        chain = re.findall(r"^image: (.*)$", target.run("qemu-img", "info", "-U", "-f", "qcow2", "--backing-chain",
                                                         path), re.M)
        assert len(chain) > 1 and all(layer.startswith(f"{base}/{name}/") for layer in chain[1:]), chain
    for text in (root.findtext("./os/kernel"), root.findtext("./os/initrd")):
        assert text.startswith(base), text


def check_as_before(guest, source, target, generation, acked, autostart=False):
    """After a failover that failed: the source runs and writes, is protected, and the target has nothing of it."""
    serial = guest.serial(source)
    lab.wait_for(lambda: guest.state(source) == "running", 30, "the source runs again")
    serial.wait_ack(max(acked, serial.acked) + 3)
    assert not serial.corrupt
    for host in (source, target):
        info = host.vr("info", guest.name)
        assert (info["state"], info["generation"]) == ("protected", generation), info
    assert guest.name not in target.virsh("list", "--all", "--name").split()
    assert not target.exists(f"{lab.STORE}/{guest.uuid}/active/vda.qcow2")
    enabled = re.search(r"Autostart:\s+enable", source.virsh("dominfo", guest.name)) is not None
    assert enabled == autostart
    source.vr("sync", guest.name)
    numbers = ops.points(target, guest.name)
    assert numbers == sorted(set(numbers))


def move(guest, host, *args, timeout=120):
    job = host.vr("failover", guest.name, "--planned", *args, timeout=timeout)
    return host.vr("job-info", job["id"])


def test_from_the_source():
    with ops.protected(policy={"interval": "2s", "rpo_target": "10s"}) as (guest, source, target):
        source.virsh("autostart", guest.name)
        before = source.vr("info", guest.name)["generation"]
        guest.serial().wait_ack(more=30)
        with Watch(guest):
            job = move(guest, source)
            generation = check_moved(guest, source, target, job, complete=True)
        assert generation != before
        kept = ops.layers(target, guest.uuid)
        autostart = [re.search(r"Autostart:\s+enable", h.virsh("dominfo", guest.name)) is not None
                     for h in (source, target)]
        assert autostart == [False, True], autostart
        guest.serial().wait_ack(more=40)
        assert ops.layers(target, guest.uuid) == kept, "the running replica changed a layer"
        again = source.vr_fails(5, "failover", guest.name, "--planned", contains=["failed-over"])
        assert again.action
        for host in (source, target):
            ops.restart(host)
        assert guest.state(target) == "running" and not start_by_hand(guest, source)["kvm1"]
        guest.destroy(graceful=False)
        assert start_by_hand(guest, source, target) == {"kvm1": False, "kvm2": True}, "only the owner may start it"


def test_from_the_target():
    with ops.protected(policy={"allow_remote_failover": "yes"}) as (guest, source, target):
        guest.serial().wait_ack(more=20)
        with Watch(guest):
            check_moved(guest, source, target, move(guest, target))
        jobs = [ops.newest_job(host, "failover")["result"] for host in (source, target)]
        assert all(jobs[0][key] == jobs[1][key] for key in ("downtime_seconds", "root_source", "root_target"))


def test_unprotect_after_it_is_refused():
    """The running replica stands on the layers, and the fence must stay."""
    with ops.protected() as (guest, source, target):
        check_moved(guest, source, target, move(guest, source))
        for host in (source, target):
            error = host.vr_fails(5, "unprotect", guest.name, contains=[guest.name])
            assert error.action
        assert [ops.state(host, guest.name) for host in (source, target)] == ["failed-over"] * 2
        assert not start_by_hand(guest, source)["kvm1"]
        guest.serial().wait_ack(more=3)


def test_shut_off_domain():
    with ops.protected() as (guest, source, target):
        guest.serial().wait_ack(more=10)
        last = guest.shutdown()
        job = move(guest, source)
        assert job["state"] == "completed"
        replica = guest.moved_to(target)
        assert int(replica.wait_line(r"^ACK (\d+)", 60)[1]) == last + 1


class Deaf(Guest):
    """Neither an agent nor an ACPI power button."""

    def xml(self):
        return re.sub(r"<channel.*?</channel>", "", super().xml(), flags=re.S).replace("<acpi/>", "")


def test_guest_that_does_not_shut_down():
    source, target = ops.paired()
    lab.define_policy(source, "deaf", interval="1h", rpo_target="2h", shutdown_timeout="3s")
    with Deaf(source, "deaf", churn=128).define() as guest:
        guest.start().serial().wait_ack(5)
        source.vr("protect", guest.name, "--to", "kvm2", "--policy", "deaf")
        generation = source.vr("info", guest.name)["generation"]
        with Watch(guest):
            acked = guest.serial().acked
            error = source.vr_fails(1, "failover", guest.name, "--planned", contains=[guest.name])
            assert error.action and "shut" in error.message, error
            check_as_before(guest, source, target, generation, acked)
        gap = guest.serial().max_gap()
        assert gap < 2, f"the guest stood still for {gap:.1f} s"
        acked = guest.serial().acked
        job = move(guest, source, "--force")
        assert job["result"]["root_source"] == job["result"]["root_target"]
        replica = guest.moved_to(target)
        first = int(replica.wait_line(r"^ACK (\d+)", 60)[1])
        assert first > acked and not replica.corrupt, "powered off: what was acknowledged is there"
    ops.reset()


def step_runs(host, job, name):
    return any(s["name"] == name and s["state"] == "running" for s in host.vr("job-info", job)["steps"])


def begin(guest, source):
    job = source.vr("failover", guest.name, "--planned", "--detach")["job"]
    lab.wait_for(lambda: step_runs(source, job, "shut down"), 30, "the guest is asked to shut down", 0.02)
    return job


def test_cancelled_while_the_guest_shuts_down():
    """A guest that was asked cannot be stopped from powering off: it is started again."""
    with ops.protected() as (guest, source, target):
        source.virsh("autostart", guest.name)
        generation, acked = source.vr("info", guest.name)["generation"], guest.serial().wait_ack(more=10)
        with Watch(guest):
            job = begin(guest, source)
            source.vr("job-cancel", job)
            assert ops.wait_job(source, job)["state"] == "cancelled"
            check_as_before(guest, source, target, generation, acked, autostart=True)
            time.sleep(6)
            assert guest.state(source) == "running", "what was asked for before the cancel still happened"
        with Watch(guest):
            check_moved(guest, source, target, move(guest, source))


def test_libvirtd_killed_while_the_guest_shuts_down():
    with ops.protected() as (guest, source, target):
        generation, acked = source.vr("info", guest.name)["generation"], guest.serial().wait_ack(more=10)
        with Watch(guest):
            job = begin(guest, source)
            source.libvirtd("kill")
            time.sleep(3)
            source.libvirtd("start")
            ended = ops.wait_job(source, job)
            if ended["state"] == "completed":
                check_moved(guest, source, target, ended)
            else:
                check_as_before(guest, source, target, generation, acked)


def test_paused_guest():
    """It cannot shut down, and stays as it was."""
    with ops.protected(policy={"shutdown_timeout": "2s"}) as (guest, source, target):
        generation, acked = source.vr("info", guest.name)["generation"], guest.serial().wait_ack(more=10)
        source.virsh("suspend", guest.name)
        source.vr_fails(1, "failover", guest.name, "--planned", contains=[guest.name])
        assert guest.state(source) == "paused" and ops.state(source, guest.name) == "protected"
        source.virsh("resume", guest.name)
        check_as_before(guest, source, target, generation, acked)


def test_asked_for_during_a_cycle():
    """The failover starts from what that cycle leaves, not from what was there when it was asked for."""
    with ops.protected(policy={"interval": "2s", "rpo_target": "10s"}) as (guest, source, target):
        ops.restart(source, VR_FAULT="S10:delay=1500")
        known = len(source.daemon_log())
        guest.serial().wait_ack(more=60)
        with Watch(guest):
            job = move(guest, source)
            check_moved(guest, source, target, job)
        assert "are not tracked" not in source.daemon_log()[known:]


def test_guest_that_powers_off_after_the_cancel():
    """It was asked before: it is off, as it should not be, and is started again."""
    source, target = ops.paired()
    lab.define_policy(source, "deaf", interval="1h", rpo_target="2h", shutdown_timeout="60s")
    with Deaf(source, "deaf", churn=128).define() as guest:
        guest.start().serial().wait_ack(5)
        source.vr("protect", guest.name, "--to", "kvm2", "--policy", "deaf")
        generation, acked = source.vr("info", guest.name)["generation"], guest.serial().acked
        job = begin(guest, source)
        source.vr("job-cancel", job)
        time.sleep(1)
        guest.destroy()
        assert ops.wait_job(source, job)["state"] == "cancelled"
        check_as_before(guest, source, target, generation, acked)
    ops.reset()


def test_target_cannot_start():
    """Its network goes away after the check: the source runs again."""
    with ops.protected() as (guest, source, target):
        source.virsh("autostart", guest.name)
        generation, acked = source.vr("info", guest.name)["generation"], guest.serial().wait_ack(more=10)
        ops.restart(source, VR_FAULT="F2:delay=2000")
        with Watch(guest):
            cli = source.popen("virt-replica", "-q", "failover", guest.name, "--planned", stderr=subprocess.DEVNULL)
            lab.wait_for(lambda: guest.state() == "shut off", 30, "the source is off")
            target.virsh("net-destroy", "dr")
            try:
                assert cli.wait(60) == 1
                error = ops.newest_job(source, "failover")["error"]
                assert "'kvm2'" in error["message"] and "'dr'" in error["message"] and error["action"], error
                check_as_before(guest, source, target, generation, acked, autostart=True)
            finally:
                target.virsh("net-start", "dr")
        ops.restart(source)
        with Watch(guest):
            check_moved(guest, source, target, move(guest, source))


def test_neither_host_can_start():
    """The target cannot run it and the source cannot start it again: critical until it can, and then it runs."""
    with ops.protected() as (guest, source, target):
        guest.serial().wait_ack(more=10)
        ops.restart(source, VR_FAULT="F2:delay=3000")
        with Watch(guest):
            cli = source.popen("virt-replica", "-q", "failover", guest.name, "--planned", stderr=subprocess.DEVNULL)
            lab.wait_for(lambda: guest.state() == "shut off", 30, "the source is off")
            target.virsh("net-destroy", "dr")
            source.virsh("net-destroy", "prod")
            try:
                def stuck():
                    return {r["code"]: r for r in source.vr("info", guest.name)["reasons"]}.get("failover-not-undone")
                lab.wait_for(stuck, 60, "it is said that nothing runs")
                reason = stuck()
                assert guest.name in reason["message"] and "'prod'" in reason["message"] and reason["action"], reason
                assert source.vr("info", guest.name)["health"] == "critical" and cli.poll() is None
                source.daemon("kill")
                source.daemon("start")
                lab.wait_for(stuck, 60, "it goes on with it after a kill")
            finally:
                source.virsh("net-start", "prod")
                target.virsh("net-start", "dr")
            assert cli.wait(60) == 1
            assert guest.state() == "running" and not stuck()
            assert "'dr'" in ops.newest_job(source, "failover")["error"]["message"]
        ops.restart(source)
        with Watch(guest):
            check_moved(guest, source, target, move(guest, source))


def test_ended_by_force_while_it_is_off():
    """Before anything was offered to the target: the guest runs again, unfenced and with its autostart."""
    with ops.protected() as (guest, source, target):
        source.virsh("autostart", guest.name)
        guest.serial().wait_ack(more=10)
        ops.restart(source, VR_FAULT="F2:delay=8000")
        with Watch(guest):
            cli = source.popen("virt-replica", "-q", "failover", guest.name, "--planned", stderr=subprocess.DEVNULL)
            lab.wait_for(lambda: guest.state() == "shut off", 30, "the source is off")
            job = source.vr("unprotect", guest.name, "--force")
            assert "left" not in job["result"], job
            assert cli.wait(30) != 0 and guest.state() == "running"
        assert "enable" in [line.split()[-1] for line in source.virsh("dominfo", guest.name).splitlines()
                            if line.startswith("Autostart")]
        assert not source.exists(f"{ops.STATE}/fence/{guest.uuid}")
        ops.refused(source, 4, "info", guest.name)


def test_given_up_by_force_while_the_target_is_dead():
    """It dies as the owner; a person lets the source run it again. When it is back it does not start a second one."""
    with ops.protected() as (guest, source, target):
        guest.serial().wait_ack(more=10)
        ops.restart(target, VR_FAULT="F4:kill")
        cli = source.popen("virt-replica", "-q", "failover", guest.name, "--planned", stderr=subprocess.DEVNULL)
        assert target.daemon("wait") == "137"

        def reason(host, code):
            return {r["code"]: r for r in host.vr("info", guest.uuid)["reasons"]}.get(code)
        lab.wait_for(lambda: reason(source, "hand-over-unanswered"), 60, "the source says that nothing answers")
        left = source.vr("unprotect", guest.name, "--force")["result"]["left"]
        assert "kvm2" in left and cli.wait(30) != 0, left
        source.virsh("start", guest.name)
        target.daemon("start")
        lab.wait_for(lambda: reason(target, "source-gave-up"), 60, "the target says why it does not start it")
        found = reason(target, "source-gave-up")
        assert "'kvm1'" in found["message"] and "--force" in found["action"], found
        time.sleep(8)
        assert target.virsh("domstate", guest.name).strip() == "paused" and guest.state(source) == "running"
        # nor when the source knows the target no more
        source.vr("peer-remove", target.name)
        ops.restart(target)
        time.sleep(8)
        assert reason(target, "source-gave-up"), target.vr("info", guest.uuid)["reasons"]
        assert target.virsh("domstate", guest.name).strip() == "paused" and guest.state(source) == "running"
        target.vr("unprotect", guest.name, "--force")
        assert target.virsh("domstate", guest.name).strip() == "paused"
        assert [f["state"] for f in target.vr("store-scan", "default")] == ["let-go"]
        assert not [n for n in target.vr("status")["findings"] if n["code"] == "replicas-orphaned"]
        target.virsh("destroy", guest.name)
        target.virsh("undefine", guest.name)


def test_name_taken_at_the_target():
    """A domain made there by hand since: the source is not shut down for a replica that cannot be defined."""
    with ops.protected() as (guest, source, target):
        started = source.virsh("domid", guest.name)
        target.run("virsh", "-q", "define", "/dev/stdin",
                   stdin=f"<domain type='qemu'><name>{guest.name}</name><memory>8192</memory><os><type>hvm</type></os></domain>")
        try:
            ops.refused(source, 5, "failover", guest.name, "--planned", code="domain-exists-name", names=(guest.name, "kvm2"))
            assert source.virsh("domid", guest.name) == started
        finally:
            target.virsh("undefine", guest.name)
        failed = {r["code"]: r for r in source.vr("info", guest.name)["reasons"]}["failover-failed"]
        job = source.vr("job-list", guest.name, "--all")[0]
        assert failed["cause"] == "domain-exists-name" and f"job {job['id']}" in failed["message"], failed
        assert failed["since"] == job["ended"], (failed, job)
        with Watch(guest):
            check_moved(guest, source, target, move(guest, source))


def link(host, direction):
    host.run("ip", "link", "set", "eth0", direction)


def cut_during(step, armed):
    with ops.protected() as (guest, source, target):
        guest.serial().wait_ack(more=10)
        ops.restart({"kvm1": source, "kvm2": target}[armed], VR_FAULT=f"{step}:delay=2500")
        with Watch(guest):
            cli = source.popen("virt-replica", "-q", "failover", guest.name, "--planned", stderr=subprocess.DEVNULL)
            if step == "F4":
                lab.wait_for(lambda: ops.state(target, guest.name) == "failed-over", 30, "F4")
            else:
                lab.wait_for(lambda: len(ops.points(target, guest.name)) > 2, 30, "the final point")
            try:
                link(target, "down")
                time.sleep(4)
                assert not start_by_hand(guest, source)["kvm1"]
                job = ops.newest_job(source, "failover")
                assert job["state"] in ("running", "waiting"), job
            finally:
                link(target, "up")
            assert cli.wait(90) == 0
            check_moved(guest, source, target, ops.newest_job(source, "failover"))


def test_link_cut_before_the_hand_over():
    cut_during("F3", "kvm1")


def test_link_cut_during_the_hand_over():
    cut_during("F4", "kvm2")


def killed(step, armed):
    """kill -9 there, others try to start it meanwhile, the daemon comes back and the failover ends well."""
    with ops.protected() as (guest, source, target):
        host = {"kvm1": source, "kvm2": target}[armed]
        guest.serial().wait_ack(more=10)
        ops.restart(host, VR_FAULT=f"{step}:kill")
        with Watch(guest):
            cli = source.popen("virt-replica", "-q", "failover", guest.name, "--planned", stderr=subprocess.DEVNULL)
            assert host.daemon("wait") == "137", f"{armed} did not pass {step}"
            assert not start_by_hand(guest, source, target)["kvm1"]
            host.daemon("start")
            assert cli.wait(120) == 0, ops.newest_job(source, "failover")
            job = ops.newest_job(source, "failover")
            check_moved(guest, source, target, job)


def test_target_forgets_before_it_takes_over():
    """The guest is off and the target has lost its database: that is said, and there is a way out of it."""
    with ops.protected() as (guest, source, target):
        guest.serial().wait_ack(more=10)
        ops.restart(target, VR_FAULT="B1:kill")
        cli = source.popen("virt-replica", "-q", "failover", guest.name, "--planned", stderr=subprocess.DEVNULL)
        assert target.daemon("wait") == "137", "the target did not pass B1"
        os.unlink(target.path(f"{ops.STATE}/state.db"))
        target.daemon("start")

        def stuck():
            return {r["code"]: r for r in source.vr("info", guest.name)["reasons"]}.get("hand-over-unanswered")
        reason = lab.wait_for(stuck, 60, "the source says that it waits")
        assert f"unprotect {guest.name} --force" in reason["action"] and target.name in reason["message"], reason
        assert guest.state(source) == "shut off" and not start_by_hand(guest, source)["kvm1"]
        source.vr_fails(5, "unprotect", guest.name)
        left = source.vr("unprotect", guest.name, "--force", timeout=90)["result"]["left"]
        assert target.name in left, left
        assert cli.wait(60) == 1
        assert source.run("virt-replica", "info", guest.name, check=False)[0] == 4
        assert start_by_hand(guest, source)["kvm1"]
        guest.serial(source).wait_ack(more=10)
        assert not guest.serial(source).corrupt


def test_target_forgets_before_it_is_asked():
    """It cannot have taken anything over: the failover is undone."""
    with ops.protected() as (guest, source, target):
        ops.restart(source, VR_FAULT="F3:kill")
        cli = source.popen("virt-replica", "-q", "failover", guest.name, "--planned", stderr=subprocess.DEVNULL)
        assert source.daemon("wait") == "137", "the source did not pass F3"
        target.daemon("stop")
        os.unlink(target.path(f"{ops.STATE}/state.db"))
        target.daemon("start")
        source.daemon("start")
        assert cli.wait(60) != 0
        assert ops.wait_job(source, ops.newest_job(source, "failover")["id"])["state"] == "failed"
        assert guest.state(source) == "running" and ops.state(source, guest.name) == "protected"
        guest.serial(source).wait_ack(more=10)


def test_long_killed_at_f1():
    killed("F1", "kvm1")


def test_killed_at_f2():
    killed("F2", "kvm1")


def test_killed_at_f3():
    killed("F3", "kvm1")


def test_long_killed_at_b1():
    killed("B1", "kvm2")


def test_killed_at_b2():
    killed("B2", "kvm2")


def test_killed_at_f4():
    killed("F4", "kvm2")


def test_killed_at_f5():
    killed("F5", "kvm2")


def test_long_killed_at_f6():
    killed("F6", "kvm1")

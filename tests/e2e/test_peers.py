# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a paired host may have here: networks that were offered to it, consent, space and replicas."""
import contextlib
import json
import re
import shlex
import xml.etree.ElementTree as ET

import lab
import ops
from hostile import Peer
from lab import Guest, LabError


def as_peer(host, other, method, path, body):
    """A request with the host's key, as a daemon that was tampered with could make it: (status, answer)."""
    with contextlib.closing(Peer(host, other)) as peer:
        return peer.request(method, path, body)


def networks_of(host, domain):
    root = ET.fromstring(host.virsh("dumpxml", domain, "--inactive"))
    return [s.get("network") for s in root.findall("./devices/interface/source")]


def offered(host, peer):
    return host.vr("peer-info", peer)["networks"]


def run_action(action, hosts):
    """The command that an action names, on the host that it names."""
    found = re.fullmatch(r"On host '(\w+)': (virt-replica .*)", action)
    if not found:
        raise LabError(f"no command in {action!r}")
    host = {h.name: h for h in hosts}[found[1]]
    host.run(*shlex.split(found[2]))


def test_none_is_offered_by_default():
    """check names the command for the other host; run there, the domain can be protected and moved."""
    source, target = ops.reset()
    token = source.vr("peer-invite", "--name", target.name)["token"]
    joined = target.vr("peer-join", token)
    assert joined["networks"] == [] and offered(source, "kvm2") == [] and offered(target, "kvm1") == []
    source.vr("netmap-set", "kvm2", "prod", "dr")
    lab.define_policy(source, "test", interval="1h", rpo_target="2h")
    with Guest(source, "shop", churn=128).define() as guest:
        guest.start().serial().wait_ack(5)
        error = ops.refused(source, 5, "protect", guest.name, "--to", "kvm2", "--policy", "test",
                            code="network-not-offered", names=["prod", "dr", "kvm1", "kvm2"])
        status, out, _ = source.run("virt-replica", "--json", "check", guest.name, "--to", "kvm2", check=False)
        check = json.loads(out)
        finding = [f for f in check["findings"] if f["code"] == "network-not-offered"]
        assert status != 0 and not check["ok"] and len(finding) == 1 and finding[0]["severity"] == "error", check
        assert finding[0]["action"] == error.action
        target.vr("peer-set", "kvm1", "--networks", "other")
        error = source.vr_fails(5, "protect", guest.name, "--to", "kvm2", code="network-not-offered")
        assert error.action.endswith("--networks other,dr"), error.action
        run_action(error.action, (source, target))
        assert offered(target, "kvm1") == ["dr", "other"]
        source.vr("protect", guest.name, "--to", "kvm2", "--policy", "test")
        # Withdrawn: replication goes on, a failover is refused before the guest is stopped.
        target.vr("peer-set", "kvm1", "--networks", "-")
        source.vr("sync", guest.name)
        error = source.vr_fails(5, "failover", guest.name, "--planned", code="network-not-offered")
        guest.serial().wait_ack(more=3)
        assert guest.state() == "running" and ops.state(source, guest.name) == "protected"
        run_action(error.action, (source, target))
        source.vr("failover", guest.name, "--planned")
        guest.moved_to(target)
        assert networks_of(target, guest.name) == ["dr"]
    ops.reset()


def test_offered_at_pairing():
    source, target = ops.reset()
    token = source.vr("peer-invite", "--name", target.name, "--networks", "prod,lab net")["token"]
    joined = target.vr("peer-join", token, "--networks", "dr")
    assert joined["networks"] == ["dr"]
    assert offered(source, "kvm2") == ["lab net", "prod"] and offered(target, "kvm1") == ["dr"]
    for host in (source, target):
        ops.restart(host)
    assert offered(source, "kvm2") == ["lab net", "prod"] and offered(target, "kvm1") == ["dr"]
    # A network that the host lacks is said, not refused.
    said = target.vr("peer-set", "kvm1", "--networks", "dr,typo")["warnings"]
    assert [w["code"] for w in said] == ["network-missing"], said
    # The map set on the target chooses, it does not offer.
    target.vr("peer-set", "kvm1", "--networks", "-")
    said = target.vr("netmap-set", "kvm1", "prod", "dr")["warnings"]
    assert [w["code"] for w in said] == ["network-not-offered"] and "--networks dr" in said[0]["action"], said
    assert source.vr("netmap-set", "kvm2", "prod", "dr")["warnings"] == []


def test_map_of_the_target_chooses_among_the_offered():
    with ops.protected(name="guest") as (guest, source, target):
        target.virsh("net-define", "/dev/stdin", stdin="<network><name>dr2</name></network>")
        try:
            target.virsh("net-start", "dr2")
            target.vr("netmap-set", "kvm1", "prod", "dr2")
            source.vr_fails(5, "failover", guest.name, "--planned", code="network-not-offered", contains=["dr2"])
            target.vr("peer-set", "kvm1", "--networks", "dr,dr2")
            source.vr("failover", guest.name, "--planned")
            guest.moved_to(target)
            assert networks_of(target, guest.name) == ["dr2"]
        finally:
            guest.remove()
            target.run("virsh", "-q", "net-destroy", "dr2", check=False)
            target.run("virsh", "-q", "net-undefine", "dr2", check=False)


def test_a_source_cannot_choose_another_network():
    """By hand, with its real key: in PUT of a new protection, and in activate of an own one."""
    with ops.protected() as (guest, source, target):
        target.virsh("net-define", "/dev/stdin", stdin="<network><name>secret</name></network>")
        try:
            nets = [{"source": "prod", "target": "secret"}]
            xml = source.virsh("dumpxml", guest.name, "--inactive")
            other = "11111111-1111-4111-8111-111111111111"
            ours = source.vr("status")["fingerprint"]
            put = {"name": "other", "store": "default", "policy": "p", "policy_text": "[policy]\n", "exclude": "",
                   "generation": f"1 {'ab' * 16} {ours} -", "networks": nets,
                   "xml": xml.replace(guest.uuid, other).replace(f"<name>{guest.name}<", "<name>other<")}
            status, answer = as_peer(source, target, "PUT", f"/v1/peer/protections/{other}", put)
            assert (status, answer["error"]["code"]) == (409, "network-not-offered"), answer
            assert "secret" in answer["error"]["action"]
            source.vr("pause", guest.name)
            point = target.vr("rp-list", guest.name)[-1]
            parent = source.vr("info", guest.name)["generation"]
            theirs = target.vr("status")["fingerprint"]
            request = {"generation": f"1 {'cd' * 16} {theirs} {parent}", "root": point["root"],
                       "number": point["number"], "networks": nets}
            put = {**put, "name": guest.name, "xml": xml, "generation": f"1 {parent} {ours} -"}
            status, answer = as_peer(source, target, "PUT", f"/v1/peer/protections/{guest.uuid}", put)
            assert status == 200, answer
            status, answer = as_peer(source, target, "POST",
                                     f"/v1/peer/protections/{guest.uuid}/action/activate", request)
            assert (status, answer["error"]["code"]) == (409, "network-not-offered"), answer
            assert guest.name not in target.virsh("list", "--all", "--name").split()
            assert ops.state(target, guest.name) != "failed-over"
        finally:
            target.run("virsh", "-q", "net-undefine", "secret", check=False)


def test_consent_to_a_failover_ordered_by_the_target():
    with ops.protected() as (guest, source, target):
        job = ops.newest_job(source, "failover")
        error = target.vr_fails(5, "failover", guest.name, "--planned", code="remote-failover-not-allowed",
                                contains=[guest.name, "kvm1", "allow-remote-failover=yes"])
        assert f"virt-replica failover {guest.name} --planned" in error.action
        error = target.vr_fails(5, "failover", guest.name, "--planned", "--force", code="remote-failover-not-allowed")
        status, answer = as_peer(target, source, "POST",
                                 f"/v1/peer/protections/{guest.uuid}/action/planned-failover", {"force": True})
        assert (status, answer["error"]["code"]) == (409, "remote-failover-not-allowed"), answer
        guest.serial().wait_ack(more=5)
        assert guest.state() == "running" and ops.newest_job(source, "failover") == job
        assert [ops.state(host, guest.name) for host in (source, target)] == ["protected"] * 2
        lab.define_policy(source, "test", interval="1h", rpo_target="2h", allow_remote_failover="yes")
        target.vr("failover", guest.name, "--planned")
        assert guest.state(source) == "shut off" and guest.state(target) == "running"
        guest.moved_to(target)


def test_settings_of_a_peer():
    source, target = ops.paired()
    fresh = target.vr("peer-info", "kvm1")
    assert (fresh["quota_bytes"], fresh["max_protections"]) == (0, 500)  # lab.pair() sets the grace
    target.vr("peer-set", "kvm1", "--quota", "2TiB", "--max-protections", "3", "--delete-grace", "1h")
    ops.restart(target)
    found = target.vr("peer-info", "kvm1")
    assert (found["quota_bytes"], found["max_protections"], found["delete_grace_seconds"]) == (2 << 40, 3, 3600)
    assert found["networks"] == ["dr"]
    for status, args in ((2, []), (2, ["--max-protections", "501"]), (2, ["--delete-grace", "366d"]),
                         (2, ["--quota", "much"]), (2, ["--networks", "a/b"]), (2, ["--networks", "a,,b"])):
        ops.refused(target, status, "peer-set", "kvm1", *args)
    ops.refused(target, 4, "peer-set", "nobody", "--quota", "1GiB", names=["nobody"])


def reason(host, domain, code):
    found = [r for r in host.vr("info", domain)["reasons"] if r["code"] == code]
    return found[0] if found else None


def test_quota():
    """Used up: the source says why and what to run where; raised, it goes on."""
    with ops.protected(policy={"interval": "2s", "rpo_target": "10s"}, churn=512) as (guest, source, target):
        used = target.vr("peer-info", "kvm1")["used_bytes"]
        assert used > 1 << 20, used
        target.vr("peer-set", "kvm1", "--quota", str(used + (64 << 10)))
        found = lab.wait_for(lambda: reason(source, guest.name, "quota-exceeded"), 60, "the quota is used up")
        assert "kvm1" in found["message"] and "kvm2" in found["message"], found
        numbers = ops.points(target, guest.name)
        error = source.vr_fails(1, "sync", guest.name, code="quota-exceeded")
        assert "On host 'kvm2': virt-replica peer-set kvm1 --quota" in error.action, error.action
        assert ops.points(target, guest.name) == numbers
        guest.serial().wait_ack(more=3)
        target.vr("peer-set", "kvm1", "--quota", "10GiB")
        source.vr("sync", guest.name)
        lab.wait_for(lambda: len(ops.points(target, guest.name)) > len(numbers) + 1, 60, "it goes on", 1)
        lab.wait_for(lambda: not reason(source, guest.name, "quota-exceeded"), 30, "the reason is gone")


def test_number_of_replicas():
    with ops.protected() as (guest, source, target), Guest(source, "second", churn=64).define() as second:
        assert target.vr("peer-info", "kvm1")["protections"] == 1
        target.vr("peer-set", "kvm1", "--max-protections", "1")
        error = ops.refused(source, 5, "protect", second.name, "--to", "kvm2", "--policy", "test",
                            code="too-many-protections", names=["kvm1", "kvm2", "1"])
        assert "virt-replica peer-set kvm1 --max-protections" in error.action
        source.vr("sync", guest.name)
        target.vr("peer-set", "kvm1", "--max-protections", "2")
        source.vr("protect", second.name, "--to", "kvm2", "--policy", "test")
        assert target.vr("peer-info", "kvm1")["protections"] == 2
        source.vr("unprotect", second.name)

# SPDX-License-Identifier: LGPL-2.1-or-later
"""Peers that lie, repeat, flood and send what nobody asked for: what was tried once and must not work."""
import contextlib
import hashlib
import os
import struct
import time
import uuid as uuidlib

import hostile
import lab
import ops
from hostile import CHUNK, DISKS, Peer, Replica, domain, frame, random_id, slug, strangers
from protected import Protected

KEEP = "[policy]\ninterval=5s\nkeep-all=24h\nkeep-hourly=24\nkeep-daily=7\n"
MEMORY_MIB = 64 + 2 * 32  # of the daemon with two transfers under way
WRONG = [None, True, 1, -1, 1.5, "", "x", [], {}, [1], [None], {"a": 1}, [[[]]], 1 << 62]


@contextlib.contextmanager
def source_peer():
    """(kvm1's key in hostile hands, kvm2); paired hosts without anything else, before and after."""
    kvm1, kvm2 = ops.paired()
    begin = len(kvm2.daemon_log())
    peer = Peer(kvm1, kvm2)
    try:
        yield peer, kvm2
        assert "assertion" not in kvm2.daemon_log()[begin:], "a GLib assertion failed on the target"
        assert kvm2.daemon("state") == "running"
    finally:
        peer.close()
        ops.reset()


def victim(host, name="victim"):
    """A domain of the host that has nothing to do with replication."""
    uuid = str(uuidlib.uuid4())
    host.run("virsh", "-q", "define", "/dev/stdin", stdin=domain(uuid, name, disks=()))
    return uuid


# identity and state


def test_commit_names_another_domain():
    with source_peer() as (peer, kvm2):
        uuid = victim(kvm2)
        before = kvm2.virsh("dumpxml", "--inactive", uuid)
        replica = Replica(peer)
        assert replica.first[0] == 200, replica.first
        answer = replica.cycle(b"B", domain(uuid, "victim"))
        if slug(answer) == "":
            replica.peer.activate(replica.uuid, replica.child(peer.target_fingerprint()), peer.head(replica.uuid))
        assert kvm2.virsh("dumpxml", "--inactive", uuid) == before, "a peer redefined a domain of this host"
        assert slug(answer) == "uuid-differs", answer
        assert peer.numbers(replica.uuid) == [1]
        # the right UUID under the victim's name is not a way either
        answer = replica.cycle(b"C", domain(replica.uuid, "victim"))
        peer.activate(replica.uuid, replica.child(peer.target_fingerprint()), peer.head(replica.uuid))
        assert kvm2.virsh("dumpxml", "--inactive", uuid) == before, "a peer took a domain's name"
        assert kvm2.virsh("domuuid", "victim") == uuid


def test_rename_to_a_domain_of_the_target():
    """Beside it the replica could not be defined: said at the rename, and again before any shutdown."""
    with source_peer() as (peer, kvm2):
        uuid = victim(kvm2)
        before = kvm2.virsh("dumpxml", "--inactive", uuid)
        replica = Replica(peer)
        for xml, code in ((domain(replica.uuid, "victim"), "domain-exists-name"), (domain(uuid, "x"), "uuid-differs")):
            answer = peer.put(replica.uuid, xml, replica.line)
            assert answer[0] in (400, 409) and slug(answer) == code, answer
        assert kvm2.vr("info", replica.uuid)["name"] == replica.name
        assert peer.put(replica.uuid, domain(replica.uuid, "renamed"), replica.line)[0] == 200
        assert kvm2.vr("info", replica.uuid)["name"] == "renamed"
        other = victim(kvm2, "renamed")  # made by hand there, later
        answer = peer.action(replica.uuid, "finalize", {})
        assert answer[0] == 409 and slug(answer) == "domain-exists-name", answer
        answer = peer.activate(replica.uuid, replica.child(peer.target_fingerprint()), peer.head(replica.uuid))
        assert answer[0] == 409 and slug(answer) == "domain-exists-name", answer
        info = kvm2.vr("info", replica.uuid)
        assert info["state"] == "protected" and kvm2.virsh("domuuid", "renamed") == other, info
        assert kvm2.virsh("dumpxml", "--inactive", uuid) == before
        kvm2.virsh("undefine", other)
        answer = peer.activate(replica.uuid, replica.child(peer.target_fingerprint()), peer.head(replica.uuid))
        assert answer[0] == 200 and answer[1]["running"], answer


def test_commit_that_cannot_boot():
    """What could never be defined here is said at COMMIT, not on the day of the failover."""
    with source_peer() as (peer, _):
        replica = Replica(peer)
        for xml in (domain(replica.uuid, replica.name, machine="pc-q35-99.9"),
                    domain(replica.uuid, replica.name, disks=("vdx",)),
                    "<domain/>", "no xml", "<!DOCTYPE a [<!ENTITY b 'c'>]><domain>&b;</domain>"):
            answer = replica.cycle(b"B", xml)
            assert answer[0] in (400, 409, 422), f"{xml[:60]}: {answer}"
        assert peer.numbers(replica.uuid) == [1]
        assert replica.cycle(b"B")[0] == 200


def test_activate_again():
    with source_peer() as (peer, kvm2):
        replica = Replica(peer)
        owner, head = peer.target_fingerprint(), peer.head(replica.uuid)
        first = replica.child(owner)
        answer = peer.activate(replica.uuid, first, head)
        assert answer[0] == 200 and answer[1]["running"], answer
        begun = kvm2.virsh("domid", replica.uuid)
        disks = kvm2.virsh("domblklist", replica.uuid)
        files = sorted(p for p, kind in kvm2.tree(f"{lab.STORE}/{replica.uuid}").items() if kind == "f")
        for line in (replica.child(owner, first.split()[1]), first.replace("1 ", "2 ", 1), replica.child(owner)):
            again = peer.activate(replica.uuid, line, head)
            assert again[0] in (400, 409) and slug(again), f"{line}: {again}"
        assert peer.activate(replica.uuid, first, head)[0] == 200, "the same once more is harmless"
        assert kvm2.virsh("domid", replica.uuid) == begun and kvm2.virsh("domblklist", replica.uuid) == disks
        assert sorted(p for p, kind in kvm2.tree(f"{lab.STORE}/{replica.uuid}").items() if kind == "f") == files


def test_calls_out_of_their_state():
    """After the failover nothing of the old source's reaches the replica; before it, repeating is harmless."""
    with source_peer() as (peer, kvm2):
        replica = Replica(peer)
        uuid, cycle = replica.uuid, random_id()
        head = peer.head(uuid)
        assert peer.begin(uuid, cycle, replica.generation, head)[0] == 200
        assert peer.begin(uuid, cycle, replica.generation, head)[0] == 200, "BEGIN twice"
        assert peer.chunks(uuid, random_id(), frame(0, 0, b"x" * CHUNK))[0] >= 400, "chunks of no cycle"
        assert peer.commit(uuid, random_id(), "0" * 64, replica.xml)[0] >= 400, "COMMIT of no cycle"
        answer = peer.activate(uuid, replica.line, head)
        assert answer[0] == 409 and slug(answer) == "generation-mismatch", answer
        assert not kvm2.vr("job-list", uuid, "--all"), "a job for nothing"
        answer = peer.activate(uuid, replica.child(peer.target_fingerprint()), head)
        assert answer[0] == 200 and answer[1]["running"], answer
        begun = kvm2.virsh("domid", uuid)
        for what, answer in (
                ("PUT", peer.put(uuid, replica.xml, replica.line)),
                ("BEGIN", peer.begin(uuid, random_id(), replica.generation, head)),
                ("chunks", peer.chunks(uuid, cycle, frame(0, 1, b"y" * CHUNK))),
                ("attachment", peer.request("PUT", peer.protection(uuid, f"/cycles/{cycle}/attachments/{'0' * 64}"),
                                            b"x" * 100)),
                ("COMMIT", peer.commit(uuid, cycle, head["root"], replica.xml)),
                ("DELETE", peer.delete(uuid))):
            assert answer[0] == 409 and slug(answer), f"{what} after the failover: {answer}"
        assert kvm2.virsh("domid", uuid) == begun
        assert kvm2.vr("info", uuid)["state"] == "failed-over"


def test_put_beside_activate():
    """However they fall: the owner stays the one that the activation made."""
    with source_peer() as (peer, kvm2):
        for _ in range(3):
            replica = Replica(peer)
            head, line = peer.head(replica.uuid), replica.child(peer.target_fingerprint())

            def put(stop, replica=replica):
                other = peer.again()
                while not stop.is_set():
                    with contextlib.suppress(OSError):
                        other.put(replica.uuid, replica.xml, replica.line)
                other.close()
            with hostile.Threads(3, put):
                answer = peer.activate(replica.uuid, line, head)
                time.sleep(0.3)
            assert answer[0] == 200 and answer[1]["running"], answer
            info = kvm2.vr("info", replica.uuid)
            assert info["state"] == "failed-over", info
            assert line.split()[1] in str(ops.rows(kvm2)["protection"]), "the old source owns it again"


def test_retention_is_not_the_sources():
    """Neither a policy that keeps nothing, nor DELETE, nor times of another century take what is there."""
    with source_peer() as (peer, kvm2):
        lab.set_delete_grace(kvm2, 7 * 86400)
        for mode in ("future", "past", "policy", "delete"):
            replica = Replica(peer, name="kept-" + mode, policy=KEEP)
            now = time.time() * 1e6
            for i in range(4):
                assert replica.cycle(bytes([i + 66]), time_us=now - 3600e6 * (4 - i))[0] == 200
            before = peer.numbers(replica.uuid)
            assert len(before) == 5
            if mode == "future":
                for k in range(2):
                    replica.cycle(bytes([90 + k]), time_us=now + 10 * 365 * 86400e6 + k)
            elif mode == "past":
                replica.cycle(b"Z", time_us=0)
            elif mode == "policy":
                peer.put(replica.uuid, replica.xml, replica.line,
                         "[policy]\ninterval=1s\nkeep-all=1s\nkeep-hourly=0\nkeep-daily=0\n")
                replica.cycle(b"Z")
            else:
                assert peer.delete(replica.uuid)[0] == 200, "DELETE ends the replication"
            time.sleep(3)
            listed = ops.points(kvm2, replica.uuid)
            assert set(before) <= set(listed), f"{mode}: {before} -> {listed}"


def test_network_of_the_targets_choice():
    with source_peer() as (peer, kvm2):
        kvm2.run("virsh", "-q", "net-define", "/dev/stdin",
                 stdin="<network><name>inner</name><bridge name='virbr-inner' stp='off' delay='0'/></network>")
        try:
            kvm2.virsh("net-start", "inner")
            replica = Replica(peer, networks=[{"source": "whatever", "target": "inner"}],
                              interfaces="<interface type='network'><source network='whatever'/>"
                              "<model type='virtio'/></interface>")
            answers = [replica.made]
            if replica.made[0] == 200:
                answers += [replica.first, peer.activate(
                    replica.uuid, replica.child(peer.target_fingerprint()), peer.head(replica.uuid),
                    [{"source": "whatever", "target": "inner"}])]
            running = replica.uuid in kvm2.virsh("list", "--uuid")
            assert not running, "a source chose a network that it was not given"
            assert "network-not-offered" in [slug(a) for a in answers], answers
        finally:
            kvm2.run("virsh", "-q", "net-destroy", "inner", check=False)
            kvm2.run("virsh", "-q", "net-undefine", "inner", check=False)


def test_target_alone_stops_no_guest():
    with Protected("hostage") as p:
        target = Peer(p.target, p.source)
        for body in ({"force": True}, {}, None, {"force": "yes"}):
            answer = target.action(p.guest.uuid, "planned-failover", body)
            assert slug(answer) == "remote-failover-not-allowed", answer
        target.close()
        time.sleep(2)
        assert p.source.virsh("domstate", p.guest.name) == "running"
        p.serial.wait_ack(more=3)


def test_disk_named_like_a_directory():
    """Nothing of the replica's own is removed by an activation or its undoing, whatever the disks are called."""
    with source_peer() as (peer, kvm2):
        for name in ("active", "rp", "incoming", "attachments", "manifest"):
            disks = (("vda", 1 << 20), (name, 1 << 20))
            replica = Replica(peer, disks=disks)
            if replica.made[0] != 200 or replica.first[0] != 200:
                refused = replica.first or replica.made
                assert refused[0] == 400 and slug(refused), (name, refused)
                continue
            before = ops.layers(kvm2, replica.uuid)
            peer.activate(replica.uuid, replica.child(peer.target_fingerprint()), peer.head(replica.uuid))
            assert ops.layers(kvm2, replica.uuid) == before, f"a disk named {name!r} lost its layers"
            assert not kvm2.exists(f"{lab.STORE}/{replica.uuid}/active/1.qcow2"), name


def activate_while_retention_merges(times):
    with source_peer() as (peer, kvm2):
        failures = []
        for _ in range(times):
            replica = Replica(peer, policy="[policy]\ninterval=1s\nkeep-all=720h\n")
            root = replica.first[1]["root"]

            def empty_cycle(replica=replica, root=root):
                head, cycle = peer.head(replica.uuid), random_id()
                assert peer.begin(replica.uuid, cycle, replica.generation, head)[0] == 200
                return peer.commit(replica.uuid, cycle, root, replica.xml)[1]
            for _ in range(15):
                head = empty_cycle()
            peer.put(replica.uuid, replica.xml, replica.line,
                     "[policy]\ninterval=1s\nkeep-all=1s\nkeep-hourly=0\nkeep-daily=0\n")
            head = empty_cycle()  # what follows runs beside the merges
            answer = peer.activate(replica.uuid, replica.child(peer.target_fingerprint()), head)
            if answer[0] != 200 or not answer[1].get("running"):
                failures.append(answer)
            else:
                kvm2.virsh("destroy", replica.uuid)
        assert not failures, f"{len(failures)} of {times}: {failures[0]}"


def test_activate_while_retention_merges():
    activate_while_retention_merges(4)


def test_long_activate_while_retention_merges():
    activate_while_retention_merges(20)


def test_order_of_calls():
    """Too early, twice, and after the end: the same answer or a refusal, never another recovery point."""
    with source_peer() as (peer, kvm2):
        owner, uuid = peer.target_fingerprint(), str(uuidlib.uuid4())
        generation, cycle = random_id(), random_id()
        for answer in (peer.begin(uuid, cycle, generation), peer.chunks(uuid, cycle, b""), peer.delete(uuid),
                       peer.commit(uuid, cycle, "0" * 64, "<x/>"), peer.action(uuid, "verify", {}),
                       peer.action(uuid, "deactivate", {"generation": f"1 {generation} {owner} -"})):
            assert answer[0] == 404 or answer == (200, {}), f"before there is a protection: {answer}"
        assert not kvm2.exists(f"{lab.STORE}/{uuid}")
        xml, line = domain(uuid, "early"), f"1 {generation} {peer.identity.fingerprint} -"
        assert peer.put(uuid, xml, line)[0] == 200
        for name, body in (("activate", {"generation": f"1 {random_id()} {owner} {generation}", "root": "0" * 64,
                                         "number": 0}), ("finalize", {}), ("prove", {})):
            answer = peer.action(uuid, name, body)
            assert 400 <= answer[0] < 500 and slug(answer), f"{name} before there is a point: {answer}"
        replica = Replica(peer)
        uuid, head, cycle = replica.uuid, peer.head(replica.uuid), replica.first[1]["cycle"]
        again = peer.commit(uuid, cycle, head["root"], replica.xml)
        assert again[0] == 200 and again[1]["number"] == 1, again
        assert slug(peer.begin(uuid, cycle, replica.generation)) == "cycle-committed"
        assert peer.chunks(uuid, cycle, frame(0, 1, b"z" * CHUNK))[0] in (409, 503)
        for base in ({**head, "number": 7}, {**head, "cycle": random_id()}, None):
            assert slug(peer.begin(uuid, random_id(), replica.generation, base)) == "base-mismatch", base
        line = replica.child(owner)
        for _ in range(2):
            assert peer.action(uuid, "deactivate", {"generation": line}) == (200, {"refused": True})
        answer = peer.activate(uuid, line, head)
        assert 400 <= answer[0] < 500 and slug(answer), f"a generation that was refused: {answer}"
        assert peer.numbers(uuid) == [1] and peer.head(uuid)["root"] == head["root"]
        assert uuid not in kvm2.virsh("list", "--all", "--uuid") and replica.cycle(b"C")[0] == 200
        assert peer.delete(uuid)[0] == 200 and peer.delete(uuid)[0] == 200


def test_nobody_elses():
    """Every request about another peer's replica or job, and what names another than the path does."""
    with source_peer() as (peer, kvm2), hostile.mallory(peer.at, kvm2) as other:
        replica = Replica(peer)
        uuid, head, cycle = replica.uuid, peer.head(replica.uuid), random_id()
        assert peer.begin(uuid, cycle, replica.generation, head)[0] == 200
        job = peer.action(uuid, "verify", {"number": 1})[1]["job"]
        before = (sorted(kvm2.tree(f"{lab.STORE}/{uuid}")), ops.rows(kvm2)["protection"])
        mine = f"1 {random_id()} {other.identity.fingerprint} -"
        at = other.protection(uuid)
        for method, rest, body in (
                ("GET", "/head", None), ("GET", "/rps", None), ("GET", "/sums?disk=vda", None), ("DELETE", "", None),
                ("GET", f"/cycles/{cycle}", None), ("GET", f"/cycles/{cycle}/held?disk=vda", None),
                ("PUT", f"/cycles/{cycle}/chunks", frame(0, 0, b"m" * CHUNK)),
                ("PUT", f"/cycles/{cycle}/attachments/{'0' * 64}", b"m"), ("GET", f"/attachments/{'0' * 64}", None),
                *(("POST", f"/action/{name}", {"generation": mine, "root": head["root"], "number": 1, "job": job})
                  for name in ("activate", "deactivate", "compare", "verify", "verify-cancel", "prove", "finalize",
                               "known", "planned-failover"))):
            answer = other.request(method, at + rest, body)
            assert answer[0] == 403 and slug(answer) == "not-your-protection", (rest, answer)
        assert other.put(uuid, replica.xml, mine)[0] == 403
        assert other.begin(uuid, random_id(), replica.generation, head)[0] == 403
        assert other.commit(uuid, cycle, head["root"], replica.xml)[0] == 403
        assert other.request("GET", f"/v1/peer/jobs/{job}")[0] == 404
        # its own replica, with what is somebody else's in the message
        own = Replica(other)
        assert own.first[0] == 200, own.first
        assert other.action(own.uuid, "verify-cancel", {"job": job})[0] == 200
        assert slug(other.put(own.uuid, replica.xml, own.line)) == "uuid-differs"
        assert slug(other.put(str(uuidlib.uuid4()), own.xml, own.line)) == "uuid-differs"
        new = str(uuidlib.uuid4())
        answer = other.put(new, domain(new, "theirs"), f"1 {random_id()} {peer.identity.fingerprint} -")
        assert slug(answer) == "generation-owner", answer
        body = {"cycle": cycle, "time_us": 1, "consistency": "crash", "root": "0" * 64, "domain_xml": own.xml,
                "attachments": []}
        answer = other.request("POST", other.protection(own.uuid, f"/cycles/{random_id()}/commit"), body)
        assert answer[0] == 400 and slug(answer) == "bad-argument", answer
        assert not kvm2.exists(f"{lab.STORE}/{new}")
        assert (sorted(kvm2.tree(f"{lab.STORE}/{uuid}")), [r for r in ops.rows(kvm2)["protection"]
                                                          if uuid in str(r)]) == before
        assert peer.request("GET", f"/v1/peer/jobs/{job}")[1]["state"] in ("running", "completed")
        other.close()


# messages


def test_numbers_out_of_range():
    with source_peer() as (peer, kvm2):
        replica = Replica(peer)
        uuid, head, cycle = replica.uuid, peer.head(replica.uuid), random_id()
        for disks in ([], [("vda", 0)], [("vda", -1)], [("vda", (1 << 46) + 1)], [("vda", 1 << 62)],
                      [("vda", 1 << 20)] * 2, [(f"vd{chr(97 + i // 26)}{chr(97 + i % 26)}", CHUNK) for i in range(65)]):
            answer = peer.begin(uuid, random_id(), replica.generation, head, disks)
            assert answer[0] == 400 and slug(answer), (disks[:2], answer)
        for number in (-1, 1 << 62, (1 << 63) - 1, 1 << 63, 1 << 64, 10 ** 400):
            answer = peer.begin(uuid, random_id(), replica.generation, {**head, "number": number})
            assert 400 <= answer[0] < 500 and slug(answer), (number, answer)
            for name, key in (("verify", "number"), ("verify-cancel", "job"), ("activate", "number")):
                answer = peer.action(uuid, name, {"generation": replica.child("0" * 64), "root": "0" * 64, key: number})
                fine = 0 <= number < 1 << 63 and name != "activate"
                assert answer[0] == 200 if fine else 400 <= answer[0] < 500 and slug(answer), (name, number, answer)
            for rest in (f"/rps?after={number}", f"/sums?disk=vda&from={number}", f"/sums?disk=vda&max={number}"):
                answer = peer.request("GET", peer.protection(uuid, rest))
                assert answer[0] in (200, 400), (rest, answer)
        assert peer.begin(uuid, cycle, replica.generation, head)[0] == 200
        data = b"n" * CHUNK
        for disk, chunk in ((1, 0), (65535, 0), (0, 16), (0, 1 << 40), (0, (1 << 64) - 1)):
            answer = peer.chunks(uuid, cycle, frame(disk, chunk, data))
            assert answer[0] == 400 and slug(answer), (disk, chunk, answer)
        for count in (0, 17, (1 << 32) - 1):
            body = struct.pack("<IHHQII", hostile.FRAME_MAGIC, 0, 2, 0, count, 0) + b"\0" * 16
            assert peer.chunks(uuid, cycle, body)[0] == 400, count
        good = frame(0, 0, data)
        for body in (good[:-1], good + b"x", good[:39], good[:20] + struct.pack("<I", 1 << 31) + good[24:],
                     good[:20] + struct.pack("<I", 0) + good[24:], b"x" * 100):
            assert peer.chunks(uuid, cycle, body)[0] == 400, body[:40]
        for time_us in (-1, 1 << 62, (1 << 63) - 1):
            answer = peer.commit(uuid, cycle, head["root"], replica.xml, time_us=time_us)
            assert answer[0] == 400 and slug(answer), (time_us, answer)
        assert peer.numbers(uuid) == [1] and replica.cycle(b"B")[0] == 200


def test_one_more_at_once():
    """Parallel requests do not get past what one after the other may have."""
    with source_peer() as (peer, kvm2):
        kvm2.vr("peer-set", "kvm1", "--max-protections", "3")
        try:
            answers = []

            def put(stop):
                mine, uuid = peer.again(), str(uuidlib.uuid4())
                answers.append(mine.put(uuid, domain(uuid, "many-" + uuid[:8]),
                                        f"1 {random_id()} {peer.identity.fingerprint} -"))
                mine.close()
            with hostile.Threads(12, put):
                lab.wait_for(lambda: len(answers) == 12, 60, "answers")
            assert sorted(a[0] for a in answers) == [200] * 3 + [409] * 9, answers
            assert {slug(a) for a in answers} == {"", "too-many-protections"}, answers
        finally:
            kvm2.vr("peer-set", "kvm1", "--max-protections", "500")


# what this peer may not ask whatever it says: the types are judged all the same
REFUSED = ("/action/planned-failover", "/action/activate")


def same(a, b):
    return a == b and type(a) is type(b)


def as_expected(answer, right):
    """2xx where it is what is meant (or the root, which the message cannot know); else a refusal with its reason."""
    if right:
        return 200 <= answer[0] < 300 or slug(answer) == "root-differs"
    return 400 <= answer[0] < 500 and slug(answer) and answer[1]["error"]["message"]


def test_wrong_types():
    """Every field of every message with every type it does not have: an answer, an unbroken daemon, nothing made."""
    with source_peer() as (peer, kvm2):
        replica = Replica(peer)
        uuid, head, cycle = replica.uuid, peer.head(replica.uuid), random_id()
        line = replica.child(peer.target_fingerprint())
        put = {"name": "n", "store": "default", "policy": "fast", "policy_text": hostile.POLICY,
               "generation": replica.line, "exclude": "", "xml": replica.xml, "networks": []}
        begin = {"cycle": cycle, "kind": "delta", "generation": replica.generation, "base_number": head["number"],
                 "base_cycle": head["cycle"], "disks": [{"name": "vda", "size": 1 << 20}]}
        commit = {"cycle": cycle, "time_us": 1, "consistency": "crash", "root": "1" * 64, "domain_xml": replica.xml,
                  "attachments": [{"name": "nvram", "size": 1, "sha256": "0" * 64}]}
        activate = {"generation": line, "root": "1" * 64, "number": head["number"], "networks": []}
        number, networks = head["number"], [None, []]
        # every member with what else it may be than what stands there; a text has its own rules beside
        paths = (("PUT", "", put, {**dict.fromkeys(("exclude", "name", "store"), ["", "x"]), "policy": ["x"],
                                  "policy_text": [""], "networks": networks}),
                 ("POST", "/cycles", begin, {"base_number": [number]}),
                 ("POST", f"/cycles/{cycle}/commit", commit, {"attachments": [[]]}),
                 ("POST", "/action/activate", {**activate, "autostart": True}, {"networks": WRONG}),
                 ("POST", "/action/deactivate", {"generation": line}, {}),
                 ("POST", "/action/compare", {"generation": replica.line}, {}),
                 ("POST", "/action/verify", {"number": number}, {"number": [1, 1 << 62]}),
                 ("POST", "/action/verify-cancel", {"job": 1}, {"job": [1, 1 << 62]}),
                 ("POST", "/action/prove", {"verify": False}, {"verify": [None, True]}),
                 ("POST", "/action/planned-failover", {"force": True}, {}),
                 ("POST", "/action/finalize", {"x": 1}, {"x": WRONG}),
                 ("POST", "/v1/peer/check", {"xml": replica.xml, "store": "default", "networks": []},
                  {"networks": networks, "store": ["", "x"]}))
        others = []
        for method, rest, message, fine in paths:
            path = rest if rest.startswith("/v1") else peer.protection(uuid, rest)
            for wrong in WRONG:
                for key in message:
                    answer = peer.request(method, path, {**message, key: wrong})
                    right = any(same(wrong, value) for value in fine.get(key, ()))
                    if not as_expected(answer, right and rest not in REFUSED):
                        others.append((rest, key, wrong, answer))
                if not isinstance(wrong, dict):
                    answer = peer.request(method, path, [wrong])
                    if answer[0] != 400 or not as_expected(answer, False):
                        others.append((rest, wrong, answer))
        assert not others, f"{len(others)}: {others[:40]}"
        for networks in ([{"source": 1, "target": "x"}], [{"source": "x"}], [{"source": "x", "target": None}], ["x"]):
            assert slug(peer.put(uuid, replica.xml, replica.line, networks=networks)) == "bad-message", networks
        for name in ("x" * 33, "ACTIVATE", "activate%20", "activate/", "..", "%2e%2e", "a%00b", "", "no-such-action"):
            answer = peer.action(uuid, name)
            assert answer[0] in (400, 404, 409), (name, answer)
        assert peer.numbers(uuid) == [1] and replica.cycle(b"B")[0] == 200
        assert uuid not in kvm2.virsh("list", "--uuid")


def test_huge_and_deep_json():
    with source_peer() as (peer, kvm2):
        replica = Replica(peer)
        pid = kvm2.daemon_pid()
        before = hostile.rss_mib(pid)
        path = peer.protection(replica.uuid, "/cycles")
        for body in (b"[" * 500000, b"[" * 17 + b"]" * 17, b'{"a":' * 100000, b"[" + b"1," * 500000 + b"1]",
                     b"[" + b"[]," * 300000 + b"1]", b"[" + b'{"a":1},' * 100000 + b"1]", b'{"a":"' + b"x" * 1000000,
                     b'{"x":1' + b"".join(b',"k%d":1' % i for i in range(60000)) + b"}"):
            answer = peer.request("POST", path, body[:1 << 20])
            assert slug(answer) == "bad-json", answer
        answer = peer.request("POST", path, b" " * ((1 << 20) + 1))
        assert slug(answer) == "body-too-large", answer
        assert hostile.rss_mib(pid) < before + 24, f"{before:.0f} -> {hostile.rss_mib(pid):.0f} MiB"


def test_attachment_of_no_cycle():
    """Refused before its content is read, and nothing of it lies anywhere."""
    with source_peer() as (peer, kvm2):
        replica = Replica(peer)
        path = peer.protection(replica.uuid, f"/cycles/{random_id()}/attachments/{'0' * 64}")
        tls = peer.handshake()
        tls.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {512 << 20}\r\n\r\n".encode())
        tls.settimeout(10)
        status = tls.recv(4096).split()[1]
        tls.close()
        assert status in (b"503", b"404", b"409"), status
        # of an open one it is spooled in the store, for as long as it lasts
        cycle, head = random_id(), peer.head(replica.uuid)
        assert peer.begin(replica.uuid, cycle, replica.generation, head)[0] == 200
        pid = kvm2.daemon_pid()
        tls = peer.handshake()
        path = peer.protection(replica.uuid, f"/cycles/{cycle}/attachments/{'0' * 64}")
        tls.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {8 << 20}\r\n\r\n".encode() + b"x" * (1 << 20))

        def spooled():
            found = []
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
            return [f for f in found if f.endswith("(deleted)") and f"incoming/{cycle}" in f]
        lab.wait_for(spooled, 10, "the attachment is spooled in the cycle's directory")
        tls.close()
        lab.wait_for(lambda: not spooled(), 10, "the spooled attachment is gone")


def answer_to_headers(peer, path, length, seconds=3):
    """(status or None where the body is awaited, connection): of a PUT whose body does not come."""
    tls = peer.handshake()
    tls.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
    tls.settimeout(seconds)
    try:
        return int(tls.recv(4096).split()[1]), tls
    except TimeoutError:
        return None, tls


@contextlib.contextmanager
def quota(host, size, peer="kvm1"):
    host.vr("peer-set", peer, "--quota", size)
    try:
        yield
    finally:
        host.vr("peer-set", peer, "--quota", "0")


def test_attachments_within_quota():
    """The declared length is charged before the body comes, across requests, and is given back when they break."""
    with source_peer() as (peer, kvm2):
        replica = Replica(peer)
        uuid, cycle = replica.uuid, random_id()
        assert peer.begin(uuid, cycle, replica.generation, peer.head(uuid))[0] == 200
        with quota(kvm2, "100MiB"):
            def put(n, length):
                return answer_to_headers(peer, peer.protection(uuid, f"/cycles/{cycle}/attachments/{n:064x}"), length)
            status, tls = put(1, 120 << 20)
            assert status == 507, f"more than the quota was welcome: {status}"
            tls.close()
            first, tls = put(2, 60 << 20)
            assert first is None, first
            second, other = put(3, 60 << 20)
            other.close()
            assert second == 507, f"two requests at once took the same room: {second}"
            tls.close()

            def again():
                status, connection = put(4, 60 << 20)
                connection.close()
                return status is None
            lab.wait_for(again, 20, "the room of a broken request is given back")
            data = os.urandom(1 << 20)
            for _ in range(3):
                answer = peer.request("PUT", peer.protection(uuid, f"/cycles/{cycle}/attachments/"
                                                             + hashlib.sha256(data).hexdigest()), data)
                assert answer[0] in (200, 204), answer
            used = kvm2.vr("peer-info", "kvm1")["used_bytes"]
            assert 1 << 20 <= used < 8 << 20, used


def test_begin_within_quota():
    """What BEGIN itself allocates is charged before it is made, and disks are counted over all replicas."""
    with source_peer() as (peer, kvm2):
        disks = tuple((f"vd{chr(97 + i)}", 1 << 46) for i in range(16))
        replica = Replica(peer, disks=DISKS)
        uuid, head = replica.uuid, peer.head(replica.uuid)
        with quota(kvm2, "64MiB"):
            answer = peer.begin(uuid, random_id(), replica.generation, head, disks)
            assert answer[0] == 507 and slug(answer) == "quota-exceeded", answer
            assert "peer-set kvm1 --quota" in answer[1]["error"]["action"], answer
            made = [path for directory in ("/var/lib/virt-replica/manifests", f"{lab.STORE}/{uuid}")
                    for path in kvm2.tree(directory) if "vdb" in path]
            assert not made, f"made for a refused cycle: {made}"
            assert replica.cycle(b"B")[0] == 200
        kvm2.vr("peer-set", "kvm1", "--max-protections", "4")
        try:
            many = tuple((f"vd{chr(97 + i // 26)}{chr(97 + i % 26)}", 1 << 20) for i in range(63))
            assert peer.begin(uuid, random_id(), replica.generation, peer.head(uuid), many)[0] == 200
            other = Replica(peer)
            assert other.first[0] == 200, other.first
            answer = peer.begin(other.uuid, random_id(), other.generation, peer.head(other.uuid), many)
            assert answer[0] == 409 and slug(answer) == "too-many-disks", answer
        finally:
            kvm2.vr("peer-set", "kvm1", "--max-protections", "500")


def test_orders_without_end():
    """Jobs that a peer orders again and again: few lines in the log, and this host's own jobs stay in sight."""
    with source_peer() as (peer, kvm2):
        replica = Replica(peer)
        own = kvm2.vr("verify", replica.uuid)["id"]
        begin, began, ordered = len(kvm2.daemon_log()), time.monotonic(), set()
        while time.monotonic() - began < 10 or len(ordered) < 100:
            ordered.add(peer.action(replica.uuid, "verify", {"number": 1 << 40})[1]["job"])
            time.sleep(0.02)
        lines = kvm2.daemon_log()[begin:].count("(verify) of")
        passed = time.monotonic() - began
        assert lines <= 60 + passed + 2, f"{lines} lines of {len(ordered)} jobs in {passed:.0f} s"
        assert own in [job["id"] for job in kvm2.vr("job-list", "--all")]


def test_paths():
    with source_peer() as (peer, _):
        for path in ("/v1/peer/protections/%00", "/v1/peer/hello%00", "/v1/peer//hello", "/v1/peer/../peer/hello",
                     "/v1/peer%2fhello", "/v1/peer/%c0%ae%c0%ae/hello", "/v1/peer/hello?a=%00", "/v1/peer/hello?a=%ff"):
            assert peer.request("GET", path)[0] in (400, 404), path
        tls = peer.handshake()
        tls.sendall(b"GET /v1/peer/hello\0x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " not in tls.recv(4096)
        tls.close()


def test_joins():
    """An attacker's wrong tokens are counted for it alone; from another address a right one gets in meanwhile."""
    kvm1, kvm2 = ops.reset()
    extra = "10.77.0.101"
    kvm1.run("ip", "addr", "add", f"{extra}/24", "dev", "eth0", check=False)
    try:
        attacker = Peer(kvm1, kvm2, address=extra)
        wrong = kvm2.vr("peer-invite", "--name", "mallory")["token"]
        for _ in range(10):
            assert slug(attacker.join(wrong, "mallory", proof="0" * 64)) == "join-proof"
        assert slug(attacker.join(wrong, "mallory")) == "too-many-attempts"
        attacker.close()
        with hostile.mallory(kvm1, kvm2, "right") as peer:
            assert peer.hello() == 200
    finally:
        kvm1.run("ip", "addr", "del", f"{extra}/24", "dev", "eth0", check=False)
        ops.reset()


# floods


@contextlib.contextmanager
def bystander():
    """(source, target) with a protection at 5 s that has nothing to do with what happens inside."""
    with ops.protected("bystander", {"interval": "5s", "rpo_target": "1min"}) as (guest, source, target):
        lab.wait_for(lambda: len(ops.points(target, guest.name)) >= 2, 60, "cycles")
        yield source, target


def goes_on(target, seconds=25):
    """The bystander has at least every second of its cycles (other work may run), and the daemon stays small."""
    pid = target.daemon_pid()
    before, began, most = ops.points(target, "bystander")[-1], time.monotonic(), 0
    while time.monotonic() - began < seconds:
        time.sleep(0.5)
        most = max(most, hostile.rss_mib(pid))
    after, passed = ops.points(target, "bystander")[-1], time.monotonic() - began
    assert after - before >= passed / 10, f"{after - before} cycles in {passed:.0f} s"
    assert most < MEMORY_MIB, f"the target's daemon took {most:.0f} MiB"


def flooded_by_strangers(words):
    with bystander() as (kvm1, kvm2):
        with strangers(kvm1, kvm2, ("10.77.0.101", "10.77.0.102"), 200, words):
            time.sleep(2)
            for _ in range(5):
                peer, began = Peer(kvm1, kvm2, timeout=8), time.monotonic()
                assert peer.hello() == 200
                assert time.monotonic() - began < 4
                peer.close()
            goes_on(kvm2)


def test_idle_strangers():
    """400 connections from two addresses that say nothing."""
    flooded_by_strangers(b"")


def test_half_handshakes():
    """The same that begin a handshake and leave it there."""
    flooded_by_strangers(b"\x16\x03\x01\x02")


def test_greedy_peer():
    """A paired peer that sends as much as it can on many connections."""
    with bystander() as (kvm1, kvm2), hostile.mallory(kvm1, kvm2) as peer:
        replica = Replica(peer, disks=(("vda", 64 << 20),))
        assert replica.made[0] == 200 and replica.first[0] == 200, (replica.made, replica.first)
        cycle = random_id()
        assert peer.begin(replica.uuid, cycle, replica.generation, peer.head(replica.uuid), replica.disks)[0] == 200
        body = b"".join(frame(0, n, os.urandom(CHUNK)) for n in range(120))
        path = peer.protection(replica.uuid, f"/cycles/{cycle}/chunks")
        answers = []

        def send(stop):
            mine = peer.again()
            while not stop.is_set():
                try:
                    answers.append(mine.request("PUT", path, body)[0])
                except OSError:
                    time.sleep(0.1)
            mine.close()

        def stall(stop):
            """Says that 8 MiB are coming and sends none of them; asks for lists and reads none."""
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    with peer.handshake() as tls:
                        tls.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {8 << 20}\r\n\r\n".encode())
                        stop.wait(2)
        with hostile.Threads(60, send), hostile.Threads(20, stall):
            goes_on(kvm2)
            threads = len(os.listdir(f"/proc/{kvm2.daemon_pid()}/task"))
        assert answers.count(200) + answers.count(204) > 0, "the greedy peer itself is served"
        assert threads < 120, f"{threads} threads"
        peer.close()

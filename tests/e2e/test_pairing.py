# SPDX-License-Identifier: LGPL-2.1-or-later
"""Pairing by a one-time token; who is not paired gets nothing."""
import re
import time

import lab
import ops


def test_invite_and_join():
    kvm1, kvm2 = ops.reset()
    assert kvm1.vr("peer-list") == [] and kvm2.vr("peer-list") == []
    invite = kvm1.vr("peer-invite", "--name", "siteb")
    assert isinstance(invite["token"], str) and invite["expires"].endswith("Z")
    joined = kvm2.vr("peer-join", "-", stdin=invite["token"] + "\n")
    assert joined["name"] == "kvm1"
    keys = {host.name: host.vr("status")["fingerprint"] for host in (kvm1, kvm2)}
    for host, name, other in ((kvm1, "siteb", "kvm2"), (kvm2, "kvm1", "kvm1")):
        peers = host.vr("peer-list")
        assert len(peers) == 1, peers
        peer = host.vr("peer-info", name)
        assert peer["name"] == peers[0]["name"] == name and peer["fingerprint"] == keys[other]
        assert re.fullmatch(r"10\.77\.0\.\d:16540", peer["address"]) and isinstance(peer["reachable"], bool)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", peer["last_seen"]), peer
    lab.wait_for(lambda: kvm1.vr("peer-list")[0]["reachable"], 10, "kvm1 sees kvm2")
    for host in (kvm1, kvm2):
        ops.restart(host)
        assert len(host.vr("peer-list")) == 1
    lab.wait_for(lambda: kvm1.vr("peer-list")[0]["reachable"], 10, "kvm1 sees kvm2 after a restart")


def test_tokens_that_do_not_work():
    kvm1, kvm2 = ops.reset()
    token = kvm1.vr("peer-invite", "--name", "kvm2")["token"]
    ops.refused(kvm2, 2, "peer-join", "nonsense", code="bad-token")
    ops.refused(kvm2, 2, "peer-join", token[:-9], code="bad-token")
    ops.refused(kvm1, 2, "peer-join", token, names=["this host"])
    kvm2.vr("peer-join", token)
    ops.refused(kvm2, 7, "peer-join", token)  # used
    brief = kvm1.vr("peer-invite", "--name", "other", "--expires", "1s")["token"]
    time.sleep(1.3)
    ops.refused(kvm2, 7, "peer-join", brief, names=["expired"])
    assert len(kvm1.vr("peer-list")) == 1
    ops.refused(kvm1, 4, "peer-info", "nobody", names=["nobody"])
    ops.refused(kvm1, 4, "peer-remove", "nobody", names=["nobody"])


def test_inviting_host_is_away():
    kvm1, kvm2 = ops.reset()
    token = kvm1.vr("peer-invite", "--name", "kvm2")["token"]
    kvm1.daemon("stop")
    try:
        before = ops.rows(kvm2)
        kvm2.vr_fails(1, "peer-join", token, contains=["10.77.0.1"])
        assert ops.rows(kvm2) == before
    finally:
        kvm1.daemon("start")
    assert kvm2.vr("peer-join", token)["name"] == "kvm1", "a token that was not used works later"


def test_nobody_else_gets_in():
    """Without the pinned key: no certificate, a certificate of one's own, plain HTTP."""
    kvm1, kvm2 = ops.paired()
    script = r"""
set -e
cd /run/lab
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
    -nodes -keyout k.pem -out c.pem -days 2 -subj /CN=kvm2 2>/dev/null
for args in '' '--cert c.pem --key k.pem'; do
    for url in hello protections/11111111-1111-4111-8111-111111111111 jobs/1; do
        address=https://kvm1:16540/v1/peer/$url
        printf '%s ' "$(curl -sk -m 5 $args -o answer -w '%{http_code}' "$address" || echo refused)"
    done
done
printf '%s' "$(curl -s -m 5 -o answer -w '%{http_code}' http://kvm1:16540/v1/peer/hello || echo refused)"
rm -f k.pem c.pem answer
"""
    answers = kvm2.run("bash", "-c", script).split()
    assert len(answers) == 7, answers
    for answer in answers:
        assert re.fullmatch(r"000refused|400|401|403", answer), answer
    kvm1.vr("peer-remove", "kvm2")
    lab.wait_for(lambda: not kvm2.vr("peer-list")[0]["reachable"], 15, "who was removed gets nothing any more")


def test_peer_that_is_gone():
    """Nothing is left here of what was protected there; a replica here is not dropped with its dead source."""
    with ops.protected("widow") as (guest, source, target):
        target.daemon("kill")
        error = source.vr_fails(5, "peer-remove", "kvm2", code="peer-in-use", contains=[guest.name])
        assert "peer-remove kvm2 --force" in error.action, error.action
        source.vr("peer-remove", "kvm2", "--force")
        assert source.vr("list", "--all") == source.vr("peer-list") == []
        assert source.virsh("checkpoint-list", guest.name, "--name") == ""
        target.daemon("start")
        error = ops.refused(target, 5, "peer-remove", "kvm1", "--force", code="replicas-held", names=[guest.name, "kvm1"])
        assert f"unprotect {guest.name} --force" in error.action, error.action
        target.vr("unprotect", guest.name, "--force")
        target.vr("peer-remove", "kvm1", "--force")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of operations share: clean hosts, a protected guest, and what a refused request must leave alone."""
import contextlib
import hashlib
import os
import shutil
import sqlite3
import time

import lab
from lab import Guest, LabError

STATE = "/var/lib/virt-replica"
UNDEFINE = ("--checkpoints-metadata", "--snapshots-metadata", "--nvram", "--managed-save")


def reset():
    """Both hosts as after installation: no domains, replicas, policies or peers; their keys stay. Returns them.

    What one test has done at its end the next one need not do again."""
    hosts = lab.hosts()
    if os.path.exists(lab.PRISTINE):
        return hosts
    for host in hosts:
        if host.daemon("state") != "gone":
            host.daemon("stop")
        for uuid in host.virsh("list", "--uuid").split():
            host.run("virsh", "-q", "destroy", uuid, check=False)
        for uuid in host.virsh("list", "--uuid", "--all").split():
            host.run("virsh", "-q", "undefine", uuid, *UNDEFINE, check=False)
        for name in ("state.db", "state.db-wal", "state.db-shm"):
            if host.exists(f"{STATE}/{name}"):
                os.unlink(host.path(f"{STATE}/{name}"))
        for path in (f"{STATE}/manifests", f"{STATE}/fence", "/etc/virt-replica/policies"):
            shutil.rmtree(host.path(path), ignore_errors=True)
        host.run("sh", "-c", f"rm -rf {lab.IMAGES}/*")
    for host in hosts:
        host.daemon("start")
    with open(lab.PRISTINE, "w", encoding="utf-8"):
        pass
    return hosts


def paired():
    """reset(), then the hosts know each other and the networks are mapped."""
    hosts = reset()
    lab.pair(*hosts)
    return hosts


@contextlib.contextmanager
def protected(name="guest", policy=None, exclude=(), run=True, **options):
    """(guest, source, target): paired hosts and a guest of that name, running and protected. All is gone afterwards."""
    source, target = paired()
    lab.define_policy(source, "test", **{"interval": "1h", "rpo_target": "2h", **(policy or {})})
    with Guest(source, name, **{"churn": 128, **options}).define() as guest:
        try:
            if run:
                guest.start().serial().wait_ack(5)
            excluded = [word for disk in exclude for word in ("--exclude-disk", disk)]
            source.vr("protect", name, "--to", target.name, "--policy", "test", *excluded)
            yield guest, source, target
        finally:
            restore()
    reset()


def restore():
    """After a test that stopped or armed daemons, also one that failed."""
    for host in lab.hosts():
        if host.daemon("state") == "stopped":
            host.daemon("cont")


def restart(host, **env):
    """virt-replicad anew, with that environment."""
    if host.daemon("state") != "gone":
        host.daemon("stop")
    host.daemon("start", **env)


def state(host, domain):
    return host.vr("info", domain)["state"]


def points(host, domain):
    return [p["number"] for p in host.vr("rp-list", domain)]


def wait_job(host, job, timeout=120, states=("completed", "failed", "cancelled")):
    """Until the job is in one of the states; returns it."""
    def ended():
        try:
            found = host.vr("job-info", job)
        except LabError:
            return None  # the daemon is away
        return found if found["state"] in states else None
    return lab.wait_for(ended, timeout, f"job {job} on {host}: {states}", 0.2)


def newest_job(host, kind):
    jobs = [j for j in host.vr("job-list", "--all") if j["kind"] == kind]
    return max(jobs, key=lambda j: j["id"]) if jobs else None


def layers(host, uuid):
    """{path: digest} of all that must never change of a replica; the running replica's own files are not in it."""
    found = {}
    root = f"{lab.STORE}/{uuid}"
    for path, kind in host.tree(root).items():
        if kind == "f" and not path.startswith(root + "/active/"):
            with open(host.path(path), "rb") as f:
                found[path] = hashlib.file_digest(f, "sha256").hexdigest()
    return found


# What a request that was refused must leave as it was.

def rows(host):
    """The state database but for jobs and clocks."""
    found = {}
    # by the directory that the host has mounted there: SQLite would resolve /proc/PID/root to this machine's
    file = f"file:{lab.LAB_DIR}/{host.name}{STATE}/state.db?mode=ro"
    with contextlib.closing(sqlite3.connect(file, timeout=5, uri=True)) as db:
        for table in ("netmap", "peer_network", "store", "protection", "cycle", "rp", "hold"):
            cursor = db.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            found[table] = sorted(str({n: v for n, v in zip(names, row) if not n.startswith("last_")})
                                  for row in cursor)
        found["peer"] = sorted(db.execute("SELECT fingerprint, name, address FROM peer"))
    return found


def domains(host):
    """{name: (state, definition, checkpoints)}"""
    found = {}
    for name in filter(None, host.virsh("list", "--all", "--name").split("\n")):
        found[name.strip()] = (host.virsh("domstate", name.strip()), host.virsh("dumpxml", name.strip(), "--inactive"),
                               host.virsh("checkpoint-list", name.strip(), "--name"))
    return found


def files(host):
    volatile = ("/lab", "/log/", "state.db", "virt-replica-canary")
    tree = host.tree(lab.IMAGES, STATE, "/etc/virt-replica", "/etc/libvirt/qemu", "/run/virt-replica",
                     "/var/lib/libvirt/qemu")
    return {path: kind for path, kind in tree.items() if not any(word in path for word in volatile)}


def picture():
    return {(host.name, part.__name__): part(host) for host in lab.hosts() for part in (rows, domains, files)}


def difference(before, after):
    for key in before:
        old, new = before[key], after[key]
        if old != new:
            changed = [k for k in {**old, **new} if old.get(k) != new.get(k)]
            return f"{key[0]}: {key[1]}: " + "; ".join(f"{k}: {old.get(k)!r} -> {new.get(k)!r}" for k in changed[:3])
    return None


@contextlib.contextmanager
def nothing_changes(settle=5.0):
    """Of domains, checkpoints, files and rows on either host. What is cleaned up in the background gets `settle` s."""
    before, again = None, picture()
    while before != again:  # a cycle in the background may be at its end
        time.sleep(0.5)
        before, again = again, picture()
    yield
    deadline = time.monotonic() + settle
    while found := difference(before, picture()):
        if time.monotonic() > deadline:
            raise LabError("changed by what was refused: " + found[:1500])
        time.sleep(0.2)


def refused(host, status, *args, code=None, names=(), action=True, **kwargs):
    """The request fails with that exit status, names all of `names`, says what to do, and changes nothing."""
    with nothing_changes():
        error = host.vr_fails(status, *args, code=code, contains=names, **kwargs)
    if not error.message or not error.code:
        raise LabError(f"no error object in JSON: {error}")
    if action and not error.action:
        raise LabError(f"the error proposes no action: {error.message!r}")
    return error

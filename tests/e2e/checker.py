#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The checker: invariants that hold after every fault, judged from public surfaces and files only.

  I-1  a recovery point equals the source at its instant (against an independent copy of the frozen disks)
  I-2  the digests both sides keep are those of the newest point's content, recomputed here; roots agree
  I-3  numbers strictly increase; no point disappears but by retention
  I-4  a failed cycle adds nothing; a point that was listed keeps its content
  I-5  the layers of the points pass qemu-img check
  I-6  nothing in incoming/; no file without a row, no row without a file
  I-7  an idle source: no job, one checkpoint of ours, bitmaps = checkpoints, no scratch, socket, helper process
  I-8  heartbeat gap below its bound, never paused, no I/O error in the guest
  I-9  the guest writes: never left frozen

What was seen before is kept in LAB_DIR/checker/<uuid>.json, so that each run is judged against the earlier ones.
checker.py DOMAIN exits 1 and prints "broken I-n: why"; the tests call Checker.check(), which raises Broken.
"""
import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import lab

CHUNK = 65536
GROUP_CHUNKS = 4096
GAP = 3.0  # seconds without a heartbeat: a guest that is held up, not one that shares a slow machine with three others
GUEST_ERRORS = re.compile(r"I/O error|EXT4-fs error|Aborting journal|Remounting filesystem read-only|^CORRUPT|"
                          r"Kernel panic|Out of memory")


class Broken(Exception):
    def __init__(self, rule, text):
        super().__init__(f"broken {rule}: {text}")
        self.rule = rule


def nonzero_chunks(path):
    """(number, content) of the chunks of a sparse raw file that are not all zeros; the last one padded."""
    zero = bytes(CHUNK)
    with open(path, "rb") as f:
        size = os.fstat(f.fileno()).st_size
        position = 0
        while position < size:
            try:
                position = os.lseek(f.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            number = position // CHUNK
            f.seek(number * CHUNK)
            data = f.read(CHUNK).ljust(CHUNK, b"\0")
            if data != zero:
                yield number, data
            position = (number + 1) * CHUNK


def content_of(path):
    """(fingerprint, {chunk: 16-byte digest}) of a raw file, holes and zeros being the same."""
    whole = hashlib.sha256(str(os.path.getsize(path)).encode())
    digests = {}
    for number, data in nonzero_chunks(path):
        digest = hashlib.sha256(data).digest()
        digests[number] = digest[:16]
        whole.update(number.to_bytes(8, "little") + digest)
    return whole.hexdigest(), digests


def sums_of(path):
    """The same map from a .sums file: 16 bytes a chunk, zeros for a chunk of zeros."""
    zero, found = bytes(16), {}
    with open(path, "rb") as f:
        size, position = os.fstat(f.fileno()).st_size, 0
        while position < size:
            try:
                position = os.lseek(f.fileno(), position, os.SEEK_DATA) // CHUNK * CHUNK
            except OSError:
                break
            f.seek(position)
            data = f.read(CHUNK)
            for i in range(0, len(data), 16):
                if data[i:i + 16] != zero:
                    found[(position + i) // 16] = data[i:i + 16]
            position += CHUNK
    return found


class Checker:
    """Of one protected domain. guest: a lab.Guest, or None when only the replica is to be judged."""

    def __init__(self, domain, uuid, source, target, guest=None, store=lab.STORE):
        self.domain, self.uuid, self.guest = domain, uuid, guest
        self.source, self.target, self.store = source, target, store
        self.memory_file = f"{lab.LAB_DIR}/checker/{uuid}.json"
        self.since = time.monotonic()
        self.memory = {"points": {}, "listings": []}
        if os.path.exists(self.memory_file):
            with open(self.memory_file) as f:
                self.memory = json.load(f)

    # public surfaces, replaced in the checker's own test

    def listing(self):
        return self.target.vr("rp-list", self.uuid)

    def source_info(self):
        return self.source.vr("info", self.uuid)

    # layout of the store

    def root(self):
        return f"{self.store}/{self.uuid}"

    def disks(self):
        names = [n for n in os.listdir(self.target.path(self.root())) if re.fullmatch(r"[a-z]+[a-z0-9]*", n)]
        return sorted(n for n in names if n not in ("rp", "incoming") and
                      os.path.isdir(self.target.path(f"{self.root()}/{n}")))

    def layer(self, disk, number):
        return f"{self.root()}/{disk}/{number}.qcow2"

    def chain(self, path):
        """The files under a layer, itself first; a backing format other than qcow2 is a fault."""
        out = self.target.run("qemu-img", "info", "-U", "-f", "qcow2", "--output=json", "--backing-chain", path)
        files = []
        for image in json.loads(out):
            if image["format"] != "qcow2" or image.get("backing-filename-format", "qcow2") != "qcow2":
                raise Broken("I-5", f"{path}: chain has an image of format {image['format']}")
            files.append(os.path.normpath(image["filename"]))
        return files

    # rules

    def compare(self, number, copies):
        """I-1: {disk: raw copy of the frozen export, as the source sees it} against a listed point."""
        for disk, copy in sorted(copies.items()):
            layer = self.target.path(self.layer(disk, number))
            if not os.path.exists(layer):
                raise Broken("I-1", f"recovery point {number} has no layer of {disk}")
            # Run on the target, where the layer's backing files have their names.
            raw = f"/proc/{self.source.pid}/root{copy}"
            status, out, err = self.outside("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw,
                                            self.layer(disk, number))
            if status == 1:
                raise Broken("I-1", f"recovery point {number}: {disk} is not what the source held: {out.strip()}")
            if status != 0:
                raise Broken("I-1", f"recovery point {number}: {disk}: {err.strip()}")

    def outside(self, *cmd):
        """Runs in the target's mount namespace only: with this machine's PIDs, so /proc/PID/root of hosts works."""
        script = 'mount -t proc proc /proc && exec "$@"'
        p = subprocess.run(["nsenter", "-t", str(self.target.pid), "-m", "--", "unshare", "-m", "bash", "-c", script,
                            "bash", *cmd], text=True, capture_output=True, timeout=600)
        return p.returncode, p.stdout, p.stderr

    def content(self, disk, number):
        """Fingerprint and chunk digests of one disk of one point, read by qemu-img."""
        raw = f"/run/lab/checker-{disk}.raw"
        try:
            self.target.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.layer(disk, number), raw,
                            timeout=600)
            return content_of(self.target.path(raw))
        except lab.CommandError as e:
            raise Broken("I-5", f"recovery point {number}: {disk} cannot be read: {e.err.strip()}") from None
        finally:
            if self.target.exists(raw):
                os.unlink(self.target.path(raw))

    def check_order(self, points, retention):
        numbers = [p["number"] for p in points]
        if any(b <= a for a, b in zip(numbers, numbers[1:])):
            raise Broken("I-3", f"numbers do not increase: {numbers}")
        if not self.memory["listings"]:
            return
        before = self.memory["listings"][-1]
        gone = sorted(set(before) - set(numbers))
        if gone and not retention:
            raise Broken("I-3", f"recovery points {gone} disappeared, now {numbers}")
        if before and (not numbers or numbers[-1] < before[-1]):
            raise Broken("I-3", f"the newest recovery point went back from {before[-1]} to {numbers[-1:]}")
        old = [n for n in numbers if n not in before and n <= before[-1]] if before else []
        if old:
            raise Broken("I-3", f"recovery points {old} appeared behind the newest one seen")

    def check_growth(self, points, added):
        before = self.memory["listings"][-1] if self.memory["listings"] else []
        new = [p["number"] for p in points if p["number"] not in before]
        if added is not None and len(new) not in (added if isinstance(added, (tuple, list, range)) else (added,)):
            raise Broken("I-4", f"new recovery points {new}, expected {added}")

    def check_contents(self, points, recent):
        newest = None
        for point in points[-recent:] if recent else points:
            number = str(point["number"])
            known = self.memory["points"].setdefault(number, {"root": point["root"], "disks": {}})
            if known["root"] != point["root"]:
                raise Broken("I-4", f"recovery point {number} changed its root")
            digests = {}
            for disk in self.disks():
                if not self.target.exists(self.layer(disk, number)):
                    continue
                fingerprint, digests[disk] = self.content(disk, number)
                if known["disks"].setdefault(disk, fingerprint) != fingerprint:
                    raise Broken("I-4", f"recovery point {number}: the content of {disk} changed")
            newest = digests
        return newest

    def check_digests(self, points, newest):
        for host in (self.source, self.target):
            base = host.path(f"/var/lib/virt-replica/manifests/{self.uuid}")
            for disk, digests in newest.items():
                for directory, _, files in os.walk(base):
                    if disk + ".sums" in files and sums_of(os.path.join(directory, disk + ".sums")) != digests:
                        raise Broken("I-2", f"{host}: the manifest of {disk} is not that of recovery point "
                                            f"{points[-1]['number']}")
        last = (self.source_info() or {}).get("last_rp")
        if last and last["number"] == points[-1]["number"] and last["root"] != points[-1]["root"]:
            raise Broken("I-2", f"root of recovery point {last['number']} is {last['root']} on the source, "
                                f"{points[-1]['root']} on the target")

    def check_images(self, points, recent):
        for disk in self.disks():
            layers = [self.layer(disk, p["number"]) for p in points]
            layers = [layer for layer in layers if self.target.exists(layer)]
            for path in self.chain(layers[-1])[:recent] if layers else []:
                status, out, err = self.target.run("qemu-img", "check", "-U", "-f", "qcow2", path, check=False)
                if status != 0:
                    raise Broken("I-5", f"{path}: {(out + err).strip()[-300:]}")

    def check_store(self, points, open_cycles=0):
        tree = self.target.tree(self.root())
        numbers = [p["number"] for p in points]
        inside = sorted(p for p in tree if p.startswith(self.root() + "/incoming/"))
        if len({p[len(self.root()):].split("/")[2] for p in inside}) > open_cycles:
            raise Broken("I-6", f"left in incoming: {inside[:3]}")
        needed = set()
        for disk in self.disks():
            own = [n for n in numbers if self.layer(disk, n) in tree]
            for number in reversed(own):
                if self.layer(disk, number) not in needed:
                    needed.update(self.chain(self.layer(disk, number)))
        if numbers and not needed:
            raise Broken("I-6", f"recovery points {numbers} have no layers")
        for number in numbers:
            if not any(self.layer(disk, number) in tree for disk in self.disks()):
                raise Broken("I-6", f"recovery point {number} has no layer")
        for path in sorted(tree):
            if path in inside:
                continue
            if path.endswith(".qcow2") and path not in needed:
                raise Broken("I-6", f"{path} belongs to no recovery point")
            sums = re.fullmatch(r"(.*)/(\d+)\.sums", path)
            if sums and f"{sums[1]}/{sums[2]}.qcow2" not in tree:
                raise Broken("I-6", f"{path} has no layer")
            record = re.fullmatch(re.escape(self.root()) + r"/rp/(\d+)", path)
            if record and int(record[1]) not in numbers:
                raise Broken("I-6", f"{path} belongs to no recovery point")
        for number in numbers:
            if f"{self.root()}/rp/{number}" not in tree:
                raise Broken("I-6", f"recovery point {number} has no {self.root()}/rp/{number}")

    def check_source(self, checkpoints):
        host, domain = self.source, self.domain
        off = host.virsh("domstate", domain) == "shut off"
        job = "" if off else host.virsh("domjobinfo", domain)
        if not off and not re.search(r"Job type:\s+None", job):
            raise Broken("I-7", f"a job is left on {domain}: {job.splitlines()[0]}")
        ours = [c for c in host.virsh("checkpoint-list", domain, "--name").split() if c.startswith(lab.PREFIX)]
        if len(ours) not in checkpoints:
            raise Broken("I-7", f"{domain} has checkpoints {ours}")
        for disk, bitmaps in self.bitmaps().items():
            left = sorted(b for b in bitmaps if b.startswith((lab.PREFIX, "backup-")) and b not in ours)
            if left:
                raise Broken("I-7", f"{domain} {disk} has bitmaps {left}, checkpoints are {ours}")
        self.check_files()
        self.check_processes()

    def bitmaps(self):
        """{disk: names} of the running or the shut-off domain."""
        root = ET.fromstring(self.source.virsh("dumpxml", self.domain))
        paths = {d.find("target").get("dev"): d.find("source").get("file")
                 for d in root.findall("./devices/disk[@device='disk']") if d.find("source") is not None}
        found = {disk: [] for disk in paths}
        if self.source.virsh("domstate", self.domain) == "shut off":
            for disk, path in paths.items():
                info = json.loads(self.source.run("qemu-img", "info", "-f", "qcow2", "--output=json", path))
                found[disk] = [b["name"] for b in info["format-specific"]["data"].get("bitmaps", [])]
            return found
        answer = self.source.virsh("qemu-monitor-command", self.domain, '{"execute":"query-block"}')
        for device in json.loads(answer)["return"]:
            inserted = device.get("inserted", {})
            for disk, path in paths.items():
                if path in (inserted.get("file"), inserted.get("image", {}).get("filename")):
                    found[disk] = [b["name"] for b in inserted.get("dirty-bitmaps", []) if b.get("name")]
        return found

    def check_files(self):
        host = self.source
        allowed = re.compile(r"/(master-key\.aes|monitor\.sock|org\.qemu\.guest_agent\.0)$")
        for path, kind in host.tree("/var/lib/libvirt/qemu", "/run/virt-replica", "/var/lib/virt-replica").items():
            name = os.path.basename(path)
            if re.search(rf"/qemu/(channel/target/)?domain-\d+-[^/]*/", path) and not allowed.search(path):
                raise Broken("I-7", f"{host}: left behind: {path}")
            if kind == "s" and path.startswith(("/run/virt-replica", "/var/lib/virt-replica")) and \
                    name not in ("virt-replica.sock", "hook.sock"):
                raise Broken("I-7", f"{host}: a socket is left: {path}")
            if kind == "f" and re.search(r"scratch|\.tmp$|\.part$|\.new$", name):
                raise Broken("I-7", f"{host}: left behind: {path}")
        if self.guest:
            home = f"{lab.IMAGES}/{self.guest.name}"
            expected = {self.guest.disk(target) for target in self.guest.sizes}
            extra = set(host.tree(home)) - expected if self.guest.home.name == host.name else set()
            if extra:
                raise Broken("I-7", f"{host}: beside the disks: {sorted(extra)}")

    def check_processes(self):
        for host in (self.source, self.target):
            for process in host.processes():
                name = os.path.basename(process["argv"][0]) if process["argv"] else process["comm"]
                helper = name in ("qemu-nbd", "qemu-img", "nbdkit", "nbdcopy") or (
                    name.startswith("virt-replica") and name not in ("virt-replicad", "virt-replica"))
                if helper:
                    raise Broken("I-7", f"{host}: a helper process is left: {' '.join(process['argv'])[:200]}")
                if process["state"] == "Z":
                    raise Broken("I-7", f"{host}: a zombie is left: {process['comm']}")

    def check_guest(self, gap=GAP):
        if not self.guest or self.guest.state() == "shut off":
            return
        serial, state = self.guest.serial(), self.guest.state_reason()
        if not state.startswith("running"):
            raise Broken("I-8", f"{self.domain} is {state}")
        errors = [line for _, line in list(serial.lines) if GUEST_ERRORS.search(line)]
        if errors:
            raise Broken("I-8", f"the guest reports: {errors[-1]}")
        longest = serial.max_gap(self.since)
        if longest > gap:
            raise Broken("I-8", f"no heartbeat of {self.domain} for {longest:.2f} s, the bound is {gap:g} s")
        if self.guest.mode == "run":
            try:
                serial.wait_ack(more=2, timeout=5)
            except lab.LabError:
                raise Broken("I-9", f"{self.domain} does not write: frozen at transaction {serial.acked}") from None

    # all of them

    def check(self, added=None, retention=False, copies=None, gap=GAP, settle=15.0, checkpoints=(1,),
              open_cycles=0, recent=None):
        """Raises Broken. The replica's and the source's background work gets `settle` seconds to finish.

        added: how many points must be new since the last check (a number or several), None: any.
        retention: points may disappear. copies: {number: {disk: raw file on the source}} for I-1.
        checkpoints: how many of ours the idle source may have.
        recent: how many of the newest points are read in full, None: all.
        open_cycles: after a cycle that failed, what it sent waits in incoming/ for the next one, which takes it over.
        """
        # What the work in the background (retention, the last steps of a cycle) may still change is asked again.
        deadline = time.monotonic() + settle
        while True:
            try:
                points = self.listing()
                self.check_order(points, retention)
                self.check_store(points, open_cycles)
                self.check_source(checkpoints)
                break
            except (Broken, lab.CommandError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)
        self.check_growth(points, added)
        newest = self.check_contents(points, recent)
        if points:
            self.check_digests(points, newest)
        self.check_images(points, recent)
        for number, files in (copies or {}).items():
            self.compare(number, files)
        self.check_guest(gap)
        self.memory["listings"].append([p["number"] for p in points])
        self.since = time.monotonic()
        os.makedirs(os.path.dirname(self.memory_file), exist_ok=True)
        with open(self.memory_file + ".new", "w") as f:
            json.dump(self.memory, f)
        os.rename(self.memory_file + ".new", self.memory_file)
        return points

    def forget(self):
        if os.path.exists(self.memory_file):
            os.unlink(self.memory_file)


def daemon_numbers(host):
    """{fds, threads, rss, private, peak} of virt-replicad; sizes in bytes; private is RssAnon + RssShmem."""
    pid = host.daemon_pid()
    with open(f"/proc/{pid}/status") as f:
        status = dict(line.rstrip("\n").split(":", 1) for line in f)

    def kib(key):
        return int(status[key].split()[0]) * 1024
    return {"fds": len(os.listdir(f"/proc/{pid}/fd")), "threads": int(status["Threads"]), "rss": kib("VmRSS"),
            "private": kib("RssAnon") + kib("RssShmem"), "peak": kib("VmHWM")}


def held_sync(guest, source, target, checker):
    """One cycle whose frozen disks are copied from QEMU's own export while the daemon is stopped at S8.

    Returns (number of the new point, {disk: raw copy on the source}), for Checker.check(copies={number: copies}).
    The daemon of the source is restarted before and after; the caller removes the directory of the copies.
    """
    before = [p["number"] for p in checker.listing()]
    source.daemon("stop")
    source.daemon("start", VR_FAULT="S8:stop")
    sync = source.popen("virt-replica", "sync", guest.name)
    try:
        lab.wait_for(lambda: source.daemon("state") == "stopped", 60, "the daemon at S8")
        copies = lab.copy_exports(source, guest.name, f"/var/lib/libvirt/images/copy-{guest.name}")
    finally:
        source.daemon("cont")
        if sync.wait(120) != 0:
            raise lab.LabError(f"sync of {guest.name} ended with status {sync.returncode}")
        source.daemon("stop")
        source.daemon("start")
    new = [p["number"] for p in checker.listing() if p["number"] not in before]
    if not new:
        raise lab.LabError("the held cycle made no recovery point")
    return new[0], copies


def main():
    parser = argparse.ArgumentParser(description="Checks the invariants of one protected domain in the lab.")
    parser.add_argument("domain")
    parser.add_argument("--source", default="kvm1")
    parser.add_argument("--target", default="kvm2")
    parser.add_argument("--retention", action="store_true", help="recovery points may have been retired")
    parser.add_argument("--copy", nargs=2, action="append", default=[], metavar=("NUMBER", "DIR"),
                        help="raw copies DIR/<disk>.raw on the source, taken from the frozen export of that point")
    args = parser.parse_args()
    source, target = lab.Host(args.source), lab.Host(args.target)
    uuid = source.virsh("domuuid", args.domain)
    checker = Checker(args.domain, uuid, source, target)
    copies = {int(number): {name[:-4]: f"{directory}/{name}" for name in os.listdir(source.path(directory))
                            if name.endswith(".raw")} for number, directory in args.copy}
    try:
        points = checker.check(retention=args.retention, copies=copies)
    except Broken as e:
        print(e)
        return 1
    print(f"ok: {args.domain}: {len(points)} recovery points, newest {points[-1]['number'] if points else 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

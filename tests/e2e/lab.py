# SPDX-License-Identifier: LGPL-2.1-or-later
"""Helpers of the end-to-end tests: the lab's hosts, their daemons and guests.

Programs run on a host through nsenter; files of a host are read through Host.path(). Everything times out.
"""
import contextlib
import functools
import json
import os
import re
import stat
import subprocess
import time
import uuid as uuidlib
import xml.etree.ElementTree as ET

from serial import Serial, clean
from waiting import LabError, wait_for

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LAB_DIR = os.environ.get("VR_LAB_DIR", "/var/tmp/virt-replica-lab")
IMAGES = "/var/lib/libvirt/images"
STORE = IMAGES + "/virt-replica"
NETWORKS = {"kvm1": "prod", "kvm2": "dr"}
PREFIX = "virt-replica."  # of our checkpoints
# what the kernel tests and prepares at each boot and no test is about takes a fifth of an emulated boot
BOOT = ("console=ttyS0 quiet cryptomgr.notests initcall_blacklist=init_kprobe_trace,load_system_certificate_list,"
        "crypto_kdf108_init,init_ima,init_evm,init_encrypted")


class CommandError(LabError):
    """A program on a host failed."""

    def __init__(self, argv, status, out, err):
        super().__init__(f"{' '.join(argv)}: exit {status}: {(err or out).strip()[-800:]}")
        self.status, self.out, self.err = status, out, err


class VrError(CommandError):
    """virt-replica failed: exit status, and code, message, action of its JSON error ('' without one)."""

    def __init__(self, argv, status, out, err):
        super().__init__(argv, status, out, err)
        try:
            error = json.loads(out)["error"]
        except (ValueError, KeyError, TypeError):
            error = {}
        self.code = error.get("code", "")
        self.message = error.get("message") or ""
        self.action = error.get("action") or ""
        self.text = " ".join([self.message, self.action, err])


@functools.cache
def build_dir():
    build = os.environ.get("VR_BUILD")
    if not build:
        with open(f"{LAB_DIR}/build") as f:
            build = f.read().strip()
    return os.path.realpath(build)


# There while the hosts are as ops.reset() left them: nothing was run on them and no file of theirs was named since.
PRISTINE = LAB_DIR + "/pristine"


def touched():
    with contextlib.suppress(FileNotFoundError):
        os.unlink(PRISTINE)


class Host:
    def __init__(self, name):
        self.name = name
        self.address = {"kvm1": "10.77.0.1", "kvm2": "10.77.0.2"}[name]
        self.network = NETWORKS[name]
        self._known = {}  # (PID, inode of its directory): whether it is this host's
        try:
            with open(f"{LAB_DIR}/{name}/pid") as f:
                self.pid = int(f.read())
            os.stat(f"/proc/{self.pid}/root/run/lab")
        except (OSError, ValueError):
            raise LabError(f"host {name} is not up in {LAB_DIR}: run tests/lab up") from None

    def __repr__(self):
        return self.name

    # programs

    def argv(self, *cmd):
        touched()
        return ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "--", *map(str, cmd)]

    def environment(self, env=None):
        return {**os.environ, "PATH": f"{build_dir()}/plugin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                "HOME": "/root", "LIBVIRT_DEFAULT_URI": "qemu:///system", "VR_LAB_DIR": LAB_DIR, **(env or {})}

    def run(self, *cmd, check=True, timeout=60, stdin=None, env=None):
        """Returns stdout. With check=False: (status, stdout, stderr)."""
        try:
            p = subprocess.run(self.argv(*cmd), env=self.environment(env), input=stdin, text=True, capture_output=True,
                               timeout=timeout, stdin=None if stdin is not None else subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name}: {' '.join(map(str, cmd))}: no end after {timeout} s") from None
        if not check:
            return p.returncode, p.stdout, p.stderr
        if p.returncode != 0:
            raise CommandError([self.name + ":", *map(str, cmd)], p.returncode, p.stdout, p.stderr)
        return p.stdout

    def popen(self, *cmd, env=None, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.argv(*cmd), env=self.environment(env), text=True, **kwargs)

    def virsh(self, *args, **kwargs):
        out = self.run("virsh", "-q", *args, **kwargs)
        return out.strip() if isinstance(out, str) else out

    def vr(self, *args, timeout=120, stdin=None):
        """virt-replica --json ARGS: the parsed JSON (None if it prints nothing); VrError on failure."""
        cmd = ["virt-replica", "--json", *map(str, args)]
        status, out, err = self.run(*cmd, check=False, timeout=timeout, stdin=stdin)
        if status != 0:
            raise VrError([self.name + ":", *cmd], status, out, err)
        try:
            return json.loads(out) if out.strip() else None
        except ValueError:
            raise LabError(f"{self.name}: {' '.join(cmd)}: not JSON: {out[:200]!r}") from None

    def vr_text(self, *args, **kwargs):
        """virt-replica ARGS as people use it: stdout."""
        return self.run("virt-replica", *args, **kwargs)

    def vr_fails(self, exit_status, *args, contains=(), code=None, timeout=120, stdin=None):
        """The call must fail with that exit status and name all of contains; returns the VrError."""
        try:
            answer = self.vr(*args, timeout=timeout, stdin=stdin)
        except VrError as e:
            if e.status != exit_status:
                raise LabError(f"exit {e.status} instead of {exit_status}: {e}") from None
            if code and e.code != code:
                raise LabError(f"error code {e.code!r} instead of {code!r}: {e}") from None
            for part in contains:
                if part not in e.text:
                    raise LabError(f"the error does not name {part!r}: {e.text!r}") from None
            return e
        raise LabError(f"{self.name}: virt-replica {' '.join(map(str, args))} succeeded: {answer}")

    # services: start, stop, kill, wait (returns the exit status), cont, state (running, stopped, gone)

    def _service(self, name, action, env):
        return self.run(f"{TESTS}/lab.d/service", name, action, *[f"{k}={v}" for k, v in env.items()],
                        timeout=180).strip()

    def daemon(self, action, **env):
        return self._service("virt-replicad", action, env)

    def libvirtd(self, action, **env):
        return self._service("libvirtd", action, env)

    def daemon_pid(self, name="virt-replicad"):
        """Of virt-replicad, or libvirtd, as this machine sees it; None if it does not run."""
        try:
            inner = self.read(f"/run/lab/{name}.pid").strip()
        except OSError:
            return None
        for pid in self.processes():
            if pid["inner"] == inner:
                return pid["pid"]
        return None

    def daemon_log(self):
        """By the directory that the host has mounted there, so that it can be read when the host is gone."""
        with open(f"{LAB_DIR}/{self.name}/var/log/libvirt/lab/virt-replicad.log", errors="replace") as f:
            return f.read()

    # files

    def path(self, path):
        """The path under which this machine sees a file of the host."""
        touched()
        return f"/proc/{self.pid}/root{path}"

    def read(self, path):
        with open(self.path(path), errors="replace") as f:
            return f.read()

    def write(self, path, text, mode=0o644):
        os.makedirs(os.path.dirname(self.path(path)), exist_ok=True)
        with open(self.path(path), "w") as f:
            f.write(text)
        os.chmod(self.path(path), mode)

    def exists(self, path):
        return os.path.lexists(self.path(path))

    def tree(self, *roots):
        """{path: 's' socket | 'd' directory | 'l' link | 'f' file} of everything below the roots."""
        found = {}
        for root in roots:
            base = self.path(root)
            for directory, names, files in os.walk(base):
                for name in names + files:
                    full = os.path.join(directory, name)
                    try:
                        mode = os.lstat(full).st_mode
                    except FileNotFoundError:
                        continue
                    kind = ("s" if stat.S_ISSOCK(mode) else "d" if stat.S_ISDIR(mode) else
                            "l" if stat.S_ISLNK(mode) else "f")
                    found[root + full[len(base):]] = kind
        return found

    def _own(self):
        """PIDs of this host; a process that was looked at before is known by its inode."""
        namespace = os.readlink(f"/proc/{self.pid}/ns/pid")
        known, self._known = self._known, {}
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            key = entry.name, entry.inode()
            with contextlib.suppress(OSError):
                self._known[key] = known[key] if key in known else os.readlink(f"/proc/{entry.name}/ns/pid") == namespace
        return [pid for (pid, _), own in self._known.items() if own]

    def processes(self):
        """Of this host: [{pid, inner (pid on the host), comm, argv, state}]."""
        found = []
        for pid in self._own():
            try:
                with open(f"/proc/{pid}/status") as f:
                    status = dict(line.split(":", 1) for line in f if ":" in line)
                with open(f"/proc/{pid}/cmdline") as f:
                    argv = f.read().split("\0")[:-1]
            except OSError:
                continue
            found.append({"pid": int(pid), "inner": status["NSpid"].split()[-1], "comm": status["Name"].strip(),
                          "argv": argv, "state": status["State"].split()[0]})
        return found

    # images

    def make_disk(self, path, size, filesystem=False, options="compat=1.1"):
        """A qcow2 image; with an empty ext4 if asked for."""
        self.run("mkdir", "-p", os.path.dirname(path))
        if not filesystem:
            self.run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, str(size))
            return
        raw = path + ".raw"
        self.run("truncate", "-s", str(size), raw)
        try:
            self.run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4", raw)
            self.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", options, raw, path)
        finally:
            os.unlink(self.path(raw))

    def boot_check(self, vda, vdb, timeout=60):
        """Boots the writer in check mode on throw-away overlays of two qcow2 images, which are not changed.

        Returns (vda, vdb) of its FOUND line; LabError if it says CORRUPT or nothing.
        """
        boot = f"/var/lib/libvirt/boot/{self.name}"
        drives = []
        for image in (vda, vdb):
            drives += ["-drive", f"file={image},format=qcow2,if=virtio,snapshot=on"]
        out = self.run("timeout", str(timeout), "qemu-system-x86_64", "-accel", "tcg", "-machine", "pc", "-m", "256",
                       "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel",
                       boot + "/vmlinuz", "-initrd", boot + "/initrd", "-append",
                       f"{BOOT} panic=-1 vr.mode=check", *drives, timeout=timeout + 10)
        found = re.search(r"FOUND vda=(\d+) vdb=(\d+)", out)
        if not found or not re.search(r"^OK ", out, re.M):
            raise LabError(f"the copy is not right: {clean(out)[-300:]}")
        return int(found[1]), int(found[2])


class Guest:
    """A lab guest: vda with ext4 and the journal, vdb with the counter. Starts on `host`; `at` says where it is."""

    def __init__(self, host, name="guest", vda_size="256M", vdb_size="64M", rate=20, churn=0, area=16, mode="run",
                 memory_mib=256, extra_disks=()):
        self.name, self.uuid = name, str(uuidlib.uuid4())
        self.home = self.at = host
        self.sizes = {"vda": vda_size, "vdb": vdb_size}
        self.sizes.update({f"vd{chr(ord('c') + i)}": size for i, size in enumerate(extra_disks)})
        self.rate, self.churn, self.area, self.mode, self.memory_mib = rate, churn, area, mode, memory_mib
        self.serials = {}

    def disk(self, target):
        return f"{IMAGES}/{self.name}/{target}.qcow2"

    def xml(self):
        disks = "".join(f"""
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='{self.disk(target)}'/>
      <target dev='{target}' bus='virtio'/>
    </disk>""" for target in self.sizes)
        boot = f"/var/lib/libvirt/boot/{self.home.name}"
        return f"""<domain type='qemu'>
  <name>{self.name}</name>
  <uuid>{self.uuid}</uuid>
  <memory unit='MiB'>{self.memory_mib}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{boot}/vmlinuz</kernel>
    <initrd>{boot}/initrd</initrd>
    <cmdline>{BOOT} vr.mode={self.mode} vr.rate={self.rate} vr.churn={self.churn} vr.area={self.area}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>{disks}
    <controller type='usb' model='none'/>
    <interface type='network'><source network='{self.home.network}'/><model type='virtio'/><rom enabled='no'/></interface>
    <serial type='file'><source path='/var/log/libvirt/qemu/{self.name}-serial0.log'/><target port='0'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='none'/>
  </devices>
</domain>
"""

    def define(self, make_disks=True):
        if make_disks:
            for target, size in self.sizes.items():
                self.home.make_disk(self.disk(target), size, filesystem=target == "vda" and self.mode != "idle")
        # The log of an earlier guest of that name must not be taken for this one's.
        for host in hosts():
            host.run("rm", "-f", f"/var/log/libvirt/qemu/{self.name}-serial0.log")
        self.home.virsh("define", "/dev/stdin", stdin=self.xml())
        return self

    def start(self, wait=True, timeout=90):
        """Starts it where it is; with wait, until it runs transactions (mode run) or beats."""
        serial = self.serial()
        lines, boots = len(serial.lines), len(serial.found)
        self.at.virsh("start", self.name)
        if wait and self.mode == "run":
            wait_for(lambda: len(serial.found) > boots, timeout, f"{self.name} does not boot: {serial.text()[-300:]}")
            serial.wait_line(r"^(ACK |CORRUPT)", timeout, lines)
            if serial.corrupt:
                raise LabError(f"{self.name}: {serial.corrupt[-1]}")
        elif wait:
            serial.wait_line(r"^HB ", timeout, lines)
        return self

    def serial(self, host=None):
        """The follower of its serial log on a host (where it is now); the path comes from the domain's XML there."""
        host = host or self.at
        if host.name not in self.serials:
            root = ET.fromstring(host.virsh("dumpxml", self.name, "--inactive"))
            source, log = root.find("./devices/serial[@type='file']/source"), root.find("./devices/serial/log")
            if source is None and log is None:
                raise LabError(f"{self.name} on {host} has no serial log")
            self.serials[host.name] = Serial(host, log.get("file") if source is None else source.get("path"))
        return self.serials[host.name]

    def moved_to(self, host):
        """After a failover: where it runs from now on."""
        self.at = host
        return self.serial()

    def state(self, host=None):
        return (host or self.at).virsh("domstate", self.name)

    def state_reason(self):
        return self.at.virsh("domstate", self.name, "--reason")

    def wait_state(self, state, timeout=60):
        wait_for(lambda: self.state() == state, timeout, f"{self.name} {state}, is {self.state()}")

    def shutdown(self, mode="acpi", timeout=60):
        """Asks the guest to power off (acpi or agent) and waits; returns its last ACK."""
        self.at.virsh("shutdown", self.name, "--mode", mode)
        self.wait_state("shut off", timeout)
        time.sleep(0.1)
        return self.serial().acked

    def destroy(self, graceful=True):
        self.at.run("virsh", "-q", "destroy", self.name, *(["--graceful"] if graceful else []), check=False)

    def kill_qemu(self):
        """SIGKILL to its QEMU, as a crash of it."""
        for process in self.at.processes():
            if process["comm"].startswith("qemu-system") and f"guest={self.name}," in " ".join(process["argv"]):
                os.kill(process["pid"], 9)
                return
        raise LabError(f"no QEMU of {self.name} on {self.at}")

    def agent(self, command, timeout=10):
        out = self.at.virsh("qemu-agent-command", self.name, json.dumps({"execute": command}), "--timeout", timeout)
        return json.loads(out)["return"]

    def wait_agent(self, timeout=20):
        wait_for(lambda: self.at.run("virsh", "-q", "qemu-agent-command", self.name, '{"execute":"guest-ping"}',
                                     check=False)[0] == 0, timeout, f"agent of {self.name}", 0.2)

    def remove(self):
        """From both hosts, with its disks."""
        for host in hosts():
            host.run("virsh", "-q", "destroy", self.name, check=False)
            host.run("virsh", "-q", "undefine", self.name, "--checkpoints-metadata", "--snapshots-metadata",
                     check=False)
        self.home.run("rm", "-rf", f"{IMAGES}/{self.name}")
        for serial in self.serials.values():
            serial.close()
            serial.host.run("rm", "-f", serial.file)
        self.serials = {}

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.remove()


def hosts():
    return [Host("kvm1"), Host("kvm2")]


def set_delete_grace(host, seconds, peer=None):
    """How long the host keeps what a peer (or all that it knows) unprotects."""
    for name in [peer] if peer else [p["name"] for p in host.vr("peer-list")]:
        host.vr("peer-set", name, "--delete-grace", f"{seconds}s" if seconds else "0")


def pair(first, second, grace=0):
    """Pairs the two daemons if they are not yet; each offers its network, and prod is mapped to dr and back.

    Peers get the host's names. What one unprotects the other drops at once (grace in seconds), so that tests leave
    nothing behind.
    """
    if not any(p["name"] == second.name for p in first.vr("peer-list")):
        invite = first.vr("peer-invite", "--name", second.name, "--networks", first.network)
        token = invite["token"] if isinstance(invite, dict) else invite
        second.vr("peer-join", token, "--name", first.name, "--networks", second.network)
    for host in (first, second):
        set_delete_grace(host, grace)
    first.vr("netmap-set", second.name, first.network, second.network)
    second.vr("netmap-set", first.name, second.network, first.network)


def define_policy(host, name, **keys):
    """policy-define with the keys of design.md section 11 (interval='1s', keep_all='1h')."""
    path = f"/run/lab/{name}.conf"
    host.write(path, "[policy]\n" + "".join(f"{k.replace('_', '-')}={v}\n" for k, v in keys.items()))
    host.vr("policy-define", path)


def copy_exports(host, domain, directory):
    """Copies every disk of the running pull backup of a domain from its NBD server to raw files on the host.

    Reads libvirt's own description of the job. Returns {target: path of the copy}.
    """
    backup = ET.fromstring(host.virsh("backup-dumpxml", domain))
    socket = backup.find("server").get("socket")
    host.run("mkdir", "-p", directory)
    copies = {}
    for disk in backup.findall("./disks/disk"):
        if disk.get("backup") == "no":
            continue
        target = disk.get("name")
        export = disk.get("exportname") or target
        copies[target] = f"{directory}/{target}.raw"
        host.run("qemu-img", "convert", "-f", "raw", "-O", "raw", f"nbd+unix:///{export}?socket={socket}",
                 copies[target], timeout=300)
    return copies

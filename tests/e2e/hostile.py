# SPDX-License-Identifier: LGPL-2.1-or-later
"""A peer that does what it likes: a client of the peer protocol with a paired host's own key, or with one it made and
joined with. It runs in the test's process; its sockets are made in the network namespace of the host it comes from."""
import base64
import contextlib
import ctypes
import hashlib
import hmac
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import uuid as uuidlib

from lab import LabError

PORT = 16540
CHUNK = 65536
DISKS = (("vda", 1 << 20),)
CLONE_NEWNET = 0x40000000
FRAME_MAGIC = 0x31465256
POLICY = "[policy]\ninterval=5s\n"


@contextlib.contextmanager
def network_of(host):
    """Sockets that this thread makes inside are the host's."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as own, open(f"/proc/{host.pid}/ns/net") as theirs:
        if libc.setns(theirs.fileno(), CLONE_NEWNET) != 0:
            raise LabError(f"cannot enter the network of {host}: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            libc.setns(own.fileno(), CLONE_NEWNET)


def random_id():
    return secrets.token_hex(16)


def spki_digest(certificate, form):
    """The fingerprint of a certificate's key."""
    key = subprocess.run(["openssl", "x509", "-inform", form, "-pubkey", "-noout"], input=certificate,
                         capture_output=True, check=True).stdout
    der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, capture_output=True,
                         check=True).stdout
    return hashlib.sha256(der).hexdigest()


class Identity:
    """A key and its certificate, in files that this machine sees."""

    def __init__(self, cert, key):
        self.cert, self.key = cert, key
        with open(cert, "rb") as f:
            self.fingerprint = spki_digest(f.read(), "PEM")

    @classmethod
    def of(cls, host):
        return cls(host.path("/etc/virt-replica/pki/host.crt"), host.path("/etc/virt-replica/pki/host.key"))

    @classmethod
    def new(cls, directory):
        cert, key = f"{directory}/host.crt", f"{directory}/host.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "30", "-subj", "/CN=mallory", "-keyout", key, "-out", cert], check=True,
                       capture_output=True)
        return cls(cert, key)


class Peer:
    """Requests from a host (an address of it) to another one's port; one connection, made anew when it broke."""

    def __init__(self, at, target, identity=None, timeout=120, address=None):
        self.at, self.target, self.timeout, self.address = at, target, timeout, address
        self.identity = identity or Identity.of(at)
        self.http = None

    def close(self):
        if self.http:
            self.http.close()
        self.http = None

    def again(self):
        """The same peer on a connection of its own."""
        return Peer(self.at, self.target, self.identity, self.timeout, self.address)

    def connect(self):
        """A TCP connection, without a handshake."""
        with network_of(self.at):
            source = (self.address, 0) if self.address else None
            return socket.create_connection((self.target.address, PORT), self.timeout, source)

    def handshake(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(self.identity.cert, self.identity.key)
        return context.wrap_socket(self.connect())

    def target_fingerprint(self):
        with self.handshake() as tls:
            return spki_digest(tls.getpeercert(True), "DER")

    def request(self, method, path, body=None):
        """(status, parsed answer)"""
        headers = {}
        if isinstance(body, (dict, list)):
            body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        if self.http is None:
            self.http = http.client.HTTPConnection(self.target.address, PORT, timeout=self.timeout)
            self.http.sock = self.handshake()
        try:
            self.http.request(method, path, body=body, headers=headers)
            answer = self.http.getresponse()
            data = answer.read()
            closed = answer.will_close
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        if closed:
            self.close()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data

    def hello(self):
        return self.request("GET", "/v1/peer/hello")[0]

    def join(self, token, name, proof=None):
        text = token.removeprefix("vr1.")
        fields = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        words = b"join\0" + fields["f"].encode() + b"\0" + self.identity.fingerprint.encode()
        proof = proof or hmac.new(fields["s"].encode(), words, hashlib.sha256).hexdigest()
        return self.request("POST", "/v1/peer/join",
                            {"secret": fields["s"], "name": name, "address": ":16540", "proof": proof})

    # the protocol

    def protection(self, uuid, rest=""):
        return f"/v1/peer/protections/{uuid}{rest}"

    def put(self, uuid, xml, generation, policy=POLICY, networks=(), **changed):
        body = {"name": "n", "store": "default", "policy": "fast", "policy_text": policy, "generation": generation,
                "exclude": "", "xml": xml, "networks": list(networks)}
        return self.request("PUT", self.protection(uuid), {**body, **changed})

    def delete(self, uuid):
        return self.request("DELETE", self.protection(uuid))

    def action(self, uuid, name, body=None):
        return self.request("POST", self.protection(uuid, f"/action/{name}"), body)

    def activate(self, uuid, generation, head, networks=(), **changed):
        body = {"generation": generation, "root": head["root"], "number": head["number"], "networks": list(networks)}
        return self.action(uuid, "activate", {**body, **changed})

    def head(self, uuid):
        return self.request("GET", self.protection(uuid, "/head"))[1].get("rp")

    def numbers(self, uuid):
        return [rp["number"] for rp in self.request("GET", self.protection(uuid, "/rps"))[1].get("rps", [])]

    def begin(self, uuid, cycle, generation_id, head=None, disks=DISKS, kind=None):
        body = {"cycle": cycle, "kind": kind or ("delta" if head else "initial"), "generation": generation_id,
                "base_number": head["number"] if head else 0,
                "disks": [{"name": name, "size": size} for name, size in disks]}
        if head:
            body["base_cycle"] = head["cycle"]
        return self.request("POST", self.protection(uuid, "/cycles"), body)

    def chunks(self, uuid, cycle, body):
        return self.request("PUT", self.protection(uuid, f"/cycles/{cycle}/chunks"), body)

    def commit(self, uuid, cycle, root, xml, attachments=(), time_us=None):
        return self.request("POST", self.protection(uuid, f"/cycles/{cycle}/commit"),
                            {"cycle": cycle, "time_us": int(time.time() * 1e6 if time_us is None else time_us),
                             "consistency": "crash", "root": root, "domain_xml": xml,
                             "attachments": list(attachments)})

    def cycle(self, uuid, generation_id, xml, chunks, disks=DISKS, time_us=None):
        """A whole cycle; the root is learnt from the refusal of a first COMMIT. Returns the last answer."""
        root, head, answer = "0" * 64, self.head(uuid), None
        for _ in range(2):
            cycle = random_id()
            answer = self.begin(uuid, cycle, generation_id, head, disks)
            if answer[0] != 200:
                return answer
            body = b"".join(frame(0, number, data) for number, data in chunks.items())
            if body:
                answer = self.chunks(uuid, cycle, body)
                if answer[0] not in (200, 204):
                    return answer
            answer = self.commit(uuid, cycle, root, xml, time_us=time_us)
            found = re.search(r"has root ([0-9a-f]{64})", str(answer[1]))
            if answer[0] == 200 or not found:
                return answer
            root = found[1]
        return answer


def slug(answer):
    """The code of an answer's error, '' if it is none."""
    body = answer[1]
    return body["error"].get("code", "") if isinstance(body, dict) and isinstance(body.get("error"), dict) else ""


def frame(disk, chunk, data):
    digest = hashlib.sha256(data).digest()[:16] if any(data) else b"\0" * 16
    return struct.pack("<IHHQII", FRAME_MAGIC, disk, 0, chunk, 1, len(data)) + digest + data


def domain(uuid, name, disks=("vda",), extra="", machine="q35", memory=128, interfaces=""):
    shown = "".join(f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/x/{t}.qcow2'/>"
                    f"<target dev='{t}' bus='virtio'/></disk>" for t in disks)
    return (f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>{memory}</memory>"
            f"<vcpu>1</vcpu><os><type arch='x86_64' machine='{machine}'>hvm</type></os>"
            f"<devices>{shown}{interfaces}{extra}</devices></domain>")


class Replica:
    """A protection that the peer makes up, with one recovery point."""

    def __init__(self, peer, name=None, disks=DISKS, policy=POLICY, networks=(), interfaces=""):
        self.peer, self.disks = peer, disks
        self.uuid, self.generation = str(uuidlib.uuid4()), random_id()
        self.name = name or "made-up-" + self.uuid[:4]
        self.xml = domain(self.uuid, self.name, [d for d, _ in disks], interfaces=interfaces)
        self.line = f"1 {self.generation} {peer.identity.fingerprint} -"
        self.made = peer.put(self.uuid, self.xml, self.line, policy, networks)
        self.first = self.cycle(b"A") if self.made[0] == 200 else None

    def cycle(self, letter, xml=None, time_us=None):
        return self.peer.cycle(self.uuid, self.generation, xml or self.xml, {0: letter * CHUNK}, self.disks, time_us)

    def child(self, owner, *before):
        """The line of a generation of the target's, behind those given and ours."""
        return f"1 {random_id()} {owner} {','.join([*before, self.generation])}"


@contextlib.contextmanager
def mallory(at, target, name="mallory"):
    """A peer of its own at the target, paired with a token of the target."""
    directory = tempfile.mkdtemp(prefix="vr-mallory-")
    try:
        peer = Peer(at, target, Identity.new(directory))
        token = target.vr("peer-invite", "--name", name)["token"]
        answer = peer.join(token, name)
        if answer[0] != 200:
            raise LabError(f"{name} cannot join: {answer}")
        yield peer
    finally:
        shutil.rmtree(directory)


class Threads:
    """Runs function(stop) in n threads until the end of the with statement."""

    def __init__(self, n, function):
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=function, args=(self.stop,), daemon=True) for _ in range(n)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)


@contextlib.contextmanager
def strangers(at, target, addresses, each, words=b""):
    """Connections from these addresses that say `words` and nothing more, opened anew as soon as they are closed."""
    for address in addresses:
        at.run("ip", "addr", "add", f"{address}/24", "dev", "eth0", check=False)

    def flood(stop):
        held = {}
        with network_of(at):
            while not stop.is_set():
                for place in [(a, i) for a in addresses for i in range(each)]:
                    if place in held and still_open(held[place]):
                        continue
                    if place in held:
                        held.pop(place).close()
                    with contextlib.suppress(OSError):
                        held[place] = socket.create_connection((target.address, PORT), 2, (place[0], 0))
                        held[place].sendall(words)
                time.sleep(0.02)
        for sock in held.values():
            sock.close()
    try:
        with Threads(1, flood):
            yield
    finally:
        for address in addresses:
            at.run("ip", "addr", "del", f"{address}/24", "dev", "eth0", check=False)


def still_open(sock):
    try:
        return sock.recv(1, socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def rss_mib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) / 1024

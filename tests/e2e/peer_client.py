# SPDX-License-Identifier: LGPL-2.1-or-later
"""A client of the peer protocol that says whatever it likes, with the key of the host it runs on.

Meant for `host.run("python3", ...)` inside a host of the lab: it plays a paired host that was taken over.
"""
import hashlib
import http.client
import json
import re
import secrets
import ssl
import struct
import subprocess
import time

PKI = "/etc/virt-replica/pki"
CHUNK = 65536


def fingerprint():
    """Of this host's key."""
    der = subprocess.run(["sh", "-c", f"openssl x509 -in {PKI}/host.crt -pubkey -noout | "
                          "openssl pkey -pubin -outform DER"], capture_output=True, check=True).stdout
    return hashlib.sha256(der).hexdigest()


def domain(uuid, name):
    return (f"<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>128</memory>"
            "<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/x/vda.qcow2'/>"
            "<target dev='vda' bus='virtio'/></disk></devices></domain>")


class Source:
    """One domain of one disk (vda, 1 MiB), replicated by hand."""

    def __init__(self, target, uuid, name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(f"{PKI}/host.crt", f"{PKI}/host.key")
        self.http = http.client.HTTPSConnection(target, 16540, context=context, timeout=60)
        self.uuid, self.name = uuid, name
        self.owner = fingerprint()
        self.new_generation()

    def new_generation(self):
        self.generation = secrets.token_hex(16)

    def request(self, method, path, body=None):
        """(status, JSON or bytes)"""
        headers = {}
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        self.http.request(method, f"/v1/peer/protections/{self.uuid}{path}", body=body, headers=headers)
        reply = self.http.getresponse()
        data = reply.read()
        try:
            return reply.status, json.loads(data)
        except ValueError:
            return reply.status, data

    def put(self, policy, **other):
        return self.request("PUT", "", {
            "name": self.name, "store": "default", "policy": "theirs", "exclude": "", "networks": [],
            "policy_text": "[policy]\n" + policy, "generation": f"1 {self.generation} {self.owner} -",
            "xml": domain(self.uuid, self.name), **other})

    def delete(self):
        return self.request("DELETE", "")

    def head(self):
        return self.request("GET", "/head")[1].get("rp")

    def points(self):
        return [(p["number"], p["time"]) for p in self.request("GET", "/rps")[1]["rps"]]

    def commit(self, cycle, root, when):
        return self.request("POST", f"/cycles/{cycle}/commit", {
            "cycle": cycle, "time_us": int(when), "consistency": "crash", "root": root, "attachments": [],
            "domain_xml": domain(self.uuid, self.name)})

    def cycle(self, content, when=None):
        """A recovery point whose first chunk is full of that byte; the target's own words tell the root."""
        root, when = "0" * 64, time.time() * 1e6 if when is None else when
        for _ in range(2):
            head, cycle = self.head(), secrets.token_hex(16)
            begin = {"cycle": cycle, "kind": "delta" if head else "initial", "generation": self.generation,
                     "base_number": head["number"] if head else 0, "disks": [{"name": "vda", "size": 1 << 20}]}
            if head:
                begin["base_cycle"] = head["cycle"]
            answer = self.request("POST", "/cycles", begin)
            if answer[0] != 200:
                return answer
            data = bytes([content]) * CHUNK
            frame = struct.pack("<IHHQII", 0x31465256, 0, 0, 0, 1, CHUNK) + hashlib.sha256(data).digest()[:16] + data
            answer = self.request("PUT", f"/cycles/{cycle}/chunks", frame)
            if answer[0] not in (200, 204):
                return answer
            answer = self.commit(cycle, root, when)
            found = re.search(r"has root ([0-9a-f]{64})", str(answer[1]))
            if answer[0] == 200 or not found:
                return answer
            root = found[1]
        return answer

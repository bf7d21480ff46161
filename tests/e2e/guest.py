#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Defines and starts a guest on kvm1 that writes numbered transactions: `tests/lab guest [NAME]`."""
import sys

import lab

if __name__ == "__main__":
    guest = lab.Guest(lab.hosts()[0], sys.argv[1] if len(sys.argv) > 1 else "shop", churn=256).define().start()
    print(f"domain '{guest.name}' runs on kvm1; its console: {guest.home.path(f'/var/log/libvirt/qemu/{guest.name}-serial0.log')}")

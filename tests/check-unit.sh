#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# systemd's own opinion of the unit file. usage: check-unit.sh UNIT
command -v systemd-analyze >/dev/null || { echo "systemd-analyze is not installed"; exit 77; }
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
# The program need not be installed where the test runs.
sed 's|^ExecStart=.*|ExecStart=/bin/true|' "$1" >"$dir/virt-replicad.service"
SYSTEMD_LOG_LEVEL=warning systemd-analyze verify "$dir/virt-replicad.service" 2>"$dir/said"
status=$?
cat "$dir/said"
grep -q 'virt-replicad' "$dir/said" && status=1
exit $status

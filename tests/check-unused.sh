#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Public functions that no program needs: each vr_*() that a header declares is used somewhere in the sources, tests and
# its own definition apart. Those that tests alone need by their nature are named here.
# usage: check-unused.sh SOURCE-DIR
cd "${1:-.}" || exit 2
kept="vr_fault_fired vr_log_limit_free" # a test asks whether its fault was met; the log's limit lives as long as the daemon
folders="policies storage qmp plugin"
# shellcheck disable=SC2086
find $folders -name '*.[ch]' | sort | xargs awk -v kept="$kept" '
    FNR == 1 { header = FILENAME ~ /\.h$/; name = ""; comment = 0 }
    {
        line = $0
        # Comments name functions without using them.
        if (comment) { if (!sub(/^.*\*\//, "", line)) next; comment = 0 }
        gsub(/\/\*([^*]|\*[^\/])*\*\//, "", line)
        if (sub(/\/\*.*$/, "", line)) comment = 1
        if (header && line ~ /^[a-zA-Z].*[ *]vr_[a-z0-9_]+\(/ && line !~ /^static|typedef|^#/) {
            match(line, /vr_[a-z0-9_]+\(/)
            declared[substr(line, RSTART, RLENGTH - 1)] = FILENAME
            next
        }
        if (line ~ /^vr_[a-z0-9_]+\(/) sub(/^vr_[a-z0-9_]+/, "", line)
        while (match(line, /vr_[a-z0-9_]+/)) {
            used[substr(line, RSTART, RLENGTH)] = 1
            line = substr(line, RSTART + RLENGTH)
        }
    }
    END {
        split(kept, names, " ")
        for (i in names) used[names[i]] = 1
        for (f in declared)
            if (!(f in used)) { print declared[f] ": nobody uses " f "()"; bad = 1 }
        exit bad
    }'

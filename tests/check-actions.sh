#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What messages tell people to run exists: each "virt-replica COMMAND" and each "COMMAND … --OPTION" in a string of the
# sources is in the tables of plugin/cli/cli_command.c.
# usage: check-actions.sh SOURCE-DIR
cd "${1:-.}" || exit 2
table=plugin/cli/cli_command.c
find policies storage qmp plugin -name '*.c' ! -path 'plugin/cli/*' | sort | xargs awk '
    FILENAME == table {
        if (match($0, /^static const VrCliParam [a-z_]+\[\]/)) { split($0, w, /[ \[]/); list = w[4] }
        if ($0 ~ /^static const VrCliCommand commands/) list = "commands"
        if (list == "commands" && $0 ~ /^    \{"[a-z-]+", "/) { split($0, w, /"/); split($0, v, ", "); options[w[2]] = v[4] }
        else if ($0 ~ /^    \{"[a-z-]+", VR_CLI_/) { split($0, w, /"/); has[list, w[2]] = 1 }
        else if ($0 ~ /^    NETWORKS,/) has[list, "networks"] = 1
        next
    }
    /"/ {
        line = $0
        # Strings that go on are one; the quotes of C go.
        while (line ~ /"$/ && (getline more) > 0) { sub(/^ *"/, "", more); sub(/"$/, "", line); line = line more }
        text = line
        while (match(text, /(\047|: |[Rr]un )virt-replica [a-z]+(-[a-z]+)*/)) {
            command = substr(text, RSTART, RLENGTH)
            sub(/^.*virt-replica /, "", command)
            text = substr(text, RSTART + RLENGTH)
            if (!(command in options)) wrong("no command " command)
        }
        text = line
        while (match(text, /[a-z]+(-[a-z]+)* ?[^".;:,()]* --[a-z]+(-[a-z]+)*/)) {
            part = substr(text, RSTART, RLENGTH)
            text = substr(text, RSTART + RLENGTH)
            while (match(part, /--[a-z]+(-[a-z]+)*/)) {
                before = substr(part, 1, RSTART - 1)
                option = substr(part, RSTART + 2, RLENGTH - 2)
                part = before substr(part, RSTART + RLENGTH)
                command = last_command(before)
                if (command != "" && !((options[command], option) in has)) wrong("no option --" option " of " command)
            }
        }
    }
    function last_command(words,   w, n, i) {
        n = split(words, w, /[^a-z-]+/)
        for (i = n; i > 0; i--) if (w[i] in options) return w[i]
        return ""
    }
    function wrong(what) { print FILENAME ":" FNR ": " what; bad = 1 }
    END { exit bad }' table=$table $table

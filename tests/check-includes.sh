#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The include arrow: policies <- storage <- qmp <- plugin. And: no image is handed to qemu-img or
# qemu-nbd without its format, else a guest could choose it.
# usage: check-includes.sh SOURCE-DIR
cd "${1:-.}" || exit 2
bad=0

against() { # FOLDER FORBIDDEN...: no file of the folder includes one of the others
    folder=$1
    shift
    for other in "$@"; do
        if grep -rn --include='*.[ch]' "#include \"$other/" "$folder"; then
            echo "error: $folder/ must not include $other/" >&2
            bad=1
        fi
    done
}
against policies storage qmp plugin
against storage qmp plugin
against qmp plugin
if grep -n '#include "\(storage\|qmp\)/' plugin/hook/*.[ch]; then
    echo "error: the hook sees policies/ only" >&2
    bad=1
fi
if grep -rn --include='*.[ch]' '#include "[^/"]*"' policies storage qmp plugin; then
    echo "error: write the folder in every include" >&2
    bad=1
fi

# Argument lists of one statement: from "qemu-img", to the next semicolon.
for file in $(grep -rlE --include='*.c' '"(/usr/bin/)?qemu-(img|nbd|io)",' policies storage qmp plugin); do
    awk -v file="$file" '
        /(^ *|\{)"(\/usr\/bin\/)?qemu-(img|nbd|io)",/ && !collecting { collecting = 1; text = ""; line = NR }
        collecting { text = text $0 }
        collecting && /;/ {
            collecting = 0
            if (text ~ /"--version"/)
                next
            if (text !~ /"-f"|"--format|"--image-opts"/ || (text ~ /"-b"/ && text ~ /"(create|rebase)"/ && text !~ /"-F"/)) {
                print file ":" line ": image without an explicit format"
                status = 1
            }
        }
        END { exit status }' "$file" || bad=1
done
exit $bad

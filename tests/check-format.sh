#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The C code is as .clang-format says. $1: source directory.
set -eu
cd "$1"
find policies storage qmp plugin tests -name '*.[ch]' -print0 | xargs -0 clang-format --dry-run --Werror

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cli/cli.h"

G_BEGIN_DECLS

/**
 * vr_cli_shell:
 * @cli: with @in set
 *
 * Reads lines of commands with ';' between them, words quoted and comments as in sh, and runs them
 * until "quit", "exit" or the end of the input; a command that fails does not end it. Prompts if
 * input and output are a terminal.
 *
 * Returns: the exit status of the first command that failed, 0 if none did.
 */
int vr_cli_shell(VrCli *cli);

G_END_DECLS

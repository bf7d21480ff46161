/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cli/cli.h"

G_BEGIN_DECLS

/**
 * vr_cli_shell:
 * @cli: with @in set
 *
 * Reads lines, words quoted as in sh, and runs each as a command, until "quit", "exit" or the end
 * of the input; a command that fails does not end it. Empty lines and those that begin with '#' are
 * skipped. Prompts if input and output are a terminal.
 *
 * Returns: the exit status of the last command, 0 if there was none.
 */
int vr_cli_shell(VrCli *cli);

G_END_DECLS

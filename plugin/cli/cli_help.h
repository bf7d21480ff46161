/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/cli/cli_command.h"

G_BEGIN_DECLS

/** The usage line, the global options and all commands by group. */
void vr_cli_help_all(VrCli *cli);
/** Name, synopsis and options of one command. */
void vr_cli_help_command(VrCli *cli, const VrCliCommand *command);

G_END_DECLS

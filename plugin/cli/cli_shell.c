/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_shell.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROMPT "virt-replica # "

static gboolean
is_terminal(FILE *stream)
{
    return isatty(fileno(stream)) == 1;
}

/* Runs one line; returns its exit status. */
static int
run_line(VrCli *cli, const char *line)
{
    g_autofree char *command = g_strconcat("virt-replica ", line, NULL);
    g_auto(GStrv) argv = NULL;
    g_autoptr(GError) error = NULL;

    if (g_shell_parse_argv(command, NULL, &argv, &error))
        return vr_cli_run_words(cli, argv, NULL);
    vr_cli_complain(cli, "%s", error->message);
    return 2;
}

static gboolean
ends(const char *line)
{
    return g_str_equal(line, "quit") || g_str_equal(line, "exit");
}

int
vr_cli_shell(VrCli *cli)
{
    gboolean prompt = is_terminal(cli->in) && is_terminal(cli->out);
    char *buffer = NULL;
    gsize size = 0;
    int status = 0;

    if (prompt && !cli->quiet)
        fputs("Type 'help' for the commands, 'quit' to leave.\n\n", cli->out);
    for (;;) {
        char *line = NULL;

        if (prompt)
            fputs(PROMPT, cli->out);
        fflush(cli->out);
        if (getline(&buffer, &size, cli->in) < 0) {
            if (prompt)
                fputc('\n', cli->out);
            break;
        }
        line = g_strstrip(buffer);
        if (!*line || *line == '#')
            continue;
        if (ends(line))
            break;
        status = run_line(cli, line);
    }
    free(buffer);
    return status;
}

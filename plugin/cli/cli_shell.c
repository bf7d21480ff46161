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

/* The end of the command that @line begins with: a ';' that is not quoted, a comment, or the end.
 */
static char *
command_end(char *line)
{
    char quote = '\0';
    gboolean in_word = FALSE;

    for (char *at = line; *at; at++) {
        if (*at == '\\' && quote != '\'' && at[1])
            at++;
        else if (quote != '\0')
            quote = *at == quote ? '\0' : quote;
        else if (*at == '\'' || *at == '"')
            quote = *at;
        else if (*at == ';' || (*at == '#' && !in_word))
            return at;
        in_word = quote != '\0' || !g_ascii_isspace(*at);
    }
    return line + strlen(line);
}

/* Runs one command; returns its exit status. */
static int
run_command(VrCli *cli, const char *line)
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

/* The commands of one line; TRUE if it ends the shell. @status: of the first that failed. */
static gboolean
run_line(VrCli *cli, char *line, int *status)
{
    for (;;) {
        char *end = command_end(line);
        gboolean more = *end == ';';
        const char *command;
        int failed;

        *end = '\0';
        command = g_strstrip(line);
        if (ends(command))
            return TRUE;
        failed = *command ? run_command(cli, command) : 0;
        if (*status == 0)
            *status = failed;
        if (!more)
            return FALSE;
        line = end + 1;
    }
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
        if (prompt)
            fputs(PROMPT, cli->out);
        fflush(cli->out);
        if (getline(&buffer, &size, cli->in) < 0) {
            if (prompt)
                fputc('\n', cli->out);
            break;
        }
        if (run_line(cli, buffer, &status))
            break;
    }
    free(buffer);
    return status;
}

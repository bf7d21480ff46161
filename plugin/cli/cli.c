/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli.h"

#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_command.h"
#include "plugin/cli/cli_format.h"
#include "plugin/cli/cli_help.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_shell.h"
#include "storage/wire/error_json.h"

#include <errno.h>

#define DEFAULT_SOCKET "/run/virt-replica/virt-replica.sock"

G_GNUC_PRINTF(3, 0)
static void
print_escaped(FILE *stream, const char *before, const char *format, va_list args)
{
    g_autofree char *raw = g_strdup_vprintf(format, args);
    g_autofree char *text = vr_cli_escape(raw);

    fprintf(stream, "%s%s\n", before, text);
}

void
vr_cli_say(VrCli *self, const char *format, ...)
{
    va_list args;

    if (self->quiet || self->json)
        return;
    va_start(args, format);
    print_escaped(self->out, "", format, args);
    va_end(args);
}

void
vr_cli_complain(VrCli *self, const char *format, ...)
{
    va_list args;

    fflush(self->out);
    va_start(args, format);
    print_escaped(self->err, "error: ", format, args);
    va_end(args);
}

/* Prints @error; to be interrupted is none, and only says what goes on. */
static int
report(VrCli *self, const GError *error)
{
    g_autofree char *message = vr_cli_escape(error->message);
    const char *action = vr_error_action(error);

    if (g_str_equal(vr_error_slug(error), "interrupted"))
        fprintf(self->err, "%s\n", message);
    else
        vr_cli_complain(self, "%s", error->message);
    if (action) {
        g_autofree char *text = vr_cli_escape(action);

        fprintf(self->err, "  %s\n", text);
    }
    if (self->json) {
        JsonObject *object = json_object_new();
        g_autoptr(JsonNode) node = NULL;

        json_object_set_object_member(object, "error", vr_error_to_json_object(error));
        node = vr_cli_json_node(object);
        vr_cli_json_print(self->out, node);
    }
    return vr_error_exit_status(error);
}

static void
print_version(VrCli *self)
{
    fprintf(self->out, self->json ? "{\"version\":\"%s\"}\n" : "%s\n", VR_VERSION);
}

static gboolean
run_command(VrCli *self, const VrCliArgs *args, const VrCliGlobals *globals, GError **error)
{
    const VrCliCommand *command = vr_cli_args_command(args);

    if (globals->version) {
        print_version(self);
        return TRUE;
    }
    if (globals->help && command) {
        vr_cli_help_command(self, command);
        return TRUE;
    }
    if (globals->help) {
        vr_cli_help_all(self);
        return TRUE;
    }
    if (command)
        return command->run(self, args, error);
    if (self->in) {
        self->exit_status = vr_cli_shell(self);
        return TRUE;
    }
    vr_set_error(error, VR_ERROR_INVALID, "usage",
                 "Run 'virt-replica help' for the list of commands.", "no command was given");
    return FALSE;
}

/* What was printed counts only once it has arrived. */
static int
finish(VrCli *self, int status)
{
    gboolean failed = ferror(self->out) != 0;

    errno = EIO;
    if (fflush(self->out) != 0)
        failed = TRUE;
    if (!failed)
        return status;
    fprintf(self->err, "error: cannot write to standard output: %s\n", g_strerror(errno));
    return status ? status : 1;
}

int
vr_cli_run_words(const VrCli *base, char **argv, FILE *in)
{
    VrCli self = {.in = in, .out = base->out, .err = base->err, .terminal = base->terminal};
    g_auto(VrCliGlobals) globals = {0};
    g_autoptr(GError) error = NULL;
    g_autoptr(VrCliArgs) args = vr_cli_args_parse(argv, &globals, &error);
    int status = 0;

    self.quiet = base->quiet || globals.quiet;
    self.json = base->json || vr_cli_args_want_json(argv);
    self.socket = g_strdup(globals.socket ?: base->socket);
    if (args && run_command(&self, args, &globals, &error))
        status = self.exit_status;
    if (error)
        status = report(&self, error);
    status = finish(&self, status);
    g_clear_pointer(&self.client, vr_cli_client_free);
    g_free(self.socket);
    return status;
}

int
vr_cli_run(char **argv, const char *environ_socket, FILE *in, FILE *out, FILE *err,
           gboolean terminal)
{
    gboolean from_environ = environ_socket && *environ_socket;
    g_autofree char *socket = g_strdup(from_environ ? environ_socket : DEFAULT_SOCKET);
    const VrCli base = {.out = out, .err = err, .terminal = terminal, .socket = socket};

    return vr_cli_run_words(&base, argv, in);
}

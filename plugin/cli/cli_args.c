/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_args.h"

#include "plugin/cli/cli_command.h"
#include "plugin/cli/cli_format.h"
#include "policies/did_you_mean.h"
#include "policies/ids.h"
#include "policies/network_map.h"
#include "policies/units.h"

#include <string.h>

#define NAME_MAX_BYTES 255
#define NAME_SHOWN 64

struct VrCliArgs {
    const VrCliCommand *command;
    GHashTable *values; /* owned: name (borrowed from the table) -> GPtrArray of owned strings */
};

typedef struct {
    char **argv;  /* borrowed */
    gsize at;     /* next word */
    gboolean end; /* "--" was seen */
    VrCliArgs *args;
    GPtrArray *words; /* positional, borrowed from argv */
    VrCliGlobals *globals;
} Parser;

static const VrCliParam global_params[] = {
    {"connect", VR_CLI_FILE, NULL, FALSE, FALSE}, {"quiet", VR_CLI_FLAG, NULL, FALSE, FALSE},
    {"json", VR_CLI_FLAG, NULL, FALSE, FALSE},    {"version", VR_CLI_FLAG, NULL, FALSE, FALSE},
    {"help", VR_CLI_FLAG, NULL, FALSE, FALSE},    {NULL, VR_CLI_FLAG, NULL, FALSE, FALSE},
};

static const struct {
    char letter;
    const char *name;
} letters[] = {{'c', "connect"}, {'q', "quiet"}, {'v', "version"}, {'h', "help"}};

G_GNUC_PRINTF(3, 4)
static void
set_usage(GError **error, const VrCliCommand *command, const char *format, ...)
{
    g_autofree char *action = g_strdup_printf("Run 'virt-replica help%s%s'.", command ? " " : "",
                                              command ? command->name : "");
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    vr_set_error(error, VR_ERROR_INVALID, "usage", action, "%s", message);
}

/* Known words of the field that do nothing here yet: another command would be a dangerous guess. */
static const char *const later_commands[] = {"test-failover",   "test-list",    "test-cleanup",
                                             "failover-cancel", "commit",       "reverse",
                                             "failback",        "resolve",      "orphan-list",
                                             "orphan-export",   "orphan-drop",  "plan-define",
                                             "plan-list",       "plan-dump",    "plan-check",
                                             "plan-run",        "plan-ack",     "plan-cancel",
                                             "plan-commit",     "plan-cleanup", "plan-report",
                                             "plan-undefine",   "resync",       "disk-exclude",
                                             "disk-include",    "policy-set",   "rp-pin",
                                             "rp-unpin",        "rp-export",    "event",
                                             "explain",         "doctor",       NULL};
static const char *const later_options[] = {"unplanned", "azure", "rehearse", NULL};

static void
set_unknown_command(GError **error, const char *word)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    gsize count = 0;
    const VrCliCommand *commands = vr_cli_commands(&count);
    const char *match = NULL;
    g_autofree char *action = NULL;

    for (gsize i = 0; i < count; i++)
        g_ptr_array_add(names, (gpointer) commands[i].name);
    g_ptr_array_add(names, NULL);
    if (g_strv_contains(later_commands, word)) {
        vr_set_error(error, VR_ERROR_INVALID, "usage",
                     "Run 'virt-replica help' for the list of commands.",
                     "command '%s' is not in this version", word);
        return;
    }
    match = vr_did_you_mean(word, (const char *const *) names->pdata);
    action = match ? g_strdup_printf("Did you mean '%s'?", match)
                   : g_strdup("Run 'virt-replica help' for the list of commands.");
    vr_set_error(error, VR_ERROR_INVALID, "usage", action, "unknown command '%s'", word);
}

static void
add_names(GPtrArray *names, const VrCliParam *params)
{
    for (; params->name; params++)
        g_ptr_array_add(names, (gpointer) params->name);
}

static void
set_unknown_option(GError **error, const VrCliCommand *command, const char *name)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *match = NULL;
    g_autofree char *action = NULL;

    if (command && g_strv_contains(later_options, name)) {
        action = g_strdup_printf("Run 'virt-replica help %s'.", command->name);
        vr_set_error(error, VR_ERROR_INVALID, "usage", action,
                     "option '--%s' of command '%s' is not in this version", name, command->name);
        return;
    }
    if (command) {
        add_names(names, command->args);
        add_names(names, command->options);
    }
    add_names(names, global_params);
    g_ptr_array_add(names, NULL);
    match = vr_did_you_mean(name, (const char *const *) names->pdata);
    action = match     ? g_strdup_printf("Did you mean '--%s'?", match)
             : command ? g_strdup_printf("Run 'virt-replica help %s'.", command->name)
                       : g_strdup("Run 'virt-replica help'.");
    if (command)
        vr_set_error(error, VR_ERROR_INVALID, "usage", action,
                     "unknown option '--%s' of command '%s'", name, command->name);
    else
        vr_set_error(error, VR_ERROR_INVALID, "usage", action, "unknown option '--%s'", name);
}

static const VrCliParam *
find_param(const VrCliParam *params, const char *name)
{
    for (; params->name; params++) {
        if (g_str_equal(params->name, name))
            return params;
    }
    return NULL;
}

/* What a domain, a peer, a store or a policy is named. Others cannot be asked for either: they
 * would be more than one part of a request's path. */
static gboolean
can_be_name(const char *value)
{
    if (strlen(value) > NAME_MAX_BYTES || g_str_equal(value, ".") || g_str_equal(value, "..") ||
        strchr(value, '/'))
        return FALSE;
    for (const char *c = value; *c; c++) {
        if (g_ascii_iscntrl(*c))
            return FALSE;
    }
    return TRUE;
}

static gboolean
is_object(VrCliType type)
{
    return type == VR_CLI_DOMAIN || type == VR_CLI_PEER || type == VR_CLI_STORE ||
           type == VR_CLI_POLICY;
}

static gboolean
check_name(const VrCliParam *param, const char *value, GError **error)
{
    g_autofree char *shown = NULL;
    g_autofree char *slug = NULL;

    if (can_be_name(value))
        return TRUE;
    shown = vr_display_name(value, NAME_SHOWN);
    slug = g_strdup_printf("no-such-%s", vr_cli_type_name(param->type));
    vr_set_error(error, VR_ERROR_NOT_FOUND, slug,
                 "Names have 255 bytes at most, no '/' and no control characters.",
                 "there is no %s '%s'", vr_cli_type_name(param->type), shown);
    return FALSE;
}

/* What a value of that type looks like, or NULL if @value does. */
static const char *
what_is_wrong(VrCliType type, const char *value)
{
    guint64 number = 0;
    gint64 seconds = 0;

    if (type == VR_CLI_NUMBER &&
        !g_ascii_string_to_unsigned(value, 10, 1, G_MAXINT64, &number, NULL))
        return "a whole number from 1";
    if (type == VR_CLI_DURATION && !vr_cli_parse_duration(value, &seconds))
        return "a time such as 90s, 5min, 1h or 2d";
    if (type == VR_CLI_SIZE && !vr_size_parse(value, &number, NULL))
        return "a size such as 500GiB or 2TiB";
    return NULL;
}

static gboolean
check_value(const VrCliCommand *command, const VrCliParam *param, const char *value, GError **error)
{
    const char *expected = what_is_wrong(param->type, value);
    g_auto(GStrv) networks = NULL;

    if (!*value) {
        set_usage(error, command, "the value of '%s' is empty", param->name);
        return FALSE;
    }
    if (is_object(param->type))
        return check_name(param, value, error);
    if (param->type == VR_CLI_NETWORKS) {
        networks = vr_network_list_parse(value, error);
        return networks != NULL;
    }
    if (!expected)
        return TRUE;
    set_usage(error, command, "'%s' of '%s' is not %s", value, param->name, expected);
    return FALSE;
}

static gboolean
add_value(VrCliArgs *self, const VrCliParam *param, const char *value, GError **error)
{
    GPtrArray *list = g_hash_table_lookup(self->values, param->name);

    if (list && !param->repeatable) {
        set_usage(error, self->command, "'%s' is given twice", param->name);
        return FALSE;
    }
    if (!list) {
        list = g_ptr_array_new_with_free_func(g_free);
        g_hash_table_insert(self->values, (gpointer) param->name, list);
    }
    /* libvirt writes UUIDs in lower case; people copy them in any */
    g_ptr_array_add(list, param->type == VR_CLI_DOMAIN && g_uuid_string_is_valid(value)
                              ? g_ascii_strdown(value, -1)
                              : g_strdup(value));
    return TRUE;
}

static void
set_global(VrCliGlobals *globals, const char *name, const char *value)
{
    if (g_str_equal(name, "connect")) {
        g_free(globals->socket);
        globals->socket = g_strdup(value);
    }
    globals->quiet |= g_str_equal(name, "quiet");
    globals->version |= g_str_equal(name, "version");
    globals->help |= g_str_equal(name, "help");
}

/* Takes the value of an option: what follows '=' or the next word, which must not look like an
 * option itself: a forgotten value is likelier than a value that starts with two dashes. */
static const char *
take_value(Parser *parser, const VrCliParam *param, const char *joined, GError **error)
{
    const VrCliCommand *command = parser->args->command;
    const char *next = parser->argv[parser->at];

    if (param->type == VR_CLI_FLAG) {
        if (!joined)
            return "";
        set_usage(error, command, "option '--%s' takes no value", param->name);
        return NULL;
    }
    if (!joined && (!next || g_str_has_prefix(next, "--"))) {
        set_usage(error, command, "option '--%s' needs a value", param->name);
        return NULL;
    }
    if (!joined)
        parser->at++;
    if (!check_value(command, param, joined ? joined : next, error))
        return NULL;
    return joined ? joined : next;
}

static gboolean
parse_option(Parser *parser, const char *name, const char *joined, GError **error)
{
    const VrCliCommand *command = parser->args->command;
    const VrCliParam *param = find_param(global_params, name);
    gboolean global = param != NULL;
    const char *value = NULL;

    if (!param && command)
        param = find_param(command->args, name);
    if (!param && command)
        param = find_param(command->options, name);
    if (!param) {
        set_unknown_option(error, command, name);
        return FALSE;
    }
    value = take_value(parser, param, joined, error);
    if (!value)
        return FALSE;
    if (global) {
        set_global(parser->globals, name, value);
        return TRUE;
    }
    return add_value(parser->args, param, value, error);
}

static gboolean
parse_letter(Parser *parser, const char *word, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(letters); i++) {
        if (word[1] == letters[i].letter && !word[2])
            return parse_option(parser, letters[i].name, NULL, error);
    }
    set_usage(error, parser->args->command, "unknown option '%s'", word);
    return FALSE;
}

static gboolean
parse_word(Parser *parser, const char *word, GError **error)
{
    if (!parser->end && g_str_equal(word, "--")) {
        parser->end = TRUE;
        return TRUE;
    }
    if (!parser->end && g_str_has_prefix(word, "--")) {
        const char *equals = strchr(word, '=');
        g_autofree char *name =
            equals ? g_strndup(word + 2, (gsize) (equals - word - 2)) : g_strdup(word + 2);

        return parse_option(parser, name, equals ? equals + 1 : NULL, error);
    }
    if (!parser->end && word[0] == '-' && word[1])
        return parse_letter(parser, word, error);
    if (parser->args->command) {
        g_ptr_array_add(parser->words, (gpointer) word);
        return TRUE;
    }
    parser->args->command = vr_cli_command_find(word);
    if (!parser->args->command)
        set_unknown_command(error, word);
    return parser->args->command != NULL;
}

/* Words without a name fill, in order, the arguments that were not given by name. */
static gboolean
assign_words(Parser *parser, GError **error)
{
    const VrCliCommand *command = parser->args->command;
    const VrCliParam *param = command->args;

    for (guint i = 0; i < parser->words->len; i++) {
        const char *word = g_ptr_array_index(parser->words, i);

        while (param->name && g_hash_table_contains(parser->args->values, param->name))
            param++;
        if (!param->name) {
            set_usage(error, command, "unexpected argument '%s' of command '%s'", word,
                      command->name);
            return FALSE;
        }
        if (!check_value(command, param, word, error) ||
            !add_value(parser->args, param, word, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
check_required(const VrCliArgs *self, GError **error)
{
    const VrCliCommand *command = self->command;

    for (const VrCliParam *param = command->args; param->name; param++) {
        if (param->required && !g_hash_table_contains(self->values, param->name)) {
            set_usage(error, command, "command '%s' needs <%s>", command->name, param->name);
            return FALSE;
        }
    }
    for (const VrCliParam *param = command->options; param->name; param++) {
        if (param->required && !g_hash_table_contains(self->values, param->name)) {
            set_usage(error, command, "command '%s' needs option '--%s'", command->name,
                      param->name);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean
vr_cli_args_want_json(char **argv)
{
    for (gsize i = 1; argv[0] && argv[i] && !g_str_equal(argv[i], "--"); i++) {
        if (g_str_equal(argv[i], "--json"))
            return TRUE;
    }
    return FALSE;
}

VrCliArgs *
vr_cli_args_parse(char **argv, VrCliGlobals *ret_globals, GError **error)
{
    g_autoptr(VrCliArgs) self = g_new0(VrCliArgs, 1);
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    Parser parser = {.argv = argv, .at = 1, .args = self, .words = words, .globals = ret_globals};

    memset(ret_globals, 0, sizeof *ret_globals);
    self->values =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) g_ptr_array_unref);
    while (argv[0] && argv[parser.at]) {
        const char *word = argv[parser.at++];

        if (!g_utf8_validate(word, -1, NULL)) {
            set_usage(error, self->command, "argument %u is not UTF-8 text", (guint) parser.at - 1);
            return NULL;
        }
        if (!parse_word(&parser, word, error))
            return NULL;
    }
    if (!self->command || ret_globals->help || ret_globals->version)
        return g_steal_pointer(&self);
    if (!assign_words(&parser, error) || !check_required(self, error))
        return NULL;
    return g_steal_pointer(&self);
}

void
vr_cli_args_free(VrCliArgs *self)
{
    if (!self)
        return;
    g_clear_pointer(&self->values, g_hash_table_unref);
    g_free(self);
}

void
vr_cli_globals_clear(VrCliGlobals *globals)
{
    g_clear_pointer(&globals->socket, g_free);
}

const VrCliCommand *
vr_cli_args_command(const VrCliArgs *self)
{
    return self->command;
}

const GPtrArray *
vr_cli_args_list(const VrCliArgs *self, const char *name)
{
    g_return_val_if_fail(
        find_param(self->command->args, name) || find_param(self->command->options, name), NULL);
    return g_hash_table_lookup(self->values, name);
}

const char *
vr_cli_args_text(const VrCliArgs *self, const char *name)
{
    const GPtrArray *list = vr_cli_args_list(self, name);

    return list ? g_ptr_array_index(list, list->len - 1) : NULL;
}

gboolean
vr_cli_args_flag(const VrCliArgs *self, const char *name)
{
    return vr_cli_args_list(self, name) != NULL;
}

gint64
vr_cli_args_number(const VrCliArgs *self, const char *name)
{
    const char *text = vr_cli_args_text(self, name);

    return text ? g_ascii_strtoll(text, NULL, 10) : 0;
}

gint64
vr_cli_args_seconds(const VrCliArgs *self, const char *name)
{
    const char *text = vr_cli_args_text(self, name);
    gint64 seconds = -1;

    if (text)
        (void) vr_cli_parse_duration(text, &seconds);
    return seconds;
}

guint64
vr_cli_args_bytes(const VrCliArgs *self, const char *name)
{
    const char *text = vr_cli_args_text(self, name);
    guint64 bytes = 0;

    if (text)
        (void) vr_size_parse(text, &bytes, NULL);
    return bytes;
}

char **
vr_cli_args_networks(const VrCliArgs *self, const char *name)
{
    const char *text = vr_cli_args_text(self, name);

    return text ? vr_network_list_parse(text, NULL) : NULL;
}

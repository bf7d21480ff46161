/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_help.h"

#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_json.h"

static const char usage[] =
    "virt-replica [-c SOCKET] [-q] [--json] COMMAND [ARGUMENTS] [--option VALUE]...\n"
    "virt-replica [-c SOCKET] [-q] [--json]      reads commands, lines or with ';', until 'quit'\n"
    "\n"
    "  -c | --connect <path>  the daemon's socket\n"
    "  -q | --quiet           no headings, no sentences of success\n"
    "       --json            one JSON value on standard output\n"
    "  -v | --version         print the version\n"
    "  -h | --help            explain the command\n"
    "\n"
    "Exit status: 0 done; 1 failed; 2 usage; 3 timed out or interrupted while waiting (the job\n"
    "goes on); 4 no such domain, recovery point, peer, policy, store or job; 5 refused by a state\n"
    "or safety rule; 6 the daemon cannot be reached; 7 not permitted.\n";

static void
print_group(VrCli *cli, const VrCliGroup *group)
{
    gsize count = 0;
    const VrCliCommand *commands = vr_cli_commands(&count);

    fprintf(cli->out, "\n %s (help keyword '%s'):\n", group->title, group->keyword);
    for (gsize i = 0; i < count; i++) {
        if (g_str_equal(commands[i].group, group->keyword))
            fprintf(cli->out, "    %-18s %s\n", commands[i].name, commands[i].help);
    }
}

static JsonArray *
params_to_json(const VrCliParam *params)
{
    JsonArray *array = json_array_new();

    for (; params->name; params++) {
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", params->name);
        json_object_set_string_member(
            object, "type", params->type == VR_CLI_FLAG ? "flag" : vr_cli_type_name(params->type));
        json_object_set_boolean_member(object, "required", params->required);
        json_object_set_boolean_member(object, "repeatable", params->repeatable);
        json_object_set_string_member(object, "help", params->help);
        json_array_add_object_element(array, object);
    }
    return array;
}

static JsonObject *
command_to_json(const VrCliCommand *command)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "name", command->name);
    json_object_set_string_member(object, "group", command->group);
    json_object_set_string_member(object, "help", command->help);
    json_object_set_array_member(object, "args", params_to_json(command->args));
    json_object_set_array_member(object, "options", params_to_json(command->options));
    return object;
}

/* The commands of @group, or with NULL all of them. */
static void
print_json(VrCli *cli, const VrCliGroup *group)
{
    gsize count = 0;
    const VrCliCommand *commands = vr_cli_commands(&count);
    JsonArray *array = json_array_new();
    g_autoptr(JsonNode) node = json_node_alloc();

    for (gsize i = 0; i < count; i++) {
        if (!group || g_str_equal(commands[i].group, group->keyword))
            json_array_add_object_element(array, command_to_json(&commands[i]));
    }
    json_node_init_array(node, array);
    json_array_unref(array);
    vr_cli_json_print(cli->out, node);
}

void
vr_cli_help_all(VrCli *cli)
{
    gsize count = 0;
    const VrCliGroup *groups = vr_cli_groups(&count);

    if (cli->json) {
        print_json(cli, NULL);
        return;
    }
    fputs(usage, cli->out);
    for (gsize i = 0; i < count; i++)
        print_group(cli, &groups[i]);
    fputc('\n', cli->out);
}

static void
print_synopsis(VrCli *cli, const VrCliCommand *command)
{
    fprintf(cli->out, "    %s", command->name);
    for (const VrCliParam *arg = command->args; arg->name; arg++)
        fprintf(cli->out, arg->required ? " <%s>" : " [<%s>]", arg->name);
    for (const VrCliParam *option = command->options; option->name; option++) {
        gboolean flag = option->type == VR_CLI_FLAG;
        g_autofree char *value =
            flag ? g_strdup("") : g_strdup_printf(" <%s>", vr_cli_type_name(option->type));

        fprintf(cli->out, option->required ? " --%s%s" : " [--%s%s]", option->name, value);
        if (option->repeatable)
            fputs("...", cli->out);
    }
    fputc('\n', cli->out);
}

static void
print_param(VrCli *cli, const VrCliParam *param, gboolean positional)
{
    GString *label = g_string_new(NULL);

    g_string_append_printf(label, positional ? "[--%s]" : "--%s", param->name);
    if (param->type != VR_CLI_FLAG)
        g_string_append_printf(label, " <%s>", vr_cli_type_name(param->type));
    fprintf(cli->out, "    %-28s %s\n", label->str, param->help);
    g_string_free(label, TRUE);
}

void
vr_cli_help_command(VrCli *cli, const VrCliCommand *command)
{
    if (cli->json) {
        g_autoptr(JsonNode) node = vr_cli_json_node(command_to_json(command));

        vr_cli_json_print(cli->out, node);
        return;
    }
    fprintf(cli->out, "  NAME\n    %s - %s\n\n  SYNOPSIS\n", command->name, command->help);
    print_synopsis(cli, command);
    if (command->args->name || command->options->name)
        fputs("\n  OPTIONS\n", cli->out);
    for (const VrCliParam *arg = command->args; arg->name; arg++)
        print_param(cli, arg, TRUE);
    for (const VrCliParam *option = command->options; option->name; option++)
        print_param(cli, option, FALSE);
    fputc('\n', cli->out);
}

static void
set_unknown(GError **error, const char *word)
{
    vr_set_error(error, VR_ERROR_INVALID, "usage", "Run 'virt-replica help' for the list.",
                 "there is no command or group '%s'", word);
}

gboolean
vr_cli_help(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *word = vr_cli_args_text(args, "command");
    const VrCliCommand *command = word ? vr_cli_command_find(word) : NULL;
    const VrCliGroup *group = word && !command ? vr_cli_group_find(word) : NULL;

    if (!word) {
        vr_cli_help_all(cli);
    } else if (command) {
        vr_cli_help_command(cli, command);
    } else if (!group) {
        set_unknown(error, word);
        return FALSE;
    } else if (cli->json) {
        print_json(cli, group);
    } else {
        print_group(cli, group);
        fputc('\n', cli->out);
    }
    return TRUE;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_input.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_table.h"
#include "policies/display.h"
#include "policies/ids.h"
#include "policies/units.h"

#define POLICY_MAX (64 * 1024)
#define SUFFIX ".conf"

/* "30s"; NULL for what is no number of seconds. */
static char *
duration_text(JsonObject *object, const char *key)
{
    double seconds = 0;

    if (!vr_cli_json_number(object, key, &seconds) || seconds < 0 || seconds > 1e11)
        return NULL;
    return vr_duration_format((gint64) (seconds * G_USEC_PER_SEC));
}

gboolean
vr_cli_policy_list(VrCli *cli, const VrCliArgs *args G_GNUC_UNUSED, GError **error)
{
    g_autofree char *path = vr_cli_path("policies", NULL);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) policies = NULL;
    g_autoptr(VrCliTable) table = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    policies = vr_cli_json_objects(answer);
    table = vr_cli_table_new("Name", "Interval", "RPO target", "Built in", NULL);
    for (guint i = 0; i < policies->len; i++) {
        JsonObject *policy = g_ptr_array_index(policies, i);

        vr_cli_table_take(table, vr_cli_json_text(policy, "name"));
        vr_cli_table_take(table, duration_text(policy, "interval_seconds"));
        vr_cli_table_take(table, duration_text(policy, "rpo_target_seconds"));
        vr_cli_table_take(table, vr_cli_json_text(policy, "builtin"));
    }
    vr_cli_table_print(table, cli->out, cli->quiet);
    return TRUE;
}

static char *
policy_name(const char *file, GError **error)
{
    g_autofree char *name = g_path_get_basename(file);

    if (g_str_has_suffix(name, SUFFIX))
        name[strlen(name) - strlen(SUFFIX)] = '\0';
    if (vr_name_valid(name))
        return g_steal_pointer(&name);
    vr_set_error(error, VR_ERROR_INVALID, "bad-name",
                 "Name the file as the policy is to be called, such as gold.conf.",
                 "'%s' cannot be the name of a policy", name);
    return NULL;
}

gboolean
vr_cli_policy_define(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *file = vr_cli_args_text(args, "file");
    g_autofree char *name = policy_name(file, error);
    g_autofree char *text = name ? vr_cli_read_file(file, POLICY_MAX, error) : NULL;
    g_autofree char *path = NULL;
    JsonObject *body = NULL;

    if (!text)
        return FALSE;
    path = vr_cli_path("policies", name, NULL);
    body = json_object_new();
    json_object_set_string_member(body, "text", text);
    json_object_set_string_member(body, "file", file);
    if (!vr_cli_do(cli, "PUT", path, body, error))
        return FALSE;
    vr_cli_say(cli, "Policy '%s' defined from %s", name, file);
    return TRUE;
}

gboolean
vr_cli_policy_dump(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = vr_cli_path("policies", vr_cli_args_text(args, "name"), NULL);
    g_autoptr(JsonNode) answer = NULL;
    g_autofree char *shown = NULL;
    const char *text = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    text = vr_cli_json_string(vr_cli_json_object(answer), "text");
    shown = vr_display_lines(text ? text : "");
    fputs(shown, cli->out);
    return TRUE;
}

gboolean
vr_cli_policy_undefine(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *name = vr_cli_args_text(args, "name");
    g_autofree char *path = vr_cli_path("policies", name, NULL);

    if (!vr_cli_do(cli, "DELETE", path, NULL, error))
        return FALSE;
    vr_cli_say(cli, "Policy '%s' undefined", name);
    return TRUE;
}

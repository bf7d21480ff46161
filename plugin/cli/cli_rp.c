/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_table.h"

#define ROOT_SHOWN 16

gboolean
vr_cli_rp_list(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path =
        vr_cli_path("protections", vr_cli_args_text(args, "domain"), "recovery-points", NULL);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) points = NULL;
    g_autoptr(VrCliTable) table = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    points = vr_cli_json_objects(answer);
    table = vr_cli_table_new("Number", "Time", "Consistency", "Size", "Pinned", "Verified",
                             "Damaged", "Root", NULL);
    for (guint i = 0; i < points->len; i++) {
        JsonObject *rp = g_ptr_array_index(points, i);

        vr_cli_table_take(table, vr_cli_json_text(rp, "number"));
        vr_cli_table_take(table, vr_cli_json_time(rp, "time"));
        vr_cli_table_take(table, vr_cli_json_text(rp, "consistency"));
        vr_cli_table_take(table, vr_cli_json_size(rp, "bytes"));
        vr_cli_table_take(table, vr_cli_json_text(rp, "pinned"));
        vr_cli_table_take(table, vr_cli_json_time(rp, "verified"));
        vr_cli_table_take(table, vr_cli_json_text(rp, "damaged"));
        vr_cli_table_take(table, g_strndup(vr_cli_json_string(rp, "root"), ROOT_SHOWN));
    }
    vr_cli_table_print(table, cli->out, cli->quiet);
    return TRUE;
}

gboolean
vr_cli_rp_info(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *number =
        g_strdup_printf("%" G_GINT64_FORMAT, vr_cli_args_number(args, "number"));
    g_autofree char *path = vr_cli_path("protections", vr_cli_args_text(args, "domain"),
                                        "recovery-points", number, NULL);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *rp = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    rp = vr_cli_json_object(answer);
    vr_cli_take_pair(cli->out, "Number", vr_cli_json_text(rp, "number"));
    vr_cli_take_pair(cli->out, "Time", vr_cli_json_time(rp, "time"));
    vr_cli_take_pair(cli->out, "Consistency", vr_cli_json_text(rp, "consistency"));
    vr_cli_take_pair(cli->out, "Size", vr_cli_json_size(rp, "bytes"));
    vr_cli_take_pair(cli->out, "Pinned", vr_cli_json_text(rp, "pinned"));
    vr_cli_take_pair(cli->out, "Verified", vr_cli_json_time(rp, "verified"));
    vr_cli_take_pair(cli->out, "Damaged", vr_cli_json_text(rp, "damaged"));
    vr_cli_take_pair(cli->out, "Root", vr_cli_json_text(rp, "root"));
    return TRUE;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_table.h"

gboolean
vr_cli_netmap_list(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path =
        vr_cli_query(vr_cli_path("netmaps", NULL), "peer", vr_cli_args_text(args, "peer"));
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) maps = NULL;
    g_autoptr(VrCliTable) table = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    maps = vr_cli_json_objects(answer);
    table = vr_cli_table_new("Peer", "Source network", "Target network", "Test network", NULL);
    for (guint i = 0; i < maps->len; i++) {
        JsonObject *map = g_ptr_array_index(maps, i);

        vr_cli_table_take(table, vr_cli_json_text(map, "peer"));
        vr_cli_table_take(table, vr_cli_json_text(map, "source"));
        vr_cli_table_take(table, vr_cli_json_text(map, "target"));
        vr_cli_table_take(table, vr_cli_json_text(map, "test"));
    }
    vr_cli_table_print(table, cli->out, cli->quiet);
    return TRUE;
}

gboolean
vr_cli_netmap_set(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *peer = vr_cli_args_text(args, "peer");
    const char *source = vr_cli_args_text(args, "source-net");
    const char *target = vr_cli_args_text(args, "target-net");
    g_autofree char *path = vr_cli_path("netmaps", NULL);
    JsonObject *body = json_object_new();
    g_autoptr(JsonNode) answer = NULL;

    json_object_set_string_member(body, "peer", peer);
    json_object_set_string_member(body, "source", source);
    json_object_set_string_member(body, "target", target);
    vr_cli_json_set(body, "test", vr_cli_args_text(args, "test"));
    if (!vr_cli_request(cli, "PUT", path, body, &answer, error))
        return FALSE;
    if (cli->json)
        vr_cli_json_print(cli->out, answer);
    vr_cli_warn(cli, vr_cli_json_object(answer));
    vr_cli_say(cli, "Network '%s' becomes '%s' on '%s'", source, target, peer);
    return TRUE;
}

gboolean
vr_cli_netmap_unset(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *peer = vr_cli_args_text(args, "peer");
    const char *source = vr_cli_args_text(args, "source-net");
    g_autofree char *path = vr_cli_query(vr_cli_path("netmaps", NULL), "peer", peer);

    path = vr_cli_query(g_steal_pointer(&path), "source", source);
    if (!vr_cli_do(cli, "DELETE", path, NULL, error))
        return FALSE;
    vr_cli_say(cli, "Network '%s' is no longer mapped on '%s'", source, peer);
    return TRUE;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_format.h"
#include "plugin/cli/cli_input.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_table.h"

#define TOKEN_MAX 8192
#define FINGERPRINT_SHOWN 16

gboolean
vr_cli_peer_invite(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = vr_cli_path("peers", "invite", NULL);
    JsonObject *body = json_object_new();
    gint64 expires = vr_cli_args_seconds(args, "expires");
    g_autoptr(JsonNode) answer = NULL;
    g_autofree char *token = NULL;
    g_autofree char *until = NULL;

    vr_cli_json_set(body, "name", vr_cli_args_text(args, "name"));
    if (expires >= 0)
        json_object_set_int_member(body, "expires_seconds", expires);
    if (!vr_cli_request(cli, "POST", path, body, &answer, error))
        return FALSE;
    if (cli->json) {
        vr_cli_json_print(cli->out, answer);
        return TRUE;
    }
    token = vr_cli_escape(vr_cli_json_string(vr_cli_json_object(answer), "token") ?: "");
    until = vr_cli_json_time(vr_cli_json_object(answer), "expires");
    fprintf(cli->out, "%s\n", token);
    if (!cli->quiet)
        fprintf(cli->err, "On the other host: virt-replica peer-join TOKEN (once, until %s)\n",
                until ? until : "-");
    return TRUE;
}

static char *
read_token(const VrCliArgs *args, GError **error)
{
    const char *token = vr_cli_args_text(args, "token");
    const char *file = vr_cli_args_text(args, "token-file");
    char *text = NULL;

    if (!token == !file) {
        vr_set_error(error, VR_ERROR_INVALID, "usage", "Run 'virt-replica help peer-join'.",
                     "command 'peer-join' needs <token> or option '--token-file', and not both");
        return NULL;
    }
    if (token && !g_str_equal(token, "-"))
        return g_strdup(token);
    text = vr_cli_read_file(file ? file : "-", TOKEN_MAX, error);
    return text ? g_strstrip(text) : NULL;
}

gboolean
vr_cli_peer_join(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = vr_cli_path("peers", "join", NULL);
    g_autofree char *token = read_token(args, error);
    JsonObject *body = NULL;
    g_autoptr(JsonNode) answer = NULL;
    g_autofree char *name = NULL;

    if (!token)
        return FALSE;
    body = json_object_new();
    json_object_set_string_member(body, "token", token);
    vr_cli_json_set(body, "name", vr_cli_args_text(args, "name"));
    if (!vr_cli_request(cli, "POST", path, body, &answer, error))
        return FALSE;
    if (cli->json)
        vr_cli_json_print(cli->out, answer);
    name = vr_cli_json_text(vr_cli_json_object(answer), "name");
    vr_cli_say(cli, "Paired with '%s'", name ? name : "-");
    return TRUE;
}

gboolean
vr_cli_peer_list(VrCli *cli, const VrCliArgs *args G_GNUC_UNUSED, GError **error)
{
    g_autofree char *path = vr_cli_path("peers", NULL);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) peers = NULL;
    g_autoptr(VrCliTable) table = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    peers = vr_cli_json_objects(answer);
    table = vr_cli_table_new("Name", "Address", "Reachable", "Last seen", "Fingerprint", NULL);
    for (guint i = 0; i < peers->len; i++) {
        JsonObject *peer = g_ptr_array_index(peers, i);
        const char *fingerprint = vr_cli_json_string(peer, "fingerprint");

        vr_cli_table_take(table, vr_cli_json_text(peer, "name"));
        vr_cli_table_take(table, vr_cli_json_text(peer, "address"));
        vr_cli_table_take(table, vr_cli_json_text(peer, "reachable"));
        vr_cli_table_take(table, vr_cli_json_time(peer, "last_seen"));
        vr_cli_table_take(table, g_strndup(fingerprint, FINGERPRINT_SHOWN));
    }
    vr_cli_table_print(table, cli->out, cli->quiet);
    return TRUE;
}

gboolean
vr_cli_peer_info(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = vr_cli_path("peers", vr_cli_args_text(args, "peer"), NULL);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *peer = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    peer = vr_cli_json_object(answer);
    vr_cli_take_pair(cli->out, "Name", vr_cli_json_text(peer, "name"));
    vr_cli_take_pair(cli->out, "Address", vr_cli_json_text(peer, "address"));
    vr_cli_take_pair(cli->out, "Fingerprint", vr_cli_json_text(peer, "fingerprint"));
    vr_cli_take_pair(cli->out, "Reachable", vr_cli_json_text(peer, "reachable"));
    vr_cli_take_pair(cli->out, "Last seen", vr_cli_json_time(peer, "last_seen"));
    return TRUE;
}

gboolean
vr_cli_peer_remove(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *peer = vr_cli_args_text(args, "peer");
    g_autofree char *path = vr_cli_path("peers", peer, NULL);

    if (!vr_cli_do(cli, "DELETE", path, NULL, error))
        return FALSE;
    vr_cli_say(cli, "Peer '%s' removed", peer);
    return TRUE;
}

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_format.h"
#include "plugin/cli/cli_input.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_table.h"
#include "plugin/cli/cli_wait.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "policies/network_map.h"
#include "policies/units.h"

#define TOKEN_MAX 8192
#define FINGERPRINT_SHOWN 16

static void
set_networks(JsonObject *body, const VrCliArgs *args)
{
    g_auto(GStrv) names = vr_cli_args_networks(args, "networks");
    JsonArray *array;

    if (!names)
        return;
    array = json_array_new();
    for (char **name = names; *name; name++)
        json_array_add_string_element(array, *name);
    json_object_set_array_member(body, "networks", array);
}

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
    set_networks(body, args);
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
    vr_cli_warn(cli, vr_cli_json_object(answer));
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
    set_networks(body, args);
    if (!vr_cli_request(cli, "POST", path, body, &answer, error))
        return FALSE;
    if (cli->json)
        vr_cli_json_print(cli->out, answer);
    vr_cli_warn(cli, vr_cli_json_object(answer));
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

/* The strings behind @key as one list, NULL without any. (transfer full) */
static char *
list_text(JsonObject *object, const char *key)
{
    JsonNode *node = object ? json_object_get_member(object, key) : NULL;
    JsonArray *array = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    for (guint i = 0; array && i < json_array_get_length(array); i++) {
        JsonNode *element = json_array_get_element(array, i);

        if (JSON_NODE_HOLDS_VALUE(element) && json_node_get_string(element))
            g_ptr_array_add(names, (gpointer) json_node_get_string(element));
    }
    if (names->len == 0)
        return NULL;
    g_ptr_array_add(names, NULL);
    return vr_network_list_format((const char *const *) names->pdata);
}

/* "3 of 500". (transfer full) */
static char *
part_text(char *used, char *limit)
{
    char *text = used && limit ? g_strdup_printf("%s of %s", used, limit) : NULL;

    g_free(used);
    g_free(limit);
    return text;
}

static char *
quota_text(JsonObject *peer)
{
    gboolean none = vr_cli_json_int(peer, "quota_bytes", 0) == 0;

    return part_text(vr_cli_json_size(peer, "used_bytes"),
                     none ? g_strdup("no limit") : vr_cli_json_size(peer, "quota_bytes"));
}

static char *
grace_text(JsonObject *peer)
{
    gint64 seconds = vr_cli_json_int(peer, "delete_grace_seconds", -1);

    return seconds < 0 ? NULL : vr_duration_format(seconds * G_USEC_PER_SEC);
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
    vr_cli_take_pair(cli->out, "Networks", list_text(peer, "networks"));
    vr_cli_take_pair(cli->out, "Replicas",
                     part_text(vr_cli_json_text(peer, "protections"),
                               vr_cli_json_text(peer, "max_protections")));
    vr_cli_take_pair(cli->out, "Space", quota_text(peer));
    vr_cli_take_pair(cli->out, "Delete grace", grace_text(peer));
    return TRUE;
}

gboolean
vr_cli_peer_set(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *peer = vr_cli_args_text(args, "peer");
    g_autofree char *path = vr_cli_path("peers", peer, NULL);
    JsonObject *body = json_object_new();
    gint64 grace = vr_cli_args_seconds(args, "delete-grace");
    g_autoptr(JsonNode) answer = NULL;

    set_networks(body, args);
    if (vr_cli_args_text(args, "quota"))
        json_object_set_int_member(body, "quota_bytes", (gint64) vr_cli_args_bytes(args, "quota"));
    if (vr_cli_args_text(args, "max-protections"))
        json_object_set_int_member(body, "max_protections",
                                   vr_cli_args_number(args, "max-protections"));
    if (grace >= 0)
        json_object_set_int_member(body, "delete_grace_seconds", grace);
    if (!vr_cli_request(cli, "PUT", path, body, &answer, error))
        return FALSE;
    if (cli->json)
        vr_cli_json_print(cli->out, answer);
    vr_cli_warn(cli, vr_cli_json_object(answer));
    vr_cli_say(cli, "Peer '%s' set", peer);
    return TRUE;
}

/* Replicas of a host that is gone may be all that is left of its domains. */
static gboolean
holds_no_replica(const GPtrArray *protections, const char *peer, GError **error)
{
    for (guint i = 0; i < protections->len; i++) {
        JsonObject *protection = g_ptr_array_index(protections, i);
        const char *name = vr_cli_json_string(protection, "name");
        g_autofree char *word = NULL;
        g_autofree char *action = NULL;

        if (g_strcmp0(vr_cli_json_string(protection, "peer"), peer) != 0 ||
            g_strcmp0(vr_cli_json_string(protection, "role"), "target") != 0)
            continue;
        word = vr_shell_word(name ? name : "?");
        action = g_strdup_printf(
            "If nobody needs it any more: 'virt-replica unprotect %s --force'.", word);
        vr_set_error(error, VR_ERROR_REFUSED, "replicas-held", action,
                     "this host holds the replica of domain '%s' of peer '%s', which may be all "
                     "that is left of it",
                     name ? name : "?", peer);
        return FALSE;
    }
    return TRUE;
}

static gboolean
end_one(VrCli *cli, const VrCliArgs *args, JsonObject *protection, GError **error)
{
    const char *name = vr_cli_json_string(protection, "name");
    g_autofree char *path =
        vr_cli_path("protections", vr_cli_json_string(protection, "uuid"), "unprotect", NULL);
    g_autoptr(JsonNode) job = NULL;
    JsonObject *body = json_object_new();
    const char *left;

    json_object_set_boolean_member(body, "keep_replica", FALSE);
    json_object_set_boolean_member(body, "force", TRUE);
    if (!vr_cli_start_job(cli, args, path, body, &job, error))
        return FALSE;
    left = vr_cli_json_string(vr_cli_json_member(vr_cli_json_object(job), "result"), "left");
    vr_cli_say(cli, "Domain '%s' is no longer protected%s%s", name, left ? ". Left: " : "",
               left ? left : "");
    return TRUE;
}

/* By force, as the other host will not answer: all that this host protects there. */
static gboolean
end_protections(VrCli *cli, const VrCliArgs *args, const char *peer, GError **error)
{
    g_autofree char *path = vr_cli_query(vr_cli_path("protections", NULL), "all", "1");
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) protections = NULL;

    if (!vr_cli_request(cli, "GET", path, NULL, &answer, error))
        return FALSE;
    protections = vr_cli_json_objects(answer);
    if (!holds_no_replica(protections, peer, error))
        return FALSE;
    for (guint i = 0; i < protections->len; i++) {
        JsonObject *protection = g_ptr_array_index(protections, i);

        if (g_strcmp0(vr_cli_json_string(protection, "peer"), peer) == 0 &&
            !end_one(cli, args, protection, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
vr_cli_peer_remove(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *peer = vr_cli_args_text(args, "peer");
    g_autofree char *path = vr_cli_path("peers", peer, NULL);

    if ((vr_cli_args_flag(args, "force") && !end_protections(cli, args, peer, error)) ||
        !vr_cli_do(cli, "DELETE", path, NULL, error))
        return FALSE;
    vr_cli_say(cli, "Peer '%s' removed", peer);
    return TRUE;
}

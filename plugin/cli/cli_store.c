/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/cli/cli_client.h"
#include "plugin/cli/cli_commands.h"
#include "plugin/cli/cli_json.h"
#include "plugin/cli/cli_table.h"
#include "policies/ids.h"
#include "storage/wire/error_json.h"

gboolean
vr_cli_store_list(VrCli *cli, const VrCliArgs *args G_GNUC_UNUSED, GError **error)
{
    g_autofree char *path = vr_cli_path("stores", NULL);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) stores = NULL;
    g_autoptr(VrCliTable) table = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    stores = vr_cli_json_objects(answer);
    table = vr_cli_table_new("Name", "Protections", "Free", "Size", "Path", NULL);
    for (guint i = 0; i < stores->len; i++) {
        JsonObject *store = g_ptr_array_index(stores, i);

        vr_cli_table_take(table, vr_cli_json_text(store, "name"));
        vr_cli_table_take(table, vr_cli_json_text(store, "protections"));
        vr_cli_table_take(table, vr_cli_json_size(store, "bytes_free"));
        vr_cli_table_take(table, vr_cli_json_size(store, "bytes_total"));
        vr_cli_table_take(table, vr_cli_json_text(store, "path"));
    }
    vr_cli_table_print(table, cli->out, cli->quiet);
    return TRUE;
}

/* The daemon has another working directory than the person who types. */
static char *
absolute(const char *path)
{
    return g_canonicalize_filename(path, NULL);
}

gboolean
vr_cli_store_define(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *name = vr_cli_args_text(args, "name");
    g_autofree char *path = vr_cli_path("stores", name, NULL);
    g_autofree char *directory = absolute(vr_cli_args_text(args, "path"));
    JsonObject *body = NULL;

    if (!vr_name_valid(name)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-store-name",
                     "Use letters, digits, dots and dashes, at most 63.",
                     "'%s' cannot be the name of a store", name);
        return FALSE;
    }
    body = json_object_new();
    json_object_set_string_member(body, "path", directory);
    if (!vr_cli_do(cli, "PUT", path, body, error))
        return FALSE;
    vr_cli_say(cli, "Store '%s' defined in %s", name, directory);
    return TRUE;
}

gboolean
vr_cli_store_info(VrCli *cli, const VrCliArgs *args, GError **error)
{
    g_autofree char *path = vr_cli_path("stores", vr_cli_args_text(args, "name"), NULL);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *store = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    store = vr_cli_json_object(answer);
    vr_cli_take_pair(cli->out, "Name", vr_cli_json_text(store, "name"));
    vr_cli_take_pair(cli->out, "Path", vr_cli_json_text(store, "path"));
    vr_cli_take_pair(cli->out, "Free", vr_cli_json_size(store, "bytes_free"));
    vr_cli_take_pair(cli->out, "Size", vr_cli_json_size(store, "bytes_total"));
    vr_cli_take_pair(cli->out, "Protections", vr_cli_json_text(store, "protections"));
    return TRUE;
}

static gboolean
store_list_found(VrCli *cli, const char *name, GError **error)
{
    g_autofree char *path = vr_cli_path("stores", name, "scan", NULL);
    g_autoptr(JsonNode) answer = NULL;
    g_autoptr(GPtrArray) entries = NULL;
    g_autoptr(VrCliTable) table = NULL;

    if (!vr_cli_fetch(cli, path, &answer, error))
        return FALSE;
    if (!answer)
        return TRUE;
    entries = vr_cli_json_objects(answer);
    table = vr_cli_table_new("UUID", "Name", "State", "Peer", "Points", "Newest", "Size", "Damage",
                             NULL);
    for (guint i = 0; i < entries->len; i++) {
        JsonObject *entry = g_ptr_array_index(entries, i);

        vr_cli_table_take(table, vr_cli_json_text(entry, "uuid"));
        vr_cli_table_take(table, vr_cli_json_text(entry, "name"));
        vr_cli_table_take(table, vr_cli_json_text(entry, "state"));
        vr_cli_table_take(table, vr_cli_json_text(entry, "peer"));
        vr_cli_table_take(table, vr_cli_json_text(entry, "points"));
        vr_cli_table_take(table, vr_cli_json_time(entry, "newest"));
        vr_cli_table_take(table, vr_cli_json_size(entry, "bytes"));
        vr_cli_table_take(table, vr_cli_json_text(entry, "damage"));
    }
    vr_cli_table_print(table, cli->out, cli->quiet);
    return TRUE;
}

static void
say_had_back(VrCli *cli, JsonObject *entry)
{
    g_autofree char *uuid = vr_cli_json_text(entry, "uuid");
    g_autofree char *name = vr_cli_json_text(entry, "name");

    vr_cli_say(cli,
               vr_cli_json_bool(entry, "was_known")
                   ? "The replica of domain '%s' is known already: nothing to adopt"
                   : "Replica of domain '%s' adopted",
               name ? name : uuid);
    if (vr_cli_json_bool(entry, "paused"))
        fprintf(cli->err,
                "warning: domain '%s' was failed over to this host and is paused here: if it runs "
                "nowhere else, let it go on with virsh resume\n",
                name ? name : uuid);
}

/* What was had back is said; of what was not, the first reason is the command's error. */
static gboolean
say_adopted(VrCli *cli, JsonNode *answer, GError **error)
{
    g_autoptr(GPtrArray) entries = vr_cli_json_objects(answer);
    gboolean ok = TRUE;

    for (guint i = 0; i < entries->len; i++) {
        JsonObject *entry = g_ptr_array_index(entries, i);
        JsonObject *failure = vr_cli_json_member(entry, "error");

        if (!failure)
            say_had_back(cli, entry);
        else if (ok)
            g_propagate_error(error, vr_error_from_json_object(failure));
        ok = ok && !failure;
    }
    if (entries->len == 0)
        vr_cli_say(cli, "Nothing to adopt");
    return ok;
}

static gboolean
store_adopt(VrCli *cli, const char *name, const char *domain, GError **error)
{
    g_autofree char *path = vr_cli_path("stores", name, "adopt", NULL);
    g_autoptr(JsonNode) answer = NULL;
    JsonObject *body = json_object_new();

    vr_cli_json_set(body, "domain", domain);
    if (!vr_cli_request(cli, "POST", path, body, &answer, error) ||
        !say_adopted(cli, answer, error))
        return FALSE;
    if (cli->json)
        vr_cli_json_print(cli->out, answer);
    return TRUE;
}

static gboolean
store_drop(VrCli *cli, const char *name, const char *domain, GError **error)
{
    g_autofree char *path = vr_cli_path("stores", name, "drop", NULL);
    JsonObject *body = json_object_new();

    vr_cli_json_set(body, "domain", domain);
    if (!vr_cli_do(cli, "POST", path, body, error))
        return FALSE;
    vr_cli_say(cli, "Replica '%s' removed from store '%s'", domain, name);
    return TRUE;
}

gboolean
vr_cli_store_scan(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *name = vr_cli_args_text(args, "name");
    const char *domain = vr_cli_args_text(args, "adopt");
    const char *uuid = vr_cli_args_text(args, "drop");
    gboolean all = vr_cli_args_flag(args, "adopt-all");

    if ((domain != NULL) + (uuid != NULL) + all > 1) {
        vr_set_error(error, VR_ERROR_INVALID, "usage", "Give one of them.",
                     "--adopt, --adopt-all and --drop exclude each other");
        return FALSE;
    }
    if (domain != NULL || all)
        return store_adopt(cli, name, domain, error);
    return uuid != NULL ? store_drop(cli, name, uuid, error) : store_list_found(cli, name, error);
}

gboolean
vr_cli_store_undefine(VrCli *cli, const VrCliArgs *args, GError **error)
{
    const char *name = vr_cli_args_text(args, "name");
    g_autofree char *path = vr_cli_path("stores", name, NULL);

    if (!vr_cli_do(cli, "DELETE", path, NULL, error))
        return FALSE;
    vr_cli_say(cli, "Store '%s' undefined", name);
    return TRUE;
}

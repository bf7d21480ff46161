/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "plugin/api/api.h"
#include "plugin/check.h"
#include "plugin/cycle/replicate.h"
#include "plugin/policy_watch.h"
#include "plugin/store_adopt.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "policies/network_map.h"
#include "qmp/domain/domain_ops.h"
#include "storage/wire/error_json.h"
#include "storage/util/json_util.h"

/* More than a network's name can have: vr_network_map_check() says which one is none. */
#define NETWORK_TEXT_MAX 4096

static gboolean
policy_list(const VrHttpRequest *request G_GNUC_UNUSED, VrHttpReply *reply, gpointer data,
            GError **error G_GNUC_UNUSED)
{
    VrApp *app = data;
    g_auto(GStrv) names = vr_policy_files_list(app->policies);
    JsonArray *array = json_array_new();

    for (guint i = 0; names[i] != NULL; i++) {
        g_autoptr(GError) broken = NULL;
        g_autoptr(VrPolicy) policy = vr_policy_files_get(app->policies, names[i], &broken);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "name", names[i]);
        json_object_set_boolean_member(object, "builtin",
                                       !vr_policy_files_has_file(app->policies, names[i]));
        if (policy != NULL) {
            json_object_set_double_member(object, "interval_seconds",
                                          (double) policy->interval_us / G_USEC_PER_SEC);
            json_object_set_double_member(object, "rpo_target_seconds",
                                          (double) policy->rpo_target_us / G_USEC_PER_SEC);
        } else {
            json_object_set_string_member(object, "error", broken->message);
        }
        json_array_add_object_element(array, object);
    }
    vr_api_reply_array(reply, array);
    return TRUE;
}

static gboolean
policy_dump(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    const char *name = vr_http_request_param(request, "name");
    g_autoptr(VrPolicy) policy = vr_policy_files_get(app->policies, name, error);
    g_autofree char *text = NULL;
    JsonObject *object;

    if (policy == NULL)
        return FALSE;
    text = vr_policy_to_text(policy);
    object = json_object_new();
    json_object_set_string_member(object, "name", name);
    json_object_set_string_member(object, "text", text);
    vr_api_reply(reply, 200, object);
    return TRUE;
}

static gboolean
policy_define(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
              GError **error)
{
    VrApp *app = data;
    const char *name = vr_http_request_param(request, "name");
    JsonObject *body = vr_http_request_object(request, error);
    const char *text = body ? vr_json_string(body, "text", 64 * 1024, error) : NULL;
    const char *file = NULL;

    if (text == NULL || !vr_json_string_opt(body, "file", 4096, &file, error) ||
        !vr_policy_files_put(app->policies, name, file ? file : name, text, error))
        return FALSE;
    vr_policy_take_up(app, name);
    return TRUE;
}

static gboolean
policy_undefine(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
                GError **error)
{
    VrApp *app = data;
    const char *name = vr_http_request_param(request, "name");
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, error);

    if (rows == NULL)
        return FALSE;
    for (guint i = 0; i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        if (row->role != VR_ROLE_SOURCE || strcmp(row->policy, name) != 0 ||
            vr_policy_files_is_builtin(name))
            continue;
        vr_set_error(error, VR_ERROR_REFUSED, "policy-in-use",
                     "Unprotect it first, or change it with policy-define.",
                     "policy '%s' is used by domain '%s'", name, row->name);
        return FALSE;
    }
    if (!vr_policy_files_delete(app->policies, name, error))
        return FALSE;
    vr_policy_take_up(app, name);
    return TRUE;
}

static JsonObject *
store_json(VrApp *app, const VrStoreRow *row)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, NULL);
    JsonObject *object = json_object_new();
    struct statvfs fs = {0};
    guint users = 0;

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VrProtection *protection = g_ptr_array_index(rows, i);

        users += protection->role == VR_ROLE_TARGET && strcmp(protection->store, row->name) == 0;
    }
    (void) statvfs(row->path, &fs);
    json_object_set_string_member(object, "name", row->name);
    json_object_set_string_member(object, "path", row->path);
    json_object_set_int_member(object, "bytes_free",
                               (gint64) ((guint64) fs.f_bavail * fs.f_frsize));
    json_object_set_int_member(object, "bytes_total",
                               (gint64) ((guint64) fs.f_blocks * fs.f_frsize));
    json_object_set_int_member(object, "protections", users);
    return object;
}

static gboolean
store_list(const VrHttpRequest *request G_GNUC_UNUSED, VrHttpReply *reply, gpointer data,
           GError **error)
{
    VrApp *app = data;
    g_autoptr(GPtrArray) rows = vr_state_store_list(app->state, error);
    JsonArray *array;

    if (rows == NULL)
        return FALSE;
    array = json_array_new();
    for (guint i = 0; i < rows->len; i++)
        json_array_add_object_element(array, store_json(app, g_ptr_array_index(rows, i)));
    vr_api_reply_array(reply, array);
    return TRUE;
}

static gboolean
store_info(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    VrStoreRow *row = vr_state_store_get(app->state, vr_http_request_param(request, "name"), error);

    if (row == NULL)
        return FALSE;
    vr_api_reply(reply, 200, store_json(app, row));
    vr_store_row_free(row);
    return TRUE;
}

static gboolean
store_path_fits(VrApp *app, const char *name, const char *path, GError **error)
{
    VrStoreRow *before = vr_state_store_get(app->state, name, NULL);
    gboolean moved = before != NULL && strcmp(before->path, path) != 0;
    struct stat st;

    vr_store_row_free(before);
    if (moved) {
        vr_set_error(error, VR_ERROR_REFUSED, "store-exists",
                     "Use another name, or store-undefine it first.",
                     "store '%s' is defined with another directory", name);
        return FALSE;
    }
    if (path[0] == '/' && stat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
        access(path, W_OK | X_OK) == 0)
        return TRUE;
    vr_set_error(error, VR_ERROR_INVALID, "store-not-writable",
                 "Create the directory or mount its file system.",
                 "store '%s': %s is not a directory that can be written", name, path);
    return FALSE;
}

static gboolean
store_define(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
             GError **error)
{
    VrApp *app = data;
    const char *name = vr_http_request_param(request, "name");
    JsonObject *body = vr_http_request_object(request, error);
    const char *path = body ? vr_json_string(body, "path", 4096, error) : NULL;
    VrStoreRow row = {(char *) name, (char *) path};

    if (path == NULL)
        return FALSE;
    if (!vr_name_valid(name)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-store-name",
                     "Use letters, digits, dots and dashes, at most 63.",
                     "'%s' cannot be the name of a store", name);
        return FALSE;
    }
    return store_path_fits(app, name, path, error) && vr_state_store_put(app->state, &row, error);
}

static gboolean
store_undefine(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
               GError **error)
{
    VrApp *app = data;
    VrStoreRow *row = vr_state_store_get(app->state, vr_http_request_param(request, "name"), error);
    gboolean ok = row != NULL && vr_state_store_delete(app->state, row->name, error);

    vr_store_row_free(row);
    return ok;
}

static gboolean
store_scan(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    VrStoreRow *row = vr_state_store_get(app->state, vr_http_request_param(request, "name"), error);
    JsonArray *array = row ? vr_store_findings(app, row, error) : NULL;

    vr_store_row_free(row);
    if (array == NULL)
        return FALSE;
    vr_api_reply_array(reply, array);
    return TRUE;
}

static JsonObject *
adopted_object(const VrStoreAdopted *adopted)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "uuid", adopted->uuid);
    if (adopted->name != NULL)
        json_object_set_string_member(object, "name", adopted->name);
    json_object_set_boolean_member(object, "was_known", adopted->was_known);
    if (adopted->is_paused)
        json_object_set_boolean_member(object, "paused", TRUE);
    return object;
}

/* Each by itself: one that cannot be had back holds up no other. */
static JsonArray *
adopt_all(VrApp *app, const VrStoreRow *row, GError **error)
{
    g_autoptr(JsonArray) found = vr_store_findings(app, row, error);
    JsonArray *array = found ? json_array_new() : NULL;

    for (guint i = 0; found != NULL && i < json_array_get_length(found); i++) {
        JsonObject *entry = json_array_get_object_element(found, i);
        const char *uuid = json_object_get_string_member(entry, "uuid");
        const char *state = json_object_get_string_member(entry, "state");
        g_auto(VrStoreAdopted) adopted = {0};
        g_autoptr(GError) local = NULL;
        JsonObject *object;

        if (!g_str_equal(state, "orphaned") && !g_str_equal(state, "newer"))
            continue;
        if (vr_store_adopt(app, row, uuid, &adopted, &local)) {
            json_array_add_object_element(array, adopted_object(&adopted));
            continue;
        }
        object = json_object_new();
        json_object_set_string_member(object, "uuid", uuid);
        json_object_set_object_member(object, "error", vr_error_to_json_object(local));
        json_array_add_object_element(array, object);
    }
    return array;
}

static JsonArray *
adopt_one(VrApp *app, const VrStoreRow *row, const char *domain, GError **error)
{
    g_auto(VrStoreAdopted) adopted = {0};
    JsonArray *array;

    if (!vr_store_adopt(app, row, domain, &adopted, error))
        return NULL;
    array = json_array_new();
    json_array_add_object_element(array, adopted_object(&adopted));
    return array;
}

/* {"domain": name or UUID}, or {} for all. */
static gboolean
store_adopt(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    JsonObject *body = vr_http_request_object(request, error);
    const char *domain = NULL;
    VrStoreRow *row;
    JsonArray *array;

    if (body == NULL || !vr_json_string_opt(body, "domain", VR_API_NAME_MAX, &domain, error))
        return FALSE;
    row = vr_state_store_get(app->state, vr_http_request_param(request, "name"), error);
    if (row == NULL)
        return FALSE;
    array = domain ? adopt_one(app, row, domain, error) : adopt_all(app, row, error);
    vr_store_row_free(row);
    if (array == NULL)
        return FALSE;
    vr_api_reply_array(reply, array);
    return TRUE;
}

static gboolean
store_drop(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
           GError **error)
{
    VrApp *app = data;
    JsonObject *body = vr_http_request_object(request, error);
    const char *domain = body ? vr_json_string(body, "domain", VR_API_NAME_MAX, error) : NULL;
    VrStoreRow *row =
        domain ? vr_state_store_get(app->state, vr_http_request_param(request, "name"), error)
               : NULL;
    gboolean ok = row != NULL && vr_store_drop(app, row, domain, error);

    vr_store_row_free(row);
    return ok;
}

static gboolean
netmap_list(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    const char *name = vr_http_request_query(request, "peer");
    g_autoptr(VrPeer) peer = name ? vr_state_peer_get(app->state, name, error) : NULL;
    g_autoptr(GPtrArray) rows = NULL;
    JsonArray *array;

    if (name != NULL && peer == NULL)
        return FALSE;
    rows = vr_state_netmap_list(app->state, peer ? peer->fingerprint : NULL, error);
    if (rows == NULL)
        return FALSE;
    array = json_array_new();
    for (guint i = 0; i < rows->len; i++) {
        const VrNetmapRow *row = g_ptr_array_index(rows, i);
        g_autoptr(VrPeer) owner = vr_state_peer_get(app->state, row->peer, NULL);
        JsonObject *object = json_object_new();

        json_object_set_string_member(object, "peer", owner ? owner->name : row->peer);
        json_object_set_string_member(object, "source", row->source);
        json_object_set_string_member(object, "target", row->target);
        if (row->test != NULL)
            json_object_set_string_member(object, "test", row->test);
        else
            json_object_set_null_member(object, "test");
        json_array_add_object_element(array, object);
    }
    vr_api_reply_array(reply, array);
    return TRUE;
}

/* A map set here can be meant for the domains of this host or for the peer's, and does not offer
 * anything: if it can be meant for the peer's, say what is missing. */
static void
warn_not_offered(VrApp *app, const VrPeer *peer, const char *source, const char *target,
                 VrFindings *findings)
{
    g_auto(GStrv) offered = vr_state_peer_networks(app->state, peer->fingerprint, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *list = NULL;
    g_autofree char *word = NULL;
    g_autofree char *action = NULL;
    gboolean exists = FALSE, active;

    if (offered == NULL || g_strv_contains((const char *const *) offered, target) ||
        !vr_dom_network_exists(app->conn, target, &exists, &active, NULL) || !exists)
        return;
    for (char **name = offered; *name != NULL; name++)
        g_ptr_array_add(names, *name);
    g_ptr_array_add(names, (gpointer) target);
    g_ptr_array_add(names, NULL);
    list = vr_network_list_format((const char *const *) names->pdata);
    word = vr_shell_word(list);
    action =
        g_strdup_printf("If it should: virt-replica peer-set %s --networks %s", peer->name, word);
    vr_findings_add(findings, VR_FINDING_WARNING, "network-not-offered", action,
                    "host '%s' does not offer its network '%s' to host '%s', so no replica of "
                    "there with network '%s' can be attached to it",
                    app->config->name, target, peer->name, source);
}

static gboolean
netmap_set(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    JsonObject *body = vr_http_request_object(request, error);
    const char *name = body ? vr_json_string(body, "peer", VR_API_NAME_MAX, error) : NULL;
    const char *source = name ? vr_json_string(body, "source", NETWORK_TEXT_MAX, error) : NULL;
    const char *target = source ? vr_json_string(body, "target", NETWORK_TEXT_MAX, error) : NULL;
    const char *test = NULL;
    g_autoptr(VrPeer) peer = NULL;
    g_autoptr(VrFindings) findings = NULL;
    JsonObject *object;

    if (target == NULL || !vr_json_string_opt(body, "test", NETWORK_TEXT_MAX, &test, error))
        return FALSE;
    peer = vr_state_peer_get(app->state, name, error);
    if (peer == NULL || !vr_network_map_check(source, target, test, error))
        return FALSE;
    if (!vr_state_netmap_put(
            app->state,
            &(VrNetmapRow){peer->fingerprint, (char *) source, (char *) target, (char *) test},
            error))
        return FALSE;
    findings = vr_findings_new();
    warn_not_offered(app, peer, source, target, findings);
    object = json_object_new();
    json_object_set_array_member(object, "warnings", vr_findings_to_json(findings));
    vr_api_reply(reply, 200, object);
    return TRUE;
}

static gboolean
netmap_unset(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
             GError **error)
{
    VrApp *app = data;
    const char *name = vr_http_request_query(request, "peer");
    const char *source = vr_http_request_query(request, "source");
    g_autoptr(VrPeer) peer = NULL;

    if (name == NULL || source == NULL) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-query", NULL, "peer and source must be given");
        return FALSE;
    }
    peer = vr_state_peer_get(app->state, name, error);
    return peer != NULL && vr_state_netmap_delete(app->state, peer->fingerprint, source, error);
}

const VrHttpRoute vr_api_settings_routes[] = {
    {"GET", "/v1/policies", policy_list, VR_HTTP_BODY_NONE},
    {"GET", "/v1/policies/{name}", policy_dump, VR_HTTP_BODY_NONE},
    {"PUT", "/v1/policies/{name}", policy_define, VR_HTTP_BODY_JSON},
    {"DELETE", "/v1/policies/{name}", policy_undefine, VR_HTTP_BODY_NONE},
    {"GET", "/v1/stores", store_list, VR_HTTP_BODY_NONE},
    {"GET", "/v1/stores/{name}", store_info, VR_HTTP_BODY_NONE},
    {"PUT", "/v1/stores/{name}", store_define, VR_HTTP_BODY_JSON},
    {"DELETE", "/v1/stores/{name}", store_undefine, VR_HTTP_BODY_NONE},
    {"GET", "/v1/stores/{name}/scan", store_scan, VR_HTTP_BODY_NONE},
    {"POST", "/v1/stores/{name}/adopt", store_adopt, VR_HTTP_BODY_JSON},
    {"POST", "/v1/stores/{name}/drop", store_drop, VR_HTTP_BODY_JSON},
    {"GET", "/v1/netmaps", netmap_list, VR_HTTP_BODY_NONE},
    {"PUT", "/v1/netmaps", netmap_set, VR_HTTP_BODY_JSON},
    {"DELETE", "/v1/netmaps", netmap_unset, VR_HTTP_BODY_NONE},
};
const guint vr_n_api_settings_routes = G_N_ELEMENTS(vr_api_settings_routes);

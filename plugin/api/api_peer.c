/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/api/api.h"
#include "plugin/check.h"
#include "plugin/local_address.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "policies/network_map.h"
#include "qmp/domain/domain_ops.h"
#include "storage/util/file_util.h"
#include "storage/util/json_util.h"
#include "storage/wire/token.h"

/* More than a token can have: which text is none is said by its parser. */
#define TOKEN_MAX 16384
#define DOMAINS_SHOWN 3u /* of those that keep a peer from being removed */

#define INVITE_DEFAULT_SECONDS 3600
#define INVITE_MAX_SECONDS (7 * 24 * 3600)
#define GRACE_MAX_SECONDS (365 * 24 * 3600)

static JsonArray *
networks_json(const char *const *names)
{
    JsonArray *array = json_array_new();

    for (; *names; names++)
        json_array_add_string_element(array, *names);
    return array;
}

/* The list behind "networks", or NULL if there is none. (transfer full) */
static gboolean
read_networks(JsonObject *body, char ***ret, GError **error)
{
    JsonNode *node = json_object_get_member(body, "networks");
    JsonArray *array = vr_json_as_array(node);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    *ret = NULL;
    if (node == NULL)
        return TRUE;
    for (guint i = 0; array != NULL && i < json_array_get_length(array); i++) {
        JsonNode *element = json_array_get_element(array, i);

        if (!JSON_NODE_HOLDS_VALUE(element) || json_node_get_value_type(element) != G_TYPE_STRING)
            array = NULL;
        else
            g_ptr_array_add(names, json_node_dup_string(element));
    }
    if (array == NULL) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-message", NULL,
                     "'networks' is not a list of names");
        return FALSE;
    }
    g_ptr_array_add(names, NULL);
    if (!vr_network_list_check((const char *const *) names->pdata, error))
        return FALSE;
    *ret = (char **) g_ptr_array_steal(names, NULL);
    return TRUE;
}

/* What of @networks this host does not have: perhaps not yet. @networks: nullable */
static void
set_warnings(VrApp *app, const char *const *networks, JsonObject *object)
{
    g_autoptr(VrFindings) findings = vr_findings_new();

    for (; networks && *networks; networks++) {
        gboolean exists = TRUE, active;

        if (vr_dom_network_exists(app->conn, *networks, &exists, &active, NULL) && !exists)
            vr_findings_add(findings, VR_FINDING_WARNING, "network-missing",
                            "See 'virsh net-list --all'.",
                            "host '%s' offers network '%s', which it does not have",
                            app->config->name, *networks);
    }
    json_object_set_array_member(object, "warnings", vr_findings_to_json(findings));
}

/* Reachable is asked now, so that nobody reads yesterday's answer. */
static JsonObject *
peer_json(VrApp *app, const VrPeer *row)
{
    VrPeerClient *client = vr_peer_pool_get(app->peers, row->fingerprint, NULL);
    gboolean reachable = client && vr_peer_client_hello(client, NULL, NULL, NULL);
    gint64 seen = row->last_seen_us;
    JsonObject *object = json_object_new();

    if (reachable && vr_peer_contact_heard(app->contact, row->fingerprint))
        (void) vr_state_peer_seen(app->state, row->fingerprint, g_get_real_time(), NULL);
    seen = MAX(seen, vr_peer_contact_heard_us(app->contact, row->fingerprint));
    json_object_set_string_member(object, "name", row->name);
    json_object_set_string_member(object, "address", row->address);
    json_object_set_string_member(object, "fingerprint", row->fingerprint);
    json_object_set_boolean_member(object, "reachable", reachable);
    vr_api_set_time(object, "last_seen", seen);
    return object;
}

/* The same and what it may have here. NULL on error. */
static JsonObject *
peer_details(VrApp *app, const char *peer, GError **error)
{
    g_autoptr(VrPeer) row = vr_state_peer_get(app->state, peer, error);
    g_auto(GStrv) networks =
        row ? vr_state_peer_networks(app->state, row->fingerprint, error) : NULL;
    guint protections = 0;
    guint64 used = 0;
    JsonObject *object;

    if (networks == NULL ||
        !vr_peer_quota_usage(app->quota, row->fingerprint, &protections, &used, error))
        return NULL;
    object = peer_json(app, row);
    json_object_set_array_member(object, "networks", networks_json((const char *const *) networks));
    json_object_set_int_member(object, "protections", protections);
    json_object_set_int_member(object, "used_bytes", (gint64) used);
    json_object_set_int_member(object, "quota_bytes", (gint64) row->quota_bytes);
    json_object_set_int_member(object, "max_protections", row->max_protections);
    json_object_set_int_member(object, "delete_grace_seconds",
                               row->delete_grace_us / G_USEC_PER_SEC);
    return object;
}

static gboolean
peer_list(const VrHttpRequest *request G_GNUC_UNUSED, VrHttpReply *reply, gpointer data,
          GError **error)
{
    VrApp *app = data;
    g_autoptr(GPtrArray) rows = vr_state_peer_list(app->state, error);
    JsonArray *array;

    if (rows == NULL)
        return FALSE;
    array = json_array_new();
    for (guint i = 0; i < rows->len; i++)
        json_array_add_object_element(array, peer_json(app, g_ptr_array_index(rows, i)));
    vr_api_reply_array(reply, array);
    return TRUE;
}

static gboolean
peer_info(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    JsonObject *object = peer_details(data, vr_http_request_param(request, "peer"), error);

    if (object == NULL)
        return FALSE;
    vr_api_reply(reply, 200, object);
    return TRUE;
}

/* What a request of peer-set says; the rest stays as it is. */
typedef struct {
    char **networks; /* owned, nullable */
    gboolean has_quota, has_max, has_grace;
    guint64 quota_bytes, max_protections, grace_seconds;
} Settings;

static void
settings_clear(Settings *self)
{
    g_strfreev(self->networks);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Settings, settings_clear)

static gboolean
read_number(JsonObject *body, const char *key, gboolean *ret_there, guint64 *ret, GError **error)
{
    *ret_there = json_object_has_member(body, key);
    return !*ret_there || vr_json_uint(body, key, G_MAXINT64, ret, error);
}

static gboolean
read_settings(JsonObject *body, Settings *self, GError **error)
{
    if (!read_networks(body, &self->networks, error) ||
        !read_number(body, "quota_bytes", &self->has_quota, &self->quota_bytes, error) ||
        !read_number(body, "max_protections", &self->has_max, &self->max_protections, error) ||
        !read_number(body, "delete_grace_seconds", &self->has_grace, &self->grace_seconds, error))
        return FALSE;
    if (self->has_max &&
        (self->max_protections == 0 || self->max_protections > VR_PEER_PROTECTIONS_MAX)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-max-protections",
                     "Choose a number from 1 to 500.",
                     "a peer cannot have %" G_GUINT64_FORMAT " protections", self->max_protections);
        return FALSE;
    }
    if (self->has_grace && self->grace_seconds > GRACE_MAX_SECONDS) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-delete-grace", "Choose a time up to 365d.",
                     "a replica cannot be kept for %" G_GUINT64_FORMAT " seconds",
                     self->grace_seconds);
        return FALSE;
    }
    if (self->networks || self->has_quota || self->has_max || self->has_grace)
        return TRUE;
    vr_set_error(error, VR_ERROR_INVALID, "nothing-to-set",
                 "See 'virt-replica help peer-set' for what can be set.",
                 "nothing is to be set for the peer");
    return FALSE;
}

static gboolean
store_settings(VrState *state, const char *peer, const Settings *self, GError **error)
{
    return (!self->networks ||
            vr_state_peer_set_networks(state, peer, (const char *const *) self->networks, error)) &&
           (!self->has_quota || vr_state_peer_set_quota(state, peer, self->quota_bytes, error)) &&
           (!self->has_max ||
            vr_state_peer_set_max_protections(state, peer, (guint) self->max_protections, error)) &&
           (!self->has_grace ||
            vr_state_peer_set_delete_grace(state, peer,
                                           (gint64) self->grace_seconds * G_USEC_PER_SEC, error));
}

static gboolean
peer_set(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    JsonObject *body = vr_http_request_object(request, error);
    g_auto(Settings) settings = {0};
    g_autoptr(VrPeer) row = NULL;
    JsonObject *object;

    if (body == NULL || !read_settings(body, &settings, error))
        return FALSE;
    row = vr_state_peer_get(app->state, vr_http_request_param(request, "peer"), error);
    if (row == NULL || !vr_state_begin(app->state, error))
        return FALSE;
    if (!store_settings(app->state, row->fingerprint, &settings, error)) {
        vr_state_rollback(app->state);
        return FALSE;
    }
    if (!vr_state_commit(app->state, error))
        return FALSE;
    object = peer_details(app, row->fingerprint, error);
    if (object == NULL)
        return FALSE;
    set_warnings(app, (const char *const *) settings.networks, object);
    vr_api_reply(reply, 200, object);
    return TRUE;
}

/* "'a', 'b'": the first few of the domains shared with it. (transfer full) */
static char *
shared_domains(VrApp *app, const char *fingerprint)
{
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, NULL);
    GString *names = g_string_new(NULL);
    guint n = 0;

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VrProtection *row = g_ptr_array_index(rows, i);

        if (strcmp(row->peer, fingerprint) != 0 || ++n > DOMAINS_SHOWN)
            continue;
        g_string_append_printf(names, "%s'%s'", n > 1 ? ", " : "", row->name);
    }
    if (n > DOMAINS_SHOWN)
        g_string_append_printf(names, " and %u more", n - DOMAINS_SHOWN);
    return g_string_free(names, FALSE);
}

static gboolean
peer_remove(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
            GError **error)
{
    VrApp *app = data;
    g_autoptr(VrPeer) row =
        vr_state_peer_get(app->state, vr_http_request_param(request, "peer"), error);
    g_autoptr(GError) local = NULL;
    g_autofree char *names = NULL;
    g_autofree char *action = NULL;

    if (row == NULL)
        return FALSE;
    if (vr_state_peer_delete(app->state, row->fingerprint, &local))
        return TRUE;
    if (g_str_equal(vr_error_slug(local), "peer-in-use")) {
        names = shared_domains(app, row->fingerprint);
        action = g_strdup_printf("Unprotect them first. If that host is gone for good: "
                                 "'virt-replica peer-remove %s --force'.",
                                 row->name);
        vr_set_error(error, VR_ERROR_REFUSED, "peer-in-use", action,
                     "peer '%s' still has protections: %s", row->name, names);
    } else {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    return FALSE;
}

static gboolean
peer_invite(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    JsonObject *body = vr_http_request_object(request, error);
    const char *name = NULL;
    guint64 seconds = INVITE_DEFAULT_SECONDS;
    g_autofree char *address = NULL;
    g_autofree char *hash = NULL;
    g_autofree char *text = NULL;
    g_auto(GStrv) networks = NULL;
    g_autoptr(VrToken) token = NULL;
    JsonObject *object;

    if (body == NULL || !vr_json_string_opt(body, "name", VR_API_NAME_MAX, &name, error) ||
        !read_networks(body, &networks, error) ||
        (json_object_has_member(body, "expires_seconds") &&
         !vr_json_uint(body, "expires_seconds", G_MAXINT64, &seconds, error)))
        return FALSE;
    if (seconds == 0 || seconds > INVITE_MAX_SECONDS) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-expiry", "Choose a time from 1s to 7d.",
                     "a token cannot be good for %" G_GUINT64_FORMAT " seconds", seconds);
        return FALSE;
    }
    if (name != NULL && !vr_name_valid(name)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-peer-name",
                     "Use letters, digits, dots and dashes, at most 63.",
                     "'%s' cannot be the name of a peer", name);
        return FALSE;
    }
    address = vr_local_address(app->config, error);
    if (address == NULL)
        return FALSE;
    token = vr_token_new(app->config->name, vr_identity_fingerprint(app->identity),
                         (const char *const[]){address, NULL},
                         g_get_real_time() + (gint64) seconds * G_USEC_PER_SEC);
    hash = vr_sha256_hex(token->secret, strlen(token->secret));
    if (!vr_state_invite_add(app->state, hash, name, (const char *const *) networks,
                             token->expires_us, error))
        return FALSE;
    text = vr_token_to_string(token);
    object = json_object_new();
    json_object_set_string_member(object, "token", text);
    vr_api_set_time(object, "expires", token->expires_us);
    set_warnings(app, (const char *const *) networks, object);
    vr_api_reply(reply, 200, object);
    return TRUE;
}

/* @networks: nullable */
static gboolean
pin(VrApp *app, const VrToken *token, const char *name, const char *address,
    const char *const *networks, GError **error)
{
    VrPeer row = {
        .fingerprint = token->fingerprint,
        .name = (char *) name,
        .address = (char *) address,
        .added_us = g_get_real_time(),
        .last_seen_us = g_get_real_time(),
    };

    if (!vr_state_begin(app->state, error))
        return FALSE;
    if (vr_state_peer_put(app->state, &row, error) &&
        (!networks || vr_state_peer_set_networks(app->state, row.fingerprint, networks, error)))
        return vr_state_commit(app->state, error);
    vr_state_rollback(app->state);
    return FALSE;
}

/* A name that is taken must be found out before the token is used up. */
static gboolean
name_is_free(VrApp *app, const char *name, const char *fingerprint, GError **error)
{
    g_autoptr(VrPeer) row = NULL;

    if (!vr_name_valid(name)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-peer-name",
                     "Use letters, digits, dots and dashes, at most 63.",
                     "'%s' cannot be the name of a peer", name);
        return FALSE;
    }
    row = vr_state_peer_get(app->state, name, NULL);
    if (row == NULL || strcmp(row->fingerprint, fingerprint) == 0)
        return TRUE;
    vr_set_error(error, VR_ERROR_REFUSED, "peer-name-taken",
                 "Choose another with --name, or remove that peer.",
                 "there is another peer named '%s'", name);
    return FALSE;
}

static gboolean
peer_join(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrApp *app = data;
    JsonObject *body = vr_http_request_object(request, error);
    const char *text = body ? vr_json_string(body, "token", TOKEN_MAX, error) : NULL;
    const char *wanted = NULL;
    g_autoptr(VrToken) token = text ? vr_token_parse(text, error) : NULL;
    g_autofree char *name = NULL;
    g_autofree char *address = NULL;
    g_autofree char *ours = NULL;
    g_auto(GStrv) networks = NULL;
    JsonObject *object;

    if (token == NULL || !read_networks(body, &networks, error) ||
        !vr_json_string_opt(body, "name", VR_API_NAME_MAX, &wanted, error) ||
        !name_is_free(app, wanted ? wanted : token->name, token->fingerprint, error))
        return FALSE;
    if (strcmp(token->fingerprint, vr_identity_fingerprint(app->identity)) == 0) {
        vr_set_error(error, VR_ERROR_INVALID, "own-token", "Use it on the other host.",
                     "this token was made on this host");
        return FALSE;
    }
    ours = vr_local_address(app->config, error);
    if (ours == NULL ||
        !vr_peer_join(token, app->config->name, ours, vr_identity_fingerprint(app->identity),
                      vr_identity_cert_path(app->identity), vr_identity_key_path(app->identity),
                      &name, &address, vr_http_request_cancel(request), error) ||
        !pin(app, token, wanted ? wanted : name, address, (const char *const *) networks, error))
        return FALSE;
    object = peer_details(app, token->fingerprint, error);
    if (object == NULL)
        return FALSE;
    set_warnings(app, (const char *const *) networks, object);
    vr_api_reply(reply, 200, object);
    return TRUE;
}

const VrHttpRoute vr_api_peer_routes[] = {
    {"GET", "/v1/peers", peer_list, VR_HTTP_BODY_NONE},
    {"POST", "/v1/peers/invite", peer_invite, VR_HTTP_BODY_JSON},
    {"POST", "/v1/peers/join", peer_join, VR_HTTP_BODY_JSON},
    {"GET", "/v1/peers/{peer}", peer_info, VR_HTTP_BODY_NONE},
    {"PUT", "/v1/peers/{peer}", peer_set, VR_HTTP_BODY_JSON},
    {"DELETE", "/v1/peers/{peer}", peer_remove, VR_HTTP_BODY_NONE},
};
const guint vr_n_api_peer_routes = G_N_ELEMENTS(vr_api_peer_routes);

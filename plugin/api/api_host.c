/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <string.h>

#include "plugin/api/api.h"
#include "plugin/local_address.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "storage/file_util.h"
#include "storage/json_util.h"
#include "storage/token.h"

/* More than a token can have: which text is none is said by its parser. */
#define TOKEN_MAX 16384

#define FENCE_FRESH_US (3 * G_TIME_SPAN_SECOND)
#define FENCE_WAIT_MS 15000 /* one that is not active starts a QEMU, on a busy host */

#define INVITE_DEFAULT_SECONDS 3600
#define INVITE_MAX_SECONDS (7 * 24 * 3600)

static char *
version_text(gulong version)
{
    return g_strdup_printf("%lu.%lu.%lu", version / 1000000, version / 1000 % 1000, version % 1000);
}

static JsonObject *
libvirt_json(VrApp *app)
{
    g_autofree char *libvirt = version_text(vr_conn_libvirt_version(app->conn));
    g_autofree char *qemu = version_text(vr_conn_qemu_version(app->conn));
    g_autoptr(GError) error = NULL;
    virConnectPtr vir = vr_conn_ref(app->conn, &error);
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "uri", vr_conn_uri(app->conn));
    json_object_set_boolean_member(object, "connected", vir != NULL);
    json_object_set_string_member(object, "version", libvirt);
    json_object_set_string_member(object, "qemu_version", qemu);
    if (vir != NULL)
        vr_conn_unref(app->conn, vir);
    return object;
}

static void
add_finding(JsonArray *findings, const char *code, const char *message, const char *action)
{
    JsonObject *object = json_object_new();

    json_object_set_string_member(object, "code", code);
    json_object_set_string_member(object, "message", message);
    json_object_set_string_member(object, "action", action);
    json_array_add_object_element(findings, object);
}

/* Proven now, unless somebody has asked just before. A libvirt that hangs does not hold this up. */
static void
set_fence(VrApp *app, JsonObject *object)
{
    g_auto(VrFenceStatus) fence = {0};
    g_autoptr(GPtrArray) notes = vr_fence_notes(app->fence);
    JsonArray *findings = json_array_new();

    vr_fence_prove(app->fence, app->conn, FENCE_FRESH_US, FENCE_WAIT_MS);
    vr_fence_status(app->fence, &fence);
    json_object_set_string_member(object, "fence", vr_fence_state_name(fence.state));
    vr_api_set_time(object, "fence_checked", fence.checked_us);
    if (fence.message != NULL)
        add_finding(findings, fence.state == VR_FENCE_INACTIVE ? "fence-inactive" : "fence-unknown",
                    fence.message, fence.action);
    for (guint i = 0; i < notes->len; i++) {
        const VrFenceNote *note = g_ptr_array_index(notes, i);

        add_finding(findings, "fence-record", note->message, note->action);
    }
    json_object_set_array_member(object, "findings", findings);
}

static gboolean
status(const VrHttpRequest *request G_GNUC_UNUSED, VrHttpReply *reply, gpointer data,
       GError **error)
{
    VrApp *app = data;
    g_autoptr(GPtrArray) rows = vr_state_protection_list(app->state, error);
    g_autofree char *address = vr_local_address(app->config, NULL);
    JsonObject *object;

    if (rows == NULL)
        return FALSE;
    object = json_object_new();
    json_object_set_string_member(object, "version", VR_VERSION);
    json_object_set_string_member(object, "name", app->config->name);
    json_object_set_string_member(object, "fingerprint", vr_identity_fingerprint(app->identity));
    json_object_set_string_member(object, "address", address ? address : app->config->listen);
    json_object_set_object_member(object, "libvirt", libvirt_json(app));
    set_fence(app, object);
    json_object_set_int_member(object, "protections", rows->len);
    json_object_set_int_member(object, "jobs_running", vr_jobs_count(app->jobs));
    json_object_set_double_member(object, "uptime_seconds",
                                  (double) (g_get_monotonic_time() - app->started_us) /
                                      G_USEC_PER_SEC);
    vr_api_reply(reply, 200, object);
    return TRUE;
}

/* Reachable is asked now, so that nobody reads yesterday's answer. */
static JsonObject *
peer_json(VrApp *app, const VrPeer *row)
{
    VrPeerClient *client = vr_peer_pool_get(app->peers, row->fingerprint, NULL);
    gboolean reachable = client && vr_peer_client_hello(client, NULL, NULL, NULL);
    gint64 seen = row->last_seen_us;
    JsonObject *object = json_object_new();

    if (reachable) {
        seen = g_get_real_time();
        (void) vr_state_peer_seen(app->state, row->fingerprint, seen, NULL);
    }
    json_object_set_string_member(object, "name", row->name);
    json_object_set_string_member(object, "address", row->address);
    json_object_set_string_member(object, "fingerprint", row->fingerprint);
    json_object_set_boolean_member(object, "reachable", reachable);
    vr_api_set_time(object, "last_seen", seen);
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
    VrApp *app = data;
    g_autoptr(VrPeer) row =
        vr_state_peer_get(app->state, vr_http_request_param(request, "peer"), error);

    if (row == NULL)
        return FALSE;
    vr_api_reply(reply, 200, peer_json(app, row));
    return TRUE;
}

static gboolean
peer_remove(const VrHttpRequest *request, VrHttpReply *reply G_GNUC_UNUSED, gpointer data,
            GError **error)
{
    VrApp *app = data;
    g_autoptr(VrPeer) row =
        vr_state_peer_get(app->state, vr_http_request_param(request, "peer"), error);

    if (row == NULL)
        return FALSE;
    if (vr_state_peer_delete(app->state, row->fingerprint, error))
        return TRUE;
    g_prefix_error(error, "'%s': ", row->name);
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
    g_autoptr(VrToken) token = NULL;
    JsonObject *object;

    if (body == NULL || !vr_json_string_opt(body, "name", VR_API_NAME_MAX, &name, error) ||
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
    if (!vr_state_invite_add(app->state, hash, name, token->expires_us, error))
        return FALSE;
    text = vr_token_to_string(token);
    object = json_object_new();
    json_object_set_string_member(object, "token", text);
    vr_api_set_time(object, "expires", token->expires_us);
    vr_api_reply(reply, 200, object);
    return TRUE;
}

static gboolean
pin(VrApp *app, const VrToken *token, const char *name, const char *address, GError **error)
{
    VrPeer row = {
        .fingerprint = token->fingerprint,
        .name = (char *) name,
        .address = (char *) address,
        .added_us = g_get_real_time(),
        .last_seen_us = g_get_real_time(),
    };

    return vr_state_peer_put(app->state, &row, error);
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
    g_autoptr(VrPeer) row = NULL;

    if (token == NULL || !vr_json_string_opt(body, "name", VR_API_NAME_MAX, &wanted, error) ||
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
        !pin(app, token, wanted ? wanted : name, address, error))
        return FALSE;
    row = vr_state_peer_get(app->state, token->fingerprint, error);
    if (row == NULL)
        return FALSE;
    vr_api_reply(reply, 200, peer_json(app, row));
    return TRUE;
}

const VrHttpRoute vr_api_host_routes[] = {
    {"GET", "/v1/status", status, VR_HTTP_BODY_NONE},
    {"GET", "/v1/peers", peer_list, VR_HTTP_BODY_NONE},
    {"POST", "/v1/peers/invite", peer_invite, VR_HTTP_BODY_JSON},
    {"POST", "/v1/peers/join", peer_join, VR_HTTP_BODY_JSON},
    {"GET", "/v1/peers/{peer}", peer_info, VR_HTTP_BODY_NONE},
    {"DELETE", "/v1/peers/{peer}", peer_remove, VR_HTTP_BODY_NONE},
};
const guint vr_n_api_host_routes = G_N_ELEMENTS(vr_api_host_routes);

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* JSON routes that the daemon's own functions answer, after the checks of who may ask. */
#include <string.h>

#include "plugin/peer/peer_server_private.h"
#include "policies/error.h"

#define ACTION_MAX 32

static gboolean
answer(VrHttpReply *reply, JsonNode *node)
{
    if (!node)
        return FALSE;
    vr_http_reply_json(reply, 200, node);
    return TRUE;
}

/* Absent or an object. */
static gboolean
check_request(const VrHttpRequest *request, GError **error)
{
    return !vr_http_request_json(request) || vr_http_request_object(request, error);
}

static gboolean
handle_check(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrPeerServer *self = data;

    return check_request(request, error) &&
           answer(reply, self->ops->check(self->data, vr_http_request_peer(request),
                                          vr_http_request_json(request), error));
}

/* No row is fine for those who make or delete it. @ret_missing: there is none. */
static gboolean
may_change(VrPeerServer *self, const VrHttpRequest *request, gboolean *ret_missing, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(VrProtection) row = vr_peer_route_protection(self, request, FALSE, &local);

    *ret_missing = g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND);
    if (row || *ret_missing)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean
handle_put(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrPeerServer *self = data;
    gboolean missing;

    return check_request(request, error) && may_change(self, request, &missing, error) &&
           answer(reply, self->ops->protection_put(self->data, vr_http_request_peer(request),
                                                   vr_http_request_param(request, "uuid"),
                                                   vr_http_request_json(request), error));
}

static gboolean
handle_delete(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrPeerServer *self = data;
    gboolean missing;

    if (!may_change(self, request, &missing, error))
        return FALSE;
    if (missing)
        return answer(reply, vr_peer_route_empty());
    return answer(reply,
                  self->ops->protection_delete(self->data, vr_http_request_peer(request),
                                               vr_http_request_param(request, "uuid"),
                                               vr_http_request_query_flag(request, "keep"), error));
}

static gboolean
handle_action(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrPeerServer *self = data;
    const char *action = vr_http_request_param(request, "action");
    g_autoptr(VrProtection) row = NULL;

    if (strlen(action) > ACTION_MAX ||
        strspn(action, "abcdefghijklmnopqrstuvwxyz-") != strlen(action)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-action", NULL,
                     "the path does not name an action");
        return FALSE;
    }
    if (!check_request(request, error))
        return FALSE;
    row = vr_peer_route_protection(self, request, FALSE, error);
    return row && answer(reply, self->ops->action(self->data, row->peer, row->uuid, action,
                                                  vr_http_request_json(request), error));
}

static gboolean
handle_job(const VrHttpRequest *request, VrHttpReply *reply, gpointer data, GError **error)
{
    VrPeerServer *self = data;
    gint64 id;

    if (!g_ascii_string_to_signed(vr_http_request_param(request, "id"), 10, 1, G_MAXINT64, &id,
                                  NULL)) {
        vr_set_error(error, VR_ERROR_INVALID, "bad-job", NULL, "the path does not name a job");
        return FALSE;
    }
    return answer(reply, self->ops->job(self->data, vr_http_request_peer(request), id, error));
}

void
vr_peer_routes_protection(VrHttpServer *http, VrPeerServer *self)
{
    static const VrHttpRoute routes[] = {
        {"POST", "/v1/peer/check", handle_check, VR_HTTP_BODY_JSON, 0, FALSE},
        {"PUT", "/v1/peer/protections/{uuid}", handle_put, VR_HTTP_BODY_JSON, 0, FALSE},
        {"DELETE", "/v1/peer/protections/{uuid}", handle_delete, VR_HTTP_BODY_NONE, 0, FALSE},
        {"POST", "/v1/peer/protections/{uuid}/action/{action}", handle_action, VR_HTTP_BODY_JSON, 0,
         FALSE},
        {"GET", "/v1/peer/jobs/{id}", handle_job, VR_HTTP_BODY_NONE, 0, FALSE},
    };

    vr_http_server_add_routes(http, routes, G_N_ELEMENTS(routes), self);
}

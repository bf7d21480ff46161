/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "plugin/peer/peer_server.h"

#include "plugin/log.h"
#include "plugin/peer/peer_server_private.h"
#include "policies/error.h"
#include "policies/ids.h"
#include "storage/state/state_peer.h"
#include "storage/util/json_util.h"

/* How often "last seen" is written for one peer: each write is a synced transaction. */
#define SEEN_INTERVAL_US (60 * G_USEC_PER_SEC)

VrPeerServer *
vr_peer_server_new(VrState *state, const VrIdentity *identity, const char *name,
                   const VrPeerServerOps *ops, gpointer data)
{
    VrPeerServer *self = g_new0(VrPeerServer, 1);

    self->state = state;
    self->identity = identity;
    self->name = g_strdup(name);
    self->ops = ops;
    self->data = data;
    self->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_mutex_init(&self->lock);
    self->join_limit = vr_join_limit_new();
    return self;
}

void
vr_peer_server_free(VrPeerServer *self)
{
    if (!self)
        return;
    vr_http_server_free(self->http);
    g_hash_table_unref(self->seen);
    g_mutex_clear(&self->lock);
    vr_join_limit_free(self->join_limit);
    g_free(self->name);
    g_free(self);
}

guint16
vr_peer_server_port(const VrPeerServer *self)
{
    return vr_http_server_port(self->http);
}

static gboolean
is_due(VrPeerServer *self, const char *fingerprint)
{
    gint64 now_us = g_get_monotonic_time();
    gint64 *last;
    gboolean due;

    g_mutex_lock(&self->lock);
    last = g_hash_table_lookup(self->seen, fingerprint);
    due = !last || now_us - *last >= SEEN_INTERVAL_US;
    if (due) {
        last = g_new(gint64, 1);
        *last = now_us;
        g_hash_table_insert(self->seen, g_strdup(fingerprint), last);
    }
    g_mutex_unlock(&self->lock);
    return due;
}

static gboolean
authorise(const VrHttpRequest *request, gpointer data, GError **error)
{
    VrPeerServer *self = data;
    const char *fingerprint = vr_http_request_peer(request);
    g_autoptr(GError) local = NULL;
    g_autoptr(VrPeer) peer = vr_state_peer_get(self->state, fingerprint, &local);

    if (g_error_matches(local, VR_ERROR, VR_ERROR_NOT_FOUND)) {
        vr_set_error(error, VR_ERROR_AUTH, "peer-unknown",
                     "Pair the two hosts with 'virt-replica peer-invite' and 'peer-join'.",
                     "host '%s' does not know the key of this client", self->name);
        return FALSE;
    }
    if (!peer) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    vr_log_of_peer(fingerprint);
    if (is_due(self, fingerprint) &&
        !vr_state_peer_seen(self->state, fingerprint, g_get_real_time(), &local))
        g_warning("cannot note that peer '%s' was seen: %s, ignoring", peer->name, local->message);
    return TRUE;
}

gboolean
vr_peer_server_start(VrPeerServer *self, const char *listen, guint connections, GError **error)
{
    self->http = vr_http_server_new_tls(listen, self->identity, error);
    if (!self->http)
        return FALSE;
    vr_http_server_set_authorise(self->http, authorise, self);
    vr_http_server_set_peer_connections(self->http, connections);
    vr_peer_routes_join(self->http, self);
    vr_peer_routes_protection(self->http, self);
    vr_peer_routes_cycle(self->http, self);
    return vr_http_server_start(self->http, error);
}

static const char *
route_uuid(const VrHttpRequest *request, GError **error)
{
    const char *uuid = vr_http_request_param(request, "uuid");

    if (vr_uuid_valid(uuid))
        return uuid;
    vr_set_error(error, VR_ERROR_INVALID, "bad-uuid", NULL,
                 "the path does not name a domain's UUID");
    return NULL;
}

VrProtection *
vr_peer_route_protection(VrPeerServer *self, const VrHttpRequest *request, gboolean target,
                         GError **error)
{
    const char *uuid = route_uuid(request, error);
    g_autoptr(VrProtection) row = uuid ? vr_state_protection_get(self->state, uuid, error) : NULL;

    if (!row)
        return NULL;
    if (g_strcmp0(row->peer, vr_http_request_peer(request)) != 0) {
        vr_set_error(error, VR_ERROR_AUTH, "not-your-protection", NULL,
                     "the protection of domain %s belongs to another peer", uuid);
        return NULL;
    }
    if (target && row->role != VR_ROLE_TARGET) {
        vr_set_error(error, VR_ERROR_REFUSED, "not-the-target",
                     "Compare 'virt-replica info' on both hosts.",
                     "host '%s' is not the target of domain '%s'", self->name, row->name);
        return NULL;
    }
    return g_steal_pointer(&row);
}

JsonNode *
vr_peer_route_empty(void)
{
    return vr_json_node(json_object_new());
}

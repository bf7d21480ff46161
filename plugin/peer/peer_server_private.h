/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "plugin/http/http_server.h"
#include "plugin/peer/join_limit.h"
#include "plugin/peer/peer_server.h"
#include "storage/state/state_protection.h"

G_BEGIN_DECLS

/** SECTION: between peer_server.c and the route tables of peer_routes_*.c. The routes' data is the
 * VrPeerServer. */

struct _VrPeerServer {
    VrState *state;             /* borrowed */
    const VrIdentity *identity; /* borrowed */
    char *name;                 /* owned */
    const VrPeerServerOps *ops; /* borrowed */
    gpointer data;              /* borrowed: of @ops */
    VrHttpServer *http;         /* owned */
    VrJoinLimit *join_limit;    /* owned */
    GMutex lock;                /* guards seen */
    GHashTable *
        seen; /* owned; fingerprint -> monotonic time (gint64 *) of the last note in the database */
};

void vr_peer_routes_join(VrHttpServer *http, VrPeerServer *self);
void vr_peer_routes_protection(VrHttpServer *http, VrPeerServer *self);
void vr_peer_routes_cycle(VrHttpServer *http, VrPeerServer *self);

/**
 * The row of "{uuid}", which names the asking peer. @target: our role must be target.
 * Errors: INVALID, NOT_FOUND "no-such-protection", AUTH "not-your-protection", REFUSED
 * "not-the-target".
 */
VrProtection *vr_peer_route_protection(VrPeerServer *self, const VrHttpRequest *request,
                                       gboolean target, GError **error);

/** An object with nothing in it. (transfer full) */
JsonNode *vr_peer_route_empty(void);

G_END_DECLS

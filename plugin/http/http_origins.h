/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/socket.h>

G_BEGIN_DECLS

/**
 * SECTION: where connections come from: how many each address has at the gate, and from which ones
 * a paired peer came lately.
 *
 * An origin is an IPv4 address or an IPv6 /64 network. Those of peers are remembered in a bounded
 * table: at most VR_HTTP_ORIGINS_PER_PEER of one peer, VR_HTTP_ORIGINS_KNOWN of all; the one that
 * was not used for longest is forgotten. The caller locks.
 */
typedef struct _VrHttpOrigins VrHttpOrigins;

#define VR_HTTP_ORIGINS_KNOWN 1024u
#define VR_HTTP_ORIGINS_PER_PEER 8u

typedef enum {
    VR_HTTP_PLACE_WAITING,
    VR_HTTP_PLACE_SHAKING,
    VR_HTTP_PLACE_RESERVED, /* a handshake too, in a place that only known origins may take */
    VR_HTTP_PLACES,
} VrHttpPlace;

typedef struct {
    guint64 key;
    guint users;                 /* gets without a put */
    guint count[VR_HTTP_PLACES]; /* the caller's: its connections */
    gboolean known;              /* a peer came from there lately */
} VrHttpOrigin;

VrHttpOrigins *vr_http_origins_new(void);
/** After all were put. */
void vr_http_origins_free(VrHttpOrigins *self);
/** The origin of @address; valid until it is put as often. */
VrHttpOrigin *vr_http_origins_get(VrHttpOrigins *self, const struct sockaddr_storage *address);
void vr_http_origins_put(VrHttpOrigins *self, VrHttpOrigin *origin);
/** @peer, which is paired, comes from @address. */
void vr_http_origins_know(VrHttpOrigins *self, const struct sockaddr_storage *address,
                          const char *peer);

G_END_DECLS

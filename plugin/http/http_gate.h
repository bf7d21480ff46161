/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <glib.h>
#include <sys/socket.h>

G_BEGIN_DECLS

/**
 * SECTION: who may come in: accepts TCP connections and keeps those that nobody knows yet few.
 *
 * A connection waits at the gate until its first byte arrives, for VR_HTTP_GATE_DEADLINE_US at the
 * most; then for its turn, VR_HTTP_GATE_QUEUE_US at the most, which is longer than it takes with
 * all places taken; then it is passed to the server for its handshake. A request of a known key
 * makes it one of that peer's, and must come within VR_HTTP_GATE_DEADLINE_US from its turn. Until
 * then it shares VR_HTTP_GATE_WAITING places and VR_HTTP_GATE_SHAKING handshakes with all other
 * unknown ones, evenly between the addresses they come from (IPv6: /64 networks): the address that
 * has most loses its oldest, silent ones first. So whoever says something at once gets a turn,
 * however many others say nothing.
 *
 * Addresses from which a peer came lately (http_origins.h) are known: VR_HTTP_GATE_RESERVED of the
 * handshakes are theirs alone, and up to VR_HTTP_GATE_SPARED of such an address that wait do not
 * make room for connections of others. So a peer gets in at once, however many strangers from
 * however many addresses wait. A stranger who shares its address can use up what is kept for it,
 * and no more than that.
 */
typedef struct _VrHttpGate VrHttpGate;
/** One connection that was passed. */
typedef struct _VrHttpVisit VrHttpVisit;

#define VR_HTTP_GATE_WAITING 512u
#define VR_HTTP_GATE_SHAKING 32u
#define VR_HTTP_GATE_RESERVED 4u /* of VR_HTTP_GATE_SHAKING */
#define VR_HTTP_GATE_SPARED 8u
#define VR_HTTP_GATE_DEADLINE_US (5 * G_USEC_PER_SEC)
#define VR_HTTP_GATE_QUEUE_US (15 * G_USEC_PER_SEC)

/** Takes over @fd. Called in the gate's thread. */
typedef void (*VrHttpGatePass)(int fd, const struct sockaddr *address, socklen_t len,
                               gpointer data);

/** @listen_fd: (transfer full): listening. @per_peer: connections of one peer. */
VrHttpGate *vr_http_gate_new(int listen_fd, guint per_peer);
/** Begins to accept. */
void vr_http_gate_start(VrHttpGate *self, VrHttpGatePass pass, gpointer data);
/** Passes none any more; what was passed is the server's to end. */
void vr_http_gate_stop(VrHttpGate *self);
/** After the server has ended every connection. */
void vr_http_gate_free(VrHttpGate *self);

/* By the server, in any thread. */
/** It has begun with the connection @fd. NULL: its time is over, and @fd was shut down. */
VrHttpVisit *vr_http_gate_enter(VrHttpGate *self, int fd);
/**
 * A request on it was authorised as one of @peer. Harmless when repeated: each one keeps its
 * address among the known ones.
 *
 * If the peer has its number of connections already, the one it has not used for longest is closed.
 * Errors: TRANSIENT "too-many-connections" (all are in use).
 */
gboolean vr_http_gate_know(VrHttpGate *self, VrHttpVisit *visit, const char *peer, GError **error);
/** A request on it begins or ends. */
void vr_http_gate_use(VrHttpGate *self, VrHttpVisit *visit, gboolean used);
/** Before its descriptor is closed. */
void vr_http_gate_leave(VrHttpGate *self, VrHttpVisit *visit);

G_END_DECLS

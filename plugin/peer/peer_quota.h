/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/state/state_protection.h"

G_BEGIN_DECLS

/**
 * SECTION: what a peer may have on this host (peer-set): replicas, and bytes in the stores.
 *
 * Bytes are those of the peer's recovery points, from the database, what its replicas take beside
 * them, and those of the cycles under way, counted as they arrive or before; the database is asked
 * where a cycle begins or ends and before anything is refused, not for each body. What is sent
 * again counts again until its cycle ends. All calls may come from any thread, and none waits while
 * another one asks.
 */
typedef struct _VrPeerQuota VrPeerQuota;

/** What a replica takes beside its recovery points: manifests, attachments, definitions. Asked
 * where a cycle of it begins or ends, and once for the others; by several threads at once. */
typedef guint64 (*VrPeerQuotaRoom)(gpointer data, const VrProtection *row);

/** Disks that the replicas of a peer may have, for each one that it may have; at least as many as
 * one domain may have. */
#define VR_PEER_DISKS_EACH 8u
#define VR_PEER_DISKS_LEAST 64u

/** @state: borrowed, outlives it. @host: name of this host, for messages. @room: nullable. */
VrPeerQuota *vr_peer_quota_new(VrState *state, const char *host, VrPeerQuotaRoom room,
                               gpointer data);
void vr_peer_quota_free(VrPeerQuota *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPeerQuota, vr_peer_quota_free)

/** May @peer have one replica more? Exact inside the transaction that inserts it. REFUSED
 * "too-many-protections". */
gboolean vr_peer_quota_check_new(VrPeerQuota *self, const char *peer, GError **error);
/** May this host have one protection more, whatever its role? REFUSED "too-many-protections". */
gboolean vr_peer_quota_check_host(VrPeerQuota *self, GError **error);

/** For @bytes that come before they can be charged to a cycle. NO_SPACE "quota-exceeded". What was
 * reserved is charged then, or released. */
gboolean vr_peer_quota_reserve(VrPeerQuota *self, const char *peer, guint64 bytes, GError **error);
void vr_peer_quota_release(VrPeerQuota *self, const char *peer, guint64 bytes);
void vr_peer_quota_charge(VrPeerQuota *self, const char *peer, const char *uuid, const char *cycle,
                          guint64 bytes);

/** A cycle with so many @disks is about to begin, before anything of it is made: reserves @bytes.
 * Its disks count until it ends or another one begins. NO_SPACE "quota-exceeded", REFUSED
 * "too-many-disks". */
gboolean vr_peer_quota_prepare(VrPeerQuota *self, const char *peer, const char *uuid, guint disks,
                               guint64 bytes, GError **error);

/** @cycle of @uuid began and holds @held bytes; it takes the place of the one before. NO_SPACE
 * "quota-exceeded": nothing more may come. */
gboolean vr_peer_quota_begin(VrPeerQuota *self, const char *peer, const char *uuid,
                             const char *cycle, guint64 held, GError **error);
/** Before @bytes more are stored for @cycle. NO_SPACE "quota-exceeded". */
gboolean vr_peer_quota_take(VrPeerQuota *self, const char *peer, const char *uuid,
                            const char *cycle, guint64 bytes, GError **error);
/** @cycle was committed or dropped; nothing if it is not the one that began last, so that nobody
 * frees the bytes of one cycle by naming another. */
void vr_peer_quota_end(VrPeerQuota *self, const char *peer, const char *uuid, const char *cycle);

/** What @peer has now. */
gboolean vr_peer_quota_usage(VrPeerQuota *self, const char *peer, guint *ret_protections,
                             guint64 *ret_bytes, GError **error);

G_END_DECLS

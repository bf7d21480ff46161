/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "storage/state/state.h"

G_BEGIN_DECLS

/** SECTION: rows of peers, invitations, network maps and stores. */

typedef struct {
    char *fingerprint; /* 64 hex: SHA-256 of the SubjectPublicKeyInfo; the key of the row */
    char *name;        /* unique, vr_name_valid() */
    char *address;     /* HOST:PORT */
    gint64 added_us;
    gint64 last_seen_us; /* 0: never */

    /* What this host's operator lets it have here. */
    guint64 quota_bytes;    /* of all its replicas together; 0: no limit */
    guint max_protections;  /* replicas; 1 to 500 */
    gint64 delete_grace_us; /* duration: so long a replica is kept that its source gave up */
} VrPeer;

#define VR_PEER_PROTECTIONS_MAX 500

void vr_peer_free(VrPeer *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VrPeer, vr_peer_free)
/** Inserts, or renames and readdresses; the limits of a new one are the defaults, those of a known
 * one stay as they are. Errors: CONFLICT "peer-name-taken": by another key. */
gboolean vr_state_peer_put(VrState *self, const VrPeer *row, GError **error);
VrPeer *vr_state_peer_get(VrState *self, const char *fingerprint_or_name,
                          GError **error); /* NOT_FOUND "no-such-peer" */
GPtrArray *vr_state_peer_list(VrState *self, GError **error);
gboolean vr_state_peer_seen(VrState *self, const char *fingerprint, gint64 now_us, GError **error);
/* Each writes its own column. */
gboolean vr_state_peer_set_quota(VrState *self, const char *fingerprint, guint64 bytes,
                                 GError **error);
/** Disks of each of its replicas here, in the newest recovery point: uuid -> guint. (transfer full)
 */
GHashTable *vr_state_peer_disks(VrState *self, const char *fingerprint, GError **error);
gboolean vr_state_peer_set_max_protections(VrState *self, const char *fingerprint, guint number,
                                           GError **error);
gboolean vr_state_peer_set_delete_grace(VrState *self, const char *fingerprint, gint64 grace_us,
                                        GError **error);
/** The networks of this host that are offered to the peer: @names replaces the list. */
gboolean vr_state_peer_set_networks(VrState *self, const char *fingerprint,
                                    const char *const *names, GError **error);
/** Sorted. (transfer full) */
char **vr_state_peer_networks(VrState *self, const char *fingerprint, GError **error);
/** Its replicas here: how many, and the bytes of their recovery points. */
gboolean vr_state_peer_usage(VrState *self, const char *fingerprint, guint *ret_protections,
                             guint64 *ret_bytes, GError **error);
gboolean vr_state_peer_delete(VrState *self, const char *fingerprint,
                              GError **error); /* REFUSED while protections use it */

/** Only a hash of the secret is stored. @name: nullable. @networks: to be offered to the peer that
 * uses it; nullable: it says nothing of them. */
gboolean vr_state_invite_add(VrState *self, const char *secret_sha256, const char *name,
                             const char *const *networks, gint64 expires_us, GError **error);
/** Could it be used now? One read. Errors: those of vr_state_invite_use(). */
gboolean vr_state_invite_check(VrState *self, const char *secret_sha256, gint64 now_us,
                               GError **error);
/** One use: consumes it in the same transaction. AUTH "token-unknown" | "token-used" |
 * "token-expired". @ret_name, @ret_networks: nullable, set as they were given. */
gboolean vr_state_invite_use(VrState *self, const char *secret_sha256, gint64 now_us,
                             char **ret_name, char ***ret_networks, GError **error);

typedef struct {
    char *peer;   /* fingerprint */
    char *source; /* network on the source host */
    char *target; /* network on the target host */
    char *test;   /* nullable */
} VrNetmapRow;
gboolean vr_state_netmap_put(VrState *self, const VrNetmapRow *row, GError **error);
gboolean vr_state_netmap_delete(VrState *self, const char *peer, const char *source,
                                GError **error); /* NOT_FOUND */
GPtrArray *vr_state_netmap_list(VrState *self, const char *peer_or_null, GError **error);

typedef struct {
    char *name;
    char *path; /* absolute */
} VrStoreRow;
void vr_store_row_free(VrStoreRow *self);
gboolean vr_state_store_put(VrState *self, const VrStoreRow *row, GError **error);
VrStoreRow *vr_state_store_get(VrState *self, const char *name,
                               GError **error); /* NOT_FOUND "no-such-store" */
GPtrArray *vr_state_store_list(VrState *self, GError **error);
gboolean vr_state_store_delete(VrState *self, const char *name,
                               GError **error); /* REFUSED while protections use it */

G_END_DECLS
